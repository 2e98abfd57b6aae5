//! Schemas that formats' authors publish, which the tests hold what heaptrace writes against: from npm's packages, to
//! `target/schemas`.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::npm;
use crate::repo::Repo;

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
    let (package, file) = SPEEDSCOPE;
    let archive = npm::fetch(package, &folder)?;
    let unpacked =
        Command::new("tar").arg("-xzOf").arg(&archive).arg(file).output().context("failed to run tar")?;
    ensure!(unpacked.status.success(), "{} has no {file}", archive.display());
    fs::write(&schema, unpacked.stdout).with_context(|| format!("failed to write {}", schema.display()))?;
    npm::remove(&archive)
}
