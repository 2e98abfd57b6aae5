//! Packages of PyPI, unpacked to `target/pypi` for the tests, which decode in them what heaptrace writes. Wheels alone: nothing of a
//! package is run.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::repo::Repo;

/// OpenTelemetry's messages as classes, and what these are made with.
const PACKAGES: [&str; 2] = ["opentelemetry-proto==1.45.2", "protobuf==7.36.2"];

/// Written last.
const SIGN: &str = "opentelemetry_proto-1.45.2.dist-info/METADATA";

/// Fetches what is not there yet: 2 s, and 3 MB on disk.
///
/// # Errors
/// When there is no pip, or it cannot fetch a package; the tests that need it are then not run.
pub fn fetch(repo: &Repo) -> Result<()> {
    let folder = repo.target().join("pypi");
    if folder.join(SIGN).is_file() {
        return Ok(());
    }
    let pip = || {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-m", "pip"]);
        python
    };
    if !pip().arg("--version").output().is_ok_and(|output| output.status.success()) {
        bail!("pip is not installed (Debian package: python3-pip)");
    }
    eprintln!("fetching {} to {}", PACKAGES.join(", "), folder.display());
    let fetched = pip()
        .args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--upgrade", "--target"])
        .arg(&folder)
        .args(PACKAGES)
        .output()
        .context("failed to run pip")?;
    let said = String::from_utf8_lossy(&fetched.stderr);
    ensure!(fetched.status.success(), "pip install ended with {}: {}", fetched.status, said.trim());
    Ok(())
}
