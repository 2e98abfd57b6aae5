//! Page faults of traced processes, by the stack that touched the memory: where it becomes resident.

use heaptrace_common::{
    event::{Event, kind},
    settings::growth_calls,
};

use crate::{
    events,
    helpers::now_ns,
    maps::{self, setting},
    process, site,
    value::at,
};

/// The current thread faulted at `address` in user mode. Whether the kernel then maps one page or several around it is not
/// known here, so a fault counts as one page.
#[inline(always)]
pub fn faulted(address: u64) {
    let (tgid, _) = process::current();
    let Some(process) = process::find(tgid) else { return };
    let Some(number) = site::of_fault(process) else { return };
    let Some(site) = maps::site(number) else { return };
    let page = u64::from(setting!(page_size));
    at!(site.alloc_bytes).add(page);
    at!(site.alloc_count).add(1);
    if setting!(growth_calls) == growth_calls::FOLLOWED {
        let told = Event {
            kind: kind::FAULT,
            tgid,
            process,
            other: number.wrapping_add(1),
            time_ns: now_ns(),
            address: address & !(page - 1),
            length: page,
            parent_tgid: 0,
            share: 0,
        };
        events::send_quietly(told, process);
    }
}
