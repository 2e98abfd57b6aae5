//! /proc/PID/pagemap: what is at each page of a process, and /proc/kpageflags: what the page frames are.

use super::{patience, procfs, system};
use memmap2::MmapMut;
use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

/// The page of x86_64.
pub const PAGE: u64 = 4096;

/// An entry of either is 8 bytes (proc_pid_pagemap(5), proc_kpageflags(5)).
const ENTRY: u64 = 8;

/// Entries that are read at once.
const AT_ONCE: u64 = 8192;

/// What pagemap says of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry(pub u64);

impl Entry {
    /// Bits 0 to 54 of one that is present: the page frame's number; 0 for those without CAP_SYS_ADMIN.
    const FRAME: u64 = (1 << 55) - 1;
    /// Of a file, or shared.
    const FILE: u64 = 1 << 61;
    const SWAPPED: u64 = 1 << 62;
    const PRESENT: u64 = 1 << 63;

    pub fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    pub fn is_swapped(self) -> bool {
        self.0 & Self::SWAPPED != 0
    }

    pub fn is_of_file(self) -> bool {
        self.0 & Self::FILE != 0
    }

    /// If it is present, and the number is told.
    pub fn frame(self) -> Option<u64> {
        let frame = self.0 & Self::FRAME;
        (self.is_present() && frame != 0).then_some(frame)
    }
}

/// The pagemap of a process.
pub struct PageMap {
    file: File,
}

impl PageMap {
    /// # Errors
    /// If it may not be read, or there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { file: procfs::open(pid, "pagemap")? })
    }

    /// Hands the entries of whole pages to `each`, in order.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self, range: &Range<u64>, each: impl FnMut(Entry)) -> io::Result<()> {
        let mut each = each;
        words(&self.file, range.start / PAGE, (range.end - range.start) / PAGE, |entry| each(Entry(entry)))
    }
}

/// The flags of page frames.
pub struct FrameFlags(File);

impl FrameFlags {
    /// `None` if they may not be read, or the kernel does not tell them.
    pub fn open() -> Option<Self> {
        system::open("/proc/kpageflags").ok().map(Self)
    }

    /// Of `count` frames from number `first` on.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self, first: u64, count: u64) -> io::Result<Vec<u64>> {
        let mut flags = Vec::new();
        words(&self.0, first, count, |of| flags.push(of))?;
        Ok(flags)
    }
}

fn words(file: &File, first: u64, count: u64, mut each: impl FnMut(u64)) -> io::Result<()> {
    let mut buffer = vec![0_u8; (count.min(AT_ONCE) * ENTRY) as usize];
    let mut done = 0;
    while done < count {
        let entries = (count - done).min(AT_ONCE);
        let buffer = &mut buffer[..(entries * ENTRY) as usize];
        file.read_exact_at(buffer, (first + done) * ENTRY)?;
        patience::beat();
        buffer.as_chunks::<8>().0.iter().for_each(|entry| each(u64::from_ne_bytes(*entry)));
        done += entries;
    }
    Ok(())
}

/// The frame of the zero page, which is what memory has that was read and never written (by us, too: walking a heap reads
/// beyond its last block). It is present and in no RSS (`smaps_pte_entry`, fs/proc/task_mmu.c).
pub fn zero_frame() -> Option<u64> {
    let page = MmapMut::map_anon(PAGE as usize).ok()?;
    // SAFETY: a byte of a mapping that is alive.
    unsafe { page.as_ptr().read_volatile() };
    let mut frame = None;
    let at = page.as_ptr() as u64 / PAGE * PAGE;
    let own = system::open("/proc/self/pagemap").ok()?;
    PageMap { file: own }.read(&(at..at + PAGE), |entry| frame = entry.frame()).ok()?;
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_touched_are_present() {
        let pages = 20_000;
        let mut memory = MmapMut::map_anon((pages * PAGE) as usize).expect("memory");
        let touched = [3, 4, 9_000, 19_999];
        touched.iter().for_each(|page| memory[(page * PAGE) as usize] = 1);
        let start = memory.as_ptr() as u64;
        let mut present = Vec::new();
        let mut at = 0;
        let own = PageMap::open(std::process::id()).expect("our own");
        let each = |entry: Entry| {
            present.extend(entry.is_present().then_some(at));
            assert!(!entry.is_of_file() || entry.is_present(), "page {at}");
            at += 1;
        };
        own.read(&(start..start + pages * PAGE), each).expect("entries");
        assert_eq!(at, pages);
        // A huge page has more of them.
        assert!(touched.iter().all(|page| present.contains(page)), "{present:?}");
    }
}
