//! The table of live blocks, read while the kernel side writes it. What an entry is: `heaptrace_common::live`.

use super::{
    array::SharedArray,
    chunks::Chunks,
    syscall::{delete_entries, for_each_entry},
};
use aya::maps::MapData;
use heaptrace_common::live::{self, CHUNK_LINES, LiveBlock, LiveKey, LiveLine, WAYS};
use std::{
    io,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// See the module.
pub struct LiveTable {
    lines: SharedArray<LiveLine>,
    /// By which the table grew.
    grown: Chunks<LiveLine>,
    /// Blocks that find no place there.
    spill: MapData,
    /// What the lines' times are counted from.
    base_ns: u64,
}

impl LiveTable {
    /// `lines`, of which there are `count`, in the beginning; later those of `grown`, too.
    pub(super) fn new(
        lines: &MapData,
        count: u32,
        grown: Chunks<LiveLine>,
        spill: MapData,
        base_ns: u64,
    ) -> io::Result<Self> {
        Ok(Self { lines: SharedArray::new(lines, count)?, grown, spill, base_ns })
    }

    /// Blocks that it has room for now beyond those that it began with.
    pub(super) fn grown_blocks(&self) -> u32 {
        live::blocks_in(self.grown.count())
    }

    /// Hands every live block to `each`. Blocks that come and go meanwhile may or may not be seen, or twice: the block that an
    /// address had, and the one that it has since.
    pub fn for_each(&self, mut each: impl FnMut(LiveKey, LiveBlock)) -> io::Result<()> {
        let first = (0..self.lines.entries).filter_map(|index| self.lines.pointer(index));
        for line in first.chain(self.grown.pointers()) {
            for way in 0..WAYS {
                if let Some((key, block)) = entry(line, way, self.base_ns) {
                    let (process, address) = live::unpacked(key);
                    each(LiveKey { address, process, _pad: 0 }, block);
                }
            }
        }
        for_each_entry(self.spill.fd().as_fd(), 1 << 12, each)
    }

    /// Removes blocks that nobody will free any more.
    pub(super) fn remove(&self, blocks: &[LiveKey]) -> io::Result<Removed> {
        let mut removed = Removed { spilled: Vec::new(), grown: 0 };
        for block in blocks {
            let key = live::key(block.process, block.address);
            let own = if key == 0 { None } else { self.lines.pointer(live::line(key, self.lines.entries)) };
            let Some(own) = own else {
                removed.spilled.push(*block);
                continue;
            };
            if remove_from(own, key).is_some() {
                continue;
            }
            match self.grown_lines(key).find_map(|line| remove_from(line, key)) {
                Some(true) => {
                    removed.grown += 1;
                    elsewhere(own).fetch_sub(1, Ordering::AcqRel);
                }
                // Another has taken it, and counts it.
                Some(false) => {}
                None => removed.spilled.push(*block),
            }
        }
        removed.spilled = delete_entries(self.spill.fd().as_fd(), &removed.spilled)?;
        for block in &removed.spilled {
            let key = live::key(block.process, block.address);
            if key != 0
                && let Some(own) = self.lines.pointer(live::line(key, self.lines.entries))
            {
                elsewhere(own).fetch_sub(1, Ordering::AcqRel);
            }
        }
        Ok(removed)
    }

    /// The lines that a key's block may be in beside its own.
    fn grown_lines(&self, key: u64) -> impl Iterator<Item = *mut LiveLine> + '_ {
        (1..=live::level(self.grown.count())).filter_map(move |level| {
            let (chunk, line) = live::grown_line(key, level);
            self.grown.pointer(chunk * CHUNK_LINES + line)
        })
    }
}

/// Blocks that were removed: those that were in the map beside the table, and how many in what it grew by.
pub(super) struct Removed {
    pub spilled: Vec<LiveKey>,
    pub grown: u64,
}

/// Whether it was we who took the block of `key` out of a line; `None` if it is not there.
fn remove_from(line: *mut LiveLine, key: u64) -> Option<bool> {
    (0..WAYS).find_map(|way| {
        let at = keys(line, way);
        if at.load(Ordering::Acquire) != key {
            return None;
        }
        // As the kernel side takes one.
        let ours = values(line, way).swap(0, Ordering::AcqRel) != 0;
        let _ = at.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed);
        Some(ours)
    })
}

/// An entry's key and block, if there is one.
fn entry(line: *mut LiveLine, way: usize, base_ns: u64) -> Option<(u64, LiveBlock)> {
    let key = keys(line, way).load(Ordering::Acquire);
    if key == 0 {
        return None;
    }
    let packed = values(line, way).load(Ordering::Acquire);
    // SAFETY: within the line.
    let time = unsafe { (&raw const (*line).times[way]).read_volatile() };
    // Being made or taken, or another block's by now.
    let stands = packed != 0 && keys(line, way).load(Ordering::Acquire) == key;
    stands.then(|| (key, live::block(packed, live::time_ns(time, base_ns))))
}

fn keys<'a>(line: *mut LiveLine, way: usize) -> &'a AtomicU64 {
    // SAFETY: within the line, which is mapped as long as the table; all who write it do so by single words.
    unsafe { AtomicU64::from_ptr(&raw mut (*line).keys[way]) }
}

fn elsewhere<'a>(line: *mut LiveLine) -> &'a AtomicU64 {
    // SAFETY: as for `keys`.
    unsafe { AtomicU64::from_ptr(&raw mut (*line).spilled) }
}

fn values<'a>(line: *mut LiveLine, way: usize) -> &'a AtomicU64 {
    // SAFETY: as for `keys`.
    unsafe { AtomicU64::from_ptr(&raw mut (*line).values[way]) }
}
