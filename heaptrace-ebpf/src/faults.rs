//! Page faults of traced processes, by the stack that touched the memory: where it becomes resident.

use crate::{
    maps::{self, setting},
    process, site,
    value::at,
};

/// The current thread faulted in user mode. Whether the kernel then maps one page or several around it is not known
/// here, so a fault counts as one page.
#[inline(always)]
pub fn faulted() {
    let (tgid, _) = process::current();
    let Some(process) = process::find(tgid) else { return };
    let Some(site) = site::of_fault(process).and_then(maps::site) else { return };
    let page = u64::from(setting!(page_size));
    at!(site.alloc_bytes).add(page);
    at!(site.alloc_count).add(1);
}
