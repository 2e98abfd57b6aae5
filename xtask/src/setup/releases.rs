//! C libraries and allocators of Debian's other releases, which `heaptrace inspect` and the probes are tested on:
//! unpacked to `target/releases/SUITE/root`, where the tests look for them.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};

use crate::{repo::Repo, suite::Apt};

/// From the oldest that inspect knows to what is newer than all that is known.
const SUITES: &[&str] = &["bullseye", "bookworm", "trixie", "sid"];

/// A library has other packages in other suites, or none: of each row the suite's first one is taken.
const PACKAGES: &[&[&str]] = &[
    &["libc6"],
    &["libjemalloc2"],
    &["libtcmalloc-minimal4t64", "libtcmalloc-minimal4"],
    &["libmimalloc3", "libmimalloc2.0"],
    &["musl"],
    // What the allocators are linked with.
    &["libstdc++6"],
    &["libgcc-s1"],
];

/// A line for each row of the table: the package that is there, or [`NONE`] and the names that were looked for.
/// Written last.
const MARK: &str = "unpacked";

const NONE: &str = "none of";

/// Fetches what is not there yet, and says what a suite does not have. Returns each suite that could not be fetched,
/// with the reason.
pub fn fetch(repo: &Repo) -> Vec<(&'static str, String)> {
    let folder = repo.target().join("releases");
    let mut failed = Vec::new();
    for suite in SUITES {
        match fetch_suite(&folder.join(suite), suite) {
            Ok(there) => {
                for line in there.lines().filter(|line| line.starts_with(NONE)) {
                    eprintln!("{suite} has {line}: tests that need it are not run");
                }
            }
            Err(error) => failed.push((*suite, format!("{error:#}"))),
        }
    }
    failed
}

/// Returns what the mark says.
fn fetch_suite(place: &Path, suite: &str) -> Result<String> {
    let mark = place.join(MARK);
    if let Ok(there) = fs::read_to_string(&mark)
        && is_complete(&there)
    {
        return Ok(there);
    }
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("failed to remove {}", place.display()))?;
    }
    eprintln!("fetching libraries of {suite} to {} (remove that for newer ones)", place.display());
    let apt = Apt::new(place, suite)?;
    apt.update()?;
    let mut there = String::new();
    for names in PACKAGES {
        let mut found = None;
        for name in *names {
            if found.is_none() && apt.has(name)? {
                apt.download(name)?;
                found = Some(*name);
            }
        }
        there += &found.map_or_else(|| line_of_none(names), str::to_owned);
        there.push('\n');
    }
    fs::remove_dir_all(place.join("lists")).context("failed to remove package lists")?;
    fs::write(&mark, &there).with_context(|| format!("failed to write {}", mark.display()))?;
    Ok(there)
}

fn line_of_none(names: &[&str]) -> String {
    format!("{NONE} {}", names.join(", "))
}

/// Whether a mark has an answer to each row of today's table.
fn is_complete(mark: &str) -> bool {
    let answers = |(line, names): (&str, &&[&str])| names.contains(&line) || line == line_of_none(names);
    mark.lines().count() == PACKAGES.len() && mark.lines().zip(PACKAGES).all(answers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_answers_every_row_of_the_table_or_is_outdated() {
        let all: Vec<String> = PACKAGES.iter().map(|names| names[0].to_owned()).collect();
        assert!(is_complete(&all.join("\n")));
        assert!(!is_complete(&all[1..].join("\n")));
        let mut without = all;
        without[3] = line_of_none(PACKAGES[3]);
        assert!(is_complete(&without.join("\n")));
        without[3] = "libmimalloc1".to_owned();
        assert!(!is_complete(&without.join("\n")));
        assert!(!is_complete("libc6 libjemalloc2"));
    }
}
