//! `heaptrace mark`: a name for this moment, in recordings that run.

use super::marks::{LONGEST, Sent, send};
use crate::printable::{printable, say};
use crate::units::counted;
use anyhow::{Context as _, bail};
use clap::Args;

#[derive(Debug, Args)]
pub struct MarkArgs {
    /// What to call this moment: `report --from NAME` begins there. It begins with a letter, as times do not.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Only in the recording that this heaptrace process makes. By default in all of yours that run.
    #[arg(short, long)]
    pub pid: Option<u32>,
}

/// Runs `heaptrace mark`.
///
/// # Errors
/// If there is no recording to mark.
pub fn run(args: MarkArgs) -> anyhow::Result<()> {
    let MarkArgs { name, pid } = args;
    let Sent { taken, refused } = send(&name, pid).context("failed to mark a recording")?;
    for (who, error) in &refused {
        say(format_args!("{who} did not take the mark: {error}"));
    }
    if taken == 0 && refused.is_empty() {
        let which = pid.map_or_else(
            || "no recording of yours is running".to_owned(),
            |pid| format!("process {pid} makes no recording of yours"),
        );
        bail!(
            "{which} (it has to say that it is tracing first; a recording is marked by the user who makes it)"
        );
    }
    let marked = counted(taken, "recording", "recordings");
    if !refused.is_empty() {
        bail!("marked in {marked} only: the others take nothing at the moment");
    }
    say(format_args!("marked in {marked}"));
    Ok(())
}

/// One that [`super::parts::When`] does not take for a time.
fn parse_name(text: &str) -> Result<String, String> {
    if !text.starts_with(char::is_alphabetic) {
        return Err("expected a name that begins with a letter, as times do not".to_owned());
    }
    if text.len() > LONGEST || printable(text) != text {
        return Err(format!("expected a name of at most {LONGEST} bytes in one line"));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_times_and_one_short_line() {
        assert_eq!(parse_name("after warm-up").as_deref(), Ok("after warm-up"));
        for text in ["", "5", "5s", ".5", "-x", "a\nb", &"x".repeat(101)] {
            assert!(parse_name(text).is_err(), "{text:?}");
        }
    }
}
