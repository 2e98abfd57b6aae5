//! A browser, and what drives it in the tests of the page: Debian's chromium, and playwright-core from npm, which brings no
//! browser of its own, in `target/npm`.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{apt, npm};
use crate::{machine::has_command, repo::Repo};

const PLAYWRIGHT: &str = "playwright-core@1.64.1";

/// Fetches what is not there yet: 27 s and 360 MB on disk for chromium, 2 s for playwright-core.
///
/// # Errors
/// When one of them cannot be had, as on distributions that have no package of this name; the tests that need it are then not
/// run.
pub fn fetch(repo: &Repo) -> Result<()> {
    if !has_command("chromium") {
        apt::install(&["chromium"])?;
    }
    let folder = repo.target().join("npm/playwright-core");
    if folder.join("package/package.json").is_file() {
        return Ok(());
    }
    let archive = npm::fetch(PLAYWRIGHT, &folder)?;
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(&folder)
        .status()
        .context("failed to run tar")?;
    ensure!(unpacked.success(), "failed to unpack {}", archive.display());
    npm::remove(&archive)
}
