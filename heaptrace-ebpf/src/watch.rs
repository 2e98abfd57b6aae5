//! Every change of a traced process's mappings, told one by one: for `heaptrace watch`, and for who follows what became of them.

use heaptrace_common::{
    event::{Event, kind},
    growth::GrowthEvent,
    settings::{growth_calls, stack_mode},
};

use crate::{
    events,
    helpers::now_ns,
    maps::{EVENTS, setting},
    process, site,
};

/// A call of the current thread that succeeded; the fields are those of [`GrowthEvent`].
pub struct Change {
    pub process: u32,
    pub call: u32,
    pub entered_ns: u64,
    pub flags: u64,
    pub total_before: u64,
    pub total_after: u64,
    pub alone: bool,
    pub site: u32,
    pub address: u64,
    pub length: u64,
    pub old_address: u64,
    pub old_length: u64,
}

/// Small changes are told of, too: what a later call takes away is known by them.
#[inline(always)]
pub fn tell(change: &Change) {
    let (tgid, tid) = process::current();
    // By its lengths, or by what became of them: huge pages are more than was asked for.
    let large = change.length >= setting!(shown_min)
        || change.old_length >= setting!(shown_min)
        || change.total_after.abs_diff(change.total_before) >= setting!(shown_min);
    let is_shown = setting!(growth_calls) == growth_calls::SHOWN;
    let stack = if is_shown && large && setting!(stack_mode) != stack_mode::NONE {
        site::stack_of_system_call(change.process)
    } else {
        None
    };
    let (node, frames, end) = stack.unwrap_or((0, 0, 0));
    let share = events::admit(change.process);
    if share == events::REFUSED {
        return;
    }
    // Made in the ring, not on the stack; and only now, so that events are there in the order of their times.
    let Some(mut told) = EVENTS.reserve::<GrowthEvent>(0) else {
        events::failed(share);
        return;
    };
    told.write(GrowthEvent {
        event: Event {
            kind: kind::GROWTH,
            tgid,
            process: change.process,
            other: tid,
            time_ns: now_ns(),
            address: change.address,
            length: change.length,
            parent_tgid: 0,
            share,
        },
        entered_ns: change.entered_ns,
        old_address: change.old_address,
        old_length: change.old_length,
        flags: change.flags,
        total_before: change.total_before,
        total_after: change.total_after,
        call: change.call,
        stack: node,
        frames,
        end,
        has_stack: u8::from(stack.is_some()),
        alone: u8::from(change.alone),
        site: change.site,
    });
    told.submit(events::if_it_fills());
}
