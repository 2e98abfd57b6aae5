//! Benchmarks: every `[[bench]]` target of the workspace, one after the other.

use anyhow::{Result, ensure};

use crate::{repo::Repo, step};

/// # Errors
/// When a benchmark fails, and when there is none: nothing measured is not a success.
pub fn run(repo: &Repo) -> Result<()> {
    let targets = repo.targets("bench")?;
    ensure!(!targets.is_empty(), "the workspace has no benchmark yet");
    for target in targets {
        let mut cargo = repo.cargo();
        cargo.args(["bench", "--package", &target.package, "--bench", &target.name]);
        step::must(&target.name, &mut cargo)?;
    }
    Ok(())
}
