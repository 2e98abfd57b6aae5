//! gdb's backtraces: what stacks are compared with.

use crate::programs::{installed, source};
use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, ffi::OsStr, ops::RangeInclusive, path::Path, process::Command};

/// A return address, as a file and an offset in it.
pub type Place = (String, u64);

/// Calls of one function with the same stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Callers {
    /// `malloc`, `calloc` or `realloc`.
    pub function: String,
    /// Innermost first.
    pub frames: Vec<Place>,
}

/// Runs `program` under gdb, and gives the sizes asked for in each malloc, calloc and realloc of a size in `sizes`, by
/// where the call came from.
///
/// # Errors
/// When gdb is missing, fails, or saw no such call.
pub fn calls<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    sizes: RangeInclusive<u64>,
) -> Result<BTreeMap<Callers, Vec<u64>>> {
    let gdb = installed("gdb", &["/usr/bin", "/usr/local/bin"])?;
    let output = Command::new(gdb)
        .args(["-nx", "-batch", "-x"])
        .arg(source("gdb/backtraces.py"))
        .arg("--args")
        .arg(program)
        .args(arguments)
        .env("FROM", sizes.start().to_string())
        .env("TO", sizes.end().to_string())
        .env_remove("LEDGER_GO")
        .output()
        .context("failed to run gdb")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut calls: Vec<(u64, Callers)> = Vec::new();
    for line in text.lines() {
        match (line.split_ascii_whitespace().collect::<Vec<_>>()[..].as_ref(), calls.last_mut()) {
            (["call", function, size], _) => {
                calls.push((size.parse()?, Callers { function: (*function).to_owned(), frames: Vec::new() }));
            }
            (["frame", file, offset], Some((_, callers))) => {
                callers.frames.push(((*file).to_owned(), offset.parse()?));
            }
            _ => {}
        }
    }
    ensure!(!calls.is_empty(), "gdb saw no call\n{text}{}", String::from_utf8_lossy(&output.stderr));
    let mut by_callers: BTreeMap<Callers, Vec<u64>> = BTreeMap::new();
    for (size, callers) in calls {
        by_callers.entry(callers).or_default().push(size);
    }
    Ok(by_callers)
}
