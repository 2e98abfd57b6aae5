//! Whether a process's code is as its files have it: how a test sees breakpoints without asking the tracer.

use anyhow::{Context as _, Result};
use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt as _};

/// Bytes of executable file mappings of `pid` that differ from the file.
///
/// Code has no relocations, so each is a breakpoint or leftover of one.
pub fn changed_bytes(pid: u32) -> Result<usize> {
    Ok(changed_places_in(pid, |_| true)?.len())
}

/// The same in the files whose path, as /proc/PID/maps has it, is `chosen`.
pub fn changed_bytes_in(pid: u32, chosen: impl Fn(&str) -> bool) -> Result<usize> {
    Ok(changed_places_in(pid, chosen)?.len())
}

/// Each file with the changed offset in it.
pub fn changed_places(pid: u32) -> Result<BTreeSet<(String, u64)>> {
    changed_places_in(pid, |_| true)
}

fn changed_places_in(pid: u32, chosen: impl Fn(&str) -> bool) -> Result<BTreeSet<(String, u64)>> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).context("failed to read maps")?;
    let memory = File::open(format!("/proc/{pid}/mem")).context("failed to open mem")?;
    let mut changed = BTreeSet::new();
    for line in maps.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [range, permissions, offset, _, _, path, ..] = fields[..] else { continue };
        if !permissions.contains('x') || !path.starts_with('/') || !chosen(path) {
            continue;
        }
        let (start, end) = range.split_once('-').context("a range has no end")?;
        let (start, end) = (u64::from_str_radix(start, 16)?, u64::from_str_radix(end, 16)?);
        let link = format!("/proc/{pid}/map_files/{start:x}-{end:x}");
        let mut in_memory = vec![0; usize::try_from(end - start)?];
        let mut in_file = vec![0; in_memory.len()];
        memory
            .read_exact_at(&mut in_memory, start)
            .with_context(|| format!("failed to read code of {path}"))?;
        // Not by its path, which leads elsewhere in another namespace, or once the file was replaced.
        let file = File::open(&link).with_context(|| format!("failed to open {link} ({path})"))?;
        // The last page may reach past the end of the file; memory has zeroes there.
        let mut at = 0;
        let offset = u64::from_str_radix(offset, 16)?;
        while let n @ 1.. = file.read_at(&mut in_file[at..], offset + at as u64)? {
            at += n;
        }
        let differ = in_memory.iter().zip(&in_file).enumerate().filter(|(_, (memory, file))| memory != file);
        changed.extend(differ.map(|(at, _)| (path.to_owned(), offset + at as u64)));
    }
    Ok(changed)
}
