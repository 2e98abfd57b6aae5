//! C libraries and jemallocs of Debian's other releases, which `heaptrace inspect` is tested on: unpacked to
//! `target/releases/SUITE/root`, where the tests look for them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{repo::Repo, suite::Apt};

/// The oldest that inspect knows, the newest, and what is newer.
const SUITES: &[&str] = &["bullseye", "trixie", "sid"];

const PACKAGES: &[&str] = &["libc6", "libjemalloc2"];

/// Names the packages that are there; written last.
const MARK: &str = "unpacked";

/// Fetches what is not there yet. Returns each suite that could not be fetched, with the reason.
pub fn fetch(repo: &Repo) -> Vec<(&'static str, String)> {
    let folder = repo.target().join("releases");
    let failed = |suite: &&'static str| fetch_suite(&folder, suite).err().map(|error| (*suite, error));
    SUITES.iter().filter_map(failed).map(|(suite, error)| (suite, format!("{error:#}"))).collect()
}

fn fetch_suite(folder: &Path, suite: &str) -> Result<()> {
    let place = folder.join(suite);
    if fs::read_to_string(place.join(MARK)).is_ok_and(|there| there == PACKAGES.join(" ")) {
        return Ok(());
    }
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("failed to remove {}", place.display()))?;
    }
    eprintln!("fetching libraries of {suite} to {} (remove that for a newer one)", place.display());
    let apt = Apt::new(&place, suite)?;
    apt.update()?;
    PACKAGES.iter().try_for_each(|package| apt.download(package))?;
    fs::remove_dir_all(place.join("lists")).context("failed to remove package lists")?;
    let mark = place.join(MARK);
    fs::write(&mark, PACKAGES.join(" ")).with_context(|| format!("failed to write {}", mark.display()))
}
