//! Whether a multi link's filter by process covers all of its threads: before 6.10, but for stable
//! kernels that were mended, it compared threads (`uprobe_multi_link_filter`, kernel/trace/bpf_trace.c).

use super::{multi::MultiProgram, site::PlacedSite, syscall::mmapable_array};
use crate::process::procfs;
use memmap2::MmapOptions;
use std::{hint::black_box, io, os::fd::AsRawFd as _, path::Path, process, thread};

/// Probes a function of our own for this process, calls it from another thread, and looks whether the hit was seen.
pub fn covers_threads() -> bool {
    try_from_another_thread().unwrap_or(false)
}

fn try_from_another_thread() -> io::Result<bool> {
    let map = mmapable_array(8, 1)?;
    let seen = MmapOptions::new().len(4096).map_raw(&map)?;
    let program = MultiProgram::from_instructions(&[
        // r1 = the map's word, as two instructions; *(u64 *)r1 = 1; r0 = 0; exit
        (map.as_raw_fd() as u64) << 32 | 0x2118,
        0,
        1 << 32 | 0x017a,
        0xb7,
        0x95,
    ])?;
    let (path, offset) = own_code(probed as *const () as u64).ok_or(io::ErrorKind::NotFound)?;
    let site = PlacedSite { offset, ..PlacedSite::default() };
    let link = program.attach(Path::new(&path), &[site], Some(process::id()))?;
    let called = thread::spawn(|| probed(1)).join();
    drop(link);
    // SAFETY: the mapping is a page, and nothing writes it any more.
    Ok(called.is_ok() && unsafe { seen.as_ptr().cast::<u64>().read_volatile() } == 1)
}

#[inline(never)]
extern "C" fn probed(value: usize) -> usize {
    black_box(value)
}

/// File and offset of code of our own.
pub fn own_code(address: u64) -> Option<(String, u64)> {
    let mappings = procfs::read_maps(process::id()).ok()?;
    let mapping = mappings.iter().find(|mapping| (mapping.start..mapping.end).contains(&address))?;
    Some(("/proc/self/exe".to_owned(), address - mapping.start + mapping.offset))
}
