//! Calls as the kernel side tells of them.

use super::{Call, Kind};
use heaptrace_common::growth::{GrowthEvent, call};

/// include/uapi/linux/mman.h and asm-generic/mman*.h
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_GROWSDOWN: u64 = 0x100;
const MAP_STACK: u64 = 0x2_0000;
const MAP_HUGETLB: u64 = 0x4_0000;
const MREMAP_FIXED: u64 = 2;
const MREMAP_DONTUNMAP: u64 = 4;
const MADV_FREE: u64 = 8;

/// What was done by a call that succeeded; `None` for what is none. `huge_page`: the size of huge pages, where the call does not
/// say.
pub fn call_of(told: &GrowthEvent, huge_page: u64) -> Option<Call> {
    let GrowthEvent { event, old_address, old_length, flags, .. } = *told;
    let (at, length) = (event.address, event.length);
    Some(match told.call {
        call::BRK => Call::Brk { old: old_address, new: at },
        call::MMAP => {
            let (kind, fixed) = (kind_of(flags), flags & MAP_FIXED != 0);
            // ksys_mmap_pgoff, mm/mmap.c: of anonymous ones the length is rounded up.
            let unit = if kind == Kind::HugePages { huge_page_of(flags).unwrap_or(huge_page) } else { 1 };
            Call::Mmap { at, length: length.checked_next_multiple_of(unit)?, kind, fixed }
        }
        call::MUNMAP => Call::Munmap { at, length },
        call::MADVISE => Call::GiveBack { at, length, lazily: flags == MADV_FREE },
        call::MREMAP => Call::Mremap {
            old: old_address,
            old_length,
            new: at,
            length,
            keeps_old: flags & MREMAP_DONTUNMAP != 0 || old_length == 0,
            fixed: flags & MREMAP_FIXED != 0,
        },
        _ => return None,
    })
}

/// The size of huge pages that mmap's flags ask for, by its logarithm (include/uapi/asm-generic/hugetlb_encode.h).
fn huge_page_of(flags: u64) -> Option<u64> {
    let logarithm = flags >> 26 & 63;
    (logarithm != 0).then(|| 1 << logarithm)
}

fn kind_of(flags: u64) -> Kind {
    // The kernel heeds it of anonymous mappings only.
    if flags & MAP_HUGETLB != 0 && flags & MAP_ANONYMOUS != 0 {
        Kind::HugePages
    } else if flags & (MAP_STACK | MAP_GROWSDOWN) != 0 {
        Kind::Stack
    } else if flags & MAP_ANONYMOUS != 0 {
        Kind::Anonymous
    } else {
        Kind::File
    }
}
