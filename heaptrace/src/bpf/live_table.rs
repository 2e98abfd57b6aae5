//! The table of live blocks, read while the kernel side writes it. What an entry is: `heaptrace_common::live`.

use super::{
    array::SharedArray,
    syscall::{delete_entries, for_each_entry},
};
use aya::maps::MapData;
use heaptrace_common::live::{self, LiveBlock, LiveKey, LiveLine, WAYS};
use std::{
    io,
    os::fd::AsFd as _,
    sync::atomic::{AtomicU64, Ordering},
};

/// See the module.
pub struct LiveTable {
    lines: SharedArray<LiveLine>,
    /// Blocks that find no place there.
    spill: MapData,
    /// What the lines' times are counted from.
    base_ns: u64,
}

impl LiveTable {
    pub(super) fn new(lines: &MapData, spill: MapData, count: u32, base_ns: u64) -> io::Result<Self> {
        Ok(Self { lines: SharedArray::new(lines, count)?, spill, base_ns })
    }

    /// Hands every live block to `each`. Blocks that come and go meanwhile may or may not be seen.
    pub fn for_each(&self, mut each: impl FnMut(LiveKey, LiveBlock)) -> io::Result<()> {
        for index in 0..self.lines.entries {
            let Some(line) = self.lines.pointer(index) else { break };
            for way in 0..WAYS {
                if let Some((key, block)) = entry(line, way, self.base_ns) {
                    let (process, address) = live::unpacked(key);
                    each(LiveKey { address, process, _pad: 0 }, block);
                }
            }
        }
        for_each_entry(self.spill.fd().as_fd(), 1 << 12, each)
    }

    /// Removes blocks that nobody will free any more. Gives those that were in the map beside the table.
    pub(super) fn remove(&self, blocks: &[LiveKey]) -> io::Result<Vec<LiveKey>> {
        let spilled: Vec<LiveKey> =
            blocks.iter().copied().filter(|block| !self.remove_entry(block)).collect();
        // Counts of their lines stay too high: whoever looks for a block there looks in the map in vain.
        delete_entries(self.spill.fd().as_fd(), &spilled)?;
        Ok(spilled)
    }

    fn remove_entry(&self, block: &LiveKey) -> bool {
        let key = live::key(block.process, block.address);
        if key == 0 {
            return false;
        }
        let Some(line) = self.lines.pointer(live::line(key, self.lines.entries)) else { return false };
        (0..WAYS).any(|way| {
            let at = keys(line, way);
            if at.load(Ordering::Acquire) != key {
                return false;
            }
            // As the kernel side takes one.
            values(line, way).swap(0, Ordering::AcqRel);
            at.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }
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

fn values<'a>(line: *mut LiveLine, way: usize) -> &'a AtomicU64 {
    // SAFETY: as for `keys`.
    unsafe { AtomicU64::from_ptr(&raw mut (*line).values[way]) }
}
