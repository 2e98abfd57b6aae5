//! Schemas that formats' authors publish, which the tests hold what heaptrace writes against: from npm's packages, to
//! `target/schemas`. Nothing of a package is installed or run.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{machine::has_command, repo::Repo};

/// A package with its version, and the schema in it.
const SPEEDSCOPE: (&str, &str) = ("speedscope@1.25.0", "package/dist/release/file-format-schema.json");

/// Fetches what is not there yet.
///
/// # Errors
/// When there is no npm, or it cannot fetch the package; the tests that need it are then not run.
pub fn fetch(repo: &Repo) -> Result<()> {
    let folder = repo.target().join("schemas");
    let schema = folder.join("speedscope.json");
    if schema.is_file() {
        return Ok(());
    }
    if !has_command("npm") {
        bail!("npm is not installed (Debian package: npm)");
    }
    fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let (package, file) = SPEEDSCOPE;
    eprintln!("fetching the schema of {package} to {}", folder.display());
    let packed = Command::new("npm")
        .args(["pack", "--silent", package, "--pack-destination"])
        .arg(&folder)
        .output()
        .context("failed to run npm")?;
    let said = String::from_utf8_lossy(&packed.stderr);
    ensure!(packed.status.success(), "npm pack {package} ended with {}: {}", packed.status, said.trim());
    let archive = String::from_utf8_lossy(&packed.stdout).trim().to_owned();
    let archive = folder.join(archive.lines().last().context("npm pack named no file")?);
    let unpacked =
        Command::new("tar").arg("-xzOf").arg(&archive).arg(file).output().context("failed to run tar")?;
    ensure!(unpacked.status.success(), "{} has no {file}", archive.display());
    fs::write(&schema, unpacked.stdout).with_context(|| format!("failed to write {}", schema.display()))?;
    fs::remove_file(&archive).with_context(|| format!("failed to remove {}", archive.display()))
}
