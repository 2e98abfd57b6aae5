//! The failures that the exit code tells apart.

/// Nothing can be traced here: no permission, an unsuitable kernel, no allocator found. Exit code 4.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CannotTrace(pub String);

/// Options that are right each by itself and contradict each other. Exit code 2, as clap's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit code for an error of a command: 4 where the cause is [`CannotTrace`], 2 where it is [`Usage`], else 1.
pub fn exit_code(err: &anyhow::Error) -> u8 {
    if err.chain().any(|cause| cause.is::<CannotTrace>()) {
        4
    } else if err.chain().any(|cause| cause.is::<Usage>()) {
        2
    } else {
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn cannot_trace_is_told_apart_from_a_failure_under_any_context() {
        let err = anyhow::Error::new(CannotTrace("no permission".into()));
        assert_eq!(exit_code(&Err::<(), _>(err).context("failed to attach").expect_err("error")), 4);
        assert_eq!(exit_code(&anyhow::anyhow!("failed to attach: no permission")), 1);
    }
}
