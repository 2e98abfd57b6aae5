//! Every change of a traced process's mappings, told one by one, for `heaptrace watch`.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use heaptrace_common::{
    counter::Counter,
    event::{Event, kind},
    growth::GrowthEvent,
    settings::stack_mode,
};

use crate::{
    maps::{EVENTS, count, setting},
    process, site,
};

/// The current thread, of process record `process`, has made a call; `what` is what is particular to it. Small ones
/// are told of, too: what a later call takes away is known by them.
#[inline(always)]
pub fn tell(process: u32, address: u64, length: u64, what: GrowthEvent) {
    let (tgid, tid) = process::current();
    // No call changes more than the larger of its lengths.
    let large = length >= setting!(watch_min) || what.old_length >= setting!(watch_min);
    let stack = if large && setting!(stack_mode) != stack_mode::NONE {
        site::stack_of_system_call(process)
    } else {
        None
    };
    let (frames_at, frames, end) = stack.unwrap_or((0, 0, 0));
    // Now, so that events are in the ring in the order of their times.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let event = Event {
        kind: kind::GROWTH,
        tgid,
        process,
        other: tid,
        time_ns,
        address,
        length,
        parent_tgid: 0,
        _pad: 0,
    };
    let told = GrowthEvent { event, frames_at, frames, end, has_stack: u8::from(stack.is_some()), ..what };
    if EVENTS.output::<GrowthEvent>(&told, 0).is_err() {
        count(Counter::RingFull);
    }
}
