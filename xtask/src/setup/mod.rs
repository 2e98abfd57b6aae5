//! Finds what a task needs and this machine lacks, and installs it where everyone can see it.
//!
//! Looking costs a few milliseconds, so every task does it first. Nothing is removed, no service is started.

mod apt;
pub mod browser;
mod npm;
pub mod pypi;
pub mod releases;
mod rust;
pub mod schemas;
mod scope;

use std::time::Instant;

use anyhow::Result;

pub use self::scope::Scope;
use crate::{machine::has_command, repo::Repo, step};

/// # Errors
/// When something is missing and cannot be installed; the message says what was tried.
pub fn run(repo: &Repo, scope: Scope) -> Result<()> {
    let start = Instant::now();
    let packages = apt::missing(scope);
    let installed = !packages.is_empty();
    if installed {
        apt::install(&packages)?;
    }
    let installed = rust::bpf_toolchain(repo, scope)? | installed;
    let installed = if scope == Scope::Everything { rust::components(repo)? | installed } else { installed };
    if installed || scope == Scope::Everything {
        let what = if installed { "installed what was missing" } else { "nothing is missing" };
        eprintln!("<== setup: {what} ({:.1} s)", start.elapsed().as_secs_f64());
    }
    Ok(())
}

/// QEMU, to boot other kernels.
pub fn emulator() -> Result<()> {
    if has_command("qemu-system-x86_64") { Ok(()) } else { apt::install(&["qemu-system-x86"]) }
}

/// cargo-deny, which takes minutes to build.
pub fn cargo_deny(repo: &Repo) -> Result<()> {
    if has_cargo_deny(repo) {
        return Ok(());
    }
    step::must("install cargo-deny", repo.cargo().args(["install", "--locked", "cargo-deny"]))
}

/// cargo finds it where PATH may not lead.
pub fn has_cargo_deny(repo: &Repo) -> bool {
    let version = repo.cargo().args(["deny", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}
