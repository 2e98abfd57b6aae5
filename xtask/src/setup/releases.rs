//! The C libraries of Debian's other releases, which `heaptrace inspect` is tested on: unpacked to
//! `target/releases/SUITE/root`, where the tests look for them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{repo::Repo, suite::Apt};

/// The oldest that inspect knows, the newest, and what is newer.
const SUITES: &[&str] = &["bullseye", "trixie", "sid"];

const PACKAGES: &[&str] = &["libc6"];

/// Fetches what is not there yet. Returns each suite that could not be fetched, with the reason.
pub fn fetch(repo: &Repo) -> Vec<(&'static str, String)> {
    let folder = repo.target().join("releases");
    let failed = |suite: &&'static str| fetch_suite(&folder, suite).err().map(|error| (*suite, error));
    SUITES.iter().filter_map(failed).map(|(suite, error)| (suite, format!("{error:#}"))).collect()
}

fn fetch_suite(folder: &Path, suite: &str) -> Result<()> {
    let place = folder.join(suite);
    if place.is_dir() {
        return Ok(());
    }
    // The rename comes last, so what is there is whole.
    let unfinished = folder.join(format!("{suite}.unfinished"));
    let _ = fs::remove_dir_all(&unfinished);
    eprintln!("fetching the C library of {suite} to {} (remove that for a newer one)", place.display());
    let apt = Apt::new(&unfinished, suite)?;
    apt.update()?;
    PACKAGES.iter().try_for_each(|package| apt.download(package))?;
    fs::remove_dir_all(unfinished.join("lists")).context("failed to remove package lists")?;
    fs::rename(&unfinished, &place).with_context(|| format!("failed to create {}", place.display()))
}
