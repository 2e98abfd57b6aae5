//! Builds heaptrace itself, and runs what was built.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{repo::Repo, step};

/// Builds the binary and says where it is.
pub fn run(repo: &Repo, release: bool) -> Result<PathBuf> {
    let mut cargo = repo.cargo();
    cargo.args(["build", "--package", "heaptrace"]);
    if release {
        cargo.arg("--release");
    }
    step::must("build", &mut cargo)?;
    Ok(repo.target().join(if release { "release" } else { "debug" }).join("heaptrace"))
}

/// Becomes the binary: its terminal, signals and exit code are the caller's.
pub fn exec(binary: &Path, args: &[OsString]) -> Result<ExitCode> {
    let mut command = Command::new(binary);
    command.args(args);
    step::announce("run", &command);
    Err(command.exec()).with_context(|| format!("failed to run {}", binary.display()))
}
