//! gdb's backtraces: what stacks are compared with.

use crate::programs::{installed, source};
use anyhow::{Context as _, Result, ensure};
use std::{collections::BTreeMap, ffi::OsStr, ops::RangeInclusive, path::Path, process::Command};

/// A return address, as a file and an offset in it.
pub type Place = (String, u64);

/// Runs `program` under gdb, and gives the callers of each malloc of a size in `sizes`, innermost first, by size.
///
/// # Errors
/// When gdb is missing, fails, or saw no such call.
pub fn callers_of_malloc<A: AsRef<OsStr>>(
    program: &Path,
    arguments: &[A],
    sizes: RangeInclusive<u64>,
) -> Result<BTreeMap<u64, Vec<Place>>> {
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
    let mut callers: BTreeMap<u64, Vec<Place>> = BTreeMap::new();
    let mut size = 0;
    for line in text.lines() {
        match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            ["size", number] => size = number.parse()?,
            ["frame", file, offset] => {
                callers.entry(size).or_default().push((file.to_owned(), offset.parse()?));
            }
            _ => {}
        }
    }
    ensure!(!callers.is_empty(), "gdb saw no call\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(callers)
}
