//! Packages of npm as they are, to folders in `target`. Nothing of a package is installed, and nothing run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::machine::has_command;

/// Fetches the archive of a package, which is named with its version, to `folder`.
pub fn fetch(package: &str, folder: &Path) -> Result<PathBuf> {
    if !has_command("npm") {
        bail!("npm is not installed (Debian package: npm)");
    }
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    eprintln!("fetching {package} to {}", folder.display());
    let packed = Command::new("npm")
        .args(["pack", "--silent", package, "--pack-destination"])
        .arg(folder)
        .output()
        .context("failed to run npm")?;
    let said = String::from_utf8_lossy(&packed.stderr);
    ensure!(packed.status.success(), "npm pack {package} ended with {}: {}", packed.status, said.trim());
    let archive = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    Ok(folder.join(archive.lines().last().context("npm pack named no file")?))
}

pub fn remove(archive: &Path) -> Result<()> {
    fs::remove_file(archive).with_context(|| format!("failed to remove {}", archive.display()))
}
