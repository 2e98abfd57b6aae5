//! Who calls whom: no circles of files or folders in any crate, and no arrow up the layers that ARCHITECTURE.md draws.
//!
//! Read are the paths of every crate of the repository: `use` and what code names in full. Not held to it is test
//! code (`#[cfg(test)]`, `*_tests.rs`, `tests.rs`, `tests/`) and `fuzz.rs`, which name what they try.
//! An arrow leads to the file that defines a name, past the modules that hand it on; a `mod.rs` that declares and
//! re-exports its children therefore knows none of them. A method is reached without a path, so its file is not seen.

mod circles;
mod order;
mod paths;
#[cfg(test)]
mod tests;
mod tree;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use self::tree::{Arrow, Tree};
use crate::repo::Repo;

/// Where there are sources of crates, from the repository's root.
const SOURCES: [&str; 7] = [
    "heaptrace/src",
    "heaptrace/benches/tracing",
    "heaptrace-common/src",
    "heaptrace-ebpf/src",
    "tests/src",
    "tests/judged/src",
    "xtask/src",
];

/// What is wrong, as text; empty where nothing is.
///
/// # Errors
/// When sources or ARCHITECTURE.md cannot be read.
pub fn faults(repo: &Repo) -> Result<Vec<String>> {
    let document =
        fs::read_to_string(repo.root().join("ARCHITECTURE.md")).context("failed to read ARCHITECTURE.md")?;
    let orders = order::read(&document);
    let mut faults = Vec::new();
    if orders.is_empty() {
        faults.push("ARCHITECTURE.md has no layers".to_owned());
    }
    for sources in SOURCES {
        let trees = trees(&repo.root().join(sources))?;
        let mut all: Vec<Arrow> = Vec::new();
        for tree in &trees {
            let arrows = tree.arrows();
            for circle in circles::find(&arrows) {
                faults.push(format!(
                    "{sources}: a circle of {}\n    {}",
                    circle.among.join(", "),
                    circle.arrows.join("\n    ")
                ));
            }
            all.extend(arrows);
        }
        for order in orders.iter().filter(|order| order.sources == sources) {
            let entries = trees.iter().flat_map(Tree::places).filter_map(|place| place.first());
            let broken =
                order.broken_by(&all, entries.map(String::as_str).filter(|entry| *entry != "lib.rs"));
            faults.extend(broken.into_iter().map(|fault| format!("{sources}, layers: {fault}")));
        }
    }
    Ok(faults)
}

/// The library and the programs whose root files lie in one folder.
fn trees(sources: &Path) -> Result<Vec<Tree>> {
    let mut files: Vec<PathBuf> = fs::read_dir(sources)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
        .with_context(|| format!("failed to list {}", sources.display()))?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "rs"));
    // A root is what `fn main` or the name makes one; other files are modules of these.
    files.retain(|path| {
        path.ends_with("lib.rs")
            || path.ends_with("main.rs")
            || fs::read_to_string(path).is_ok_and(|text| text.contains("#![no_main]"))
    });
    files.sort();
    files.iter().map(|root| Tree::read(root, &|path| fs::read_to_string(path).ok())).collect()
}
