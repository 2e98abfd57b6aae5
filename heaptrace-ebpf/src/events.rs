//! Rare events to userspace: each share has so many waiting.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, BPF_RB_RING_SIZE};
use heaptrace_common::{
    counter::Counter,
    event::{Event, kind},
    record::{NO_PROCESS, phase},
    settings::growth_calls,
};

use crate::{
    helpers::now_ns,
    log::log,
    maps::{CURSORS, EVENTS, count, setting},
    records, share,
    value::{Lookup, at},
};

/// What the kernel puts before each (`BPF_RINGBUF_HDR_SZ`).
const HEADER: u64 = 8;

/// What [`admit`] gives where there is no place.
pub const REFUSED: u32 = u32::MAX;

/// A place in the ring for an event that is about `payer`, a process record; if there is none, about the current process. The
/// share, plus one, that it is taken from; 0 where none is counted. [`REFUSED`], and counted, if the share has too many
/// waiting.
#[inline(always)]
pub fn admit(payer: u32) -> u32 {
    // Nobody is told of what comes after: else who asks to end could be kept from it.
    if records::phase_now() == phase::OVER {
        return REFUSED;
    }
    let mut share = share::of(payer);
    if share == share::NONE {
        share = share::of_current_user();
    }
    let Some(record) = share::record(share) else { return 0 };
    let free =
        EVENTS.query(u64::from(BPF_RB_RING_SIZE)).wrapping_sub(EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)));
    // In this order: what is read was sent before.
    let read = at!(record.events_read).load();
    let sent = at!(record.events_sent).load();
    let Some(cursors) = CURSORS.value(0) else { return REFUSED };
    let room = free / (size_of::<Event>() as u64 + HEADER);
    if !share::may_take(cursors, share, sent.wrapping_sub(read), room) {
        count(Counter::RingFull);
        log!(Counter::RingFull, "process {}: share {} has too many events waiting", share = u64::from(share));
        return REFUSED;
    }
    at!(record.events_sent).add(1);
    share.wrapping_add(1)
}

/// What [`admit`] gave a place found none.
#[inline(always)]
pub fn failed(share: u32) {
    count(Counter::RingFull);
    log!(Counter::RingFull, "process {}: the ring of events is full");
    if let Some(record) = share::record(share.wrapping_sub(1)) {
        at!(record.events_sent).sub(1);
    }
}

/// Sends an event at the cost of `payer`, or counts that there was no room.
#[inline(always)]
pub fn send(event: Event, payer: u32) {
    // The kernel wakes who has read all before: while growth is told without waking, that is seldom so.
    let wakes = if setting!(growth_calls) != growth_calls::SUMMED { BPF_RB_FORCE_WAKEUP } else { 0 };
    send_waking(event, payer, u64::from(wakes));
}

/// The same of what there may be very many of.
#[inline(always)]
pub fn send_quietly(event: Event, payer: u32) {
    send_waking(event, payer, if_it_fills());
}

#[inline(always)]
fn send_waking(event: Event, payer: u32, wakes: u64) {
    let share = admit(payer);
    if share != REFUSED && EVENTS.output::<Event>(&Event { share, ..event }, wakes).is_err() {
        failed(share);
    }
}

/// Waking up takes longer than all the rest. Userspace comes by itself, unless the ring fills before it does.
#[inline(always)]
pub fn if_it_fills() -> u64 {
    let waiting = EVENTS.query(u64::from(BPF_RB_AVAIL_DATA));
    let fills = waiting > EVENTS.query(u64::from(BPF_RB_RING_SIZE)) / 4;
    u64::from(if fills { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP })
}

/// A stack of the current process, of record `process`, ended at the interrupted instruction at `address`.
#[inline(always)]
pub fn tell_interrupted(process: u32, address: u64) {
    let (tgid, _) = records::current();
    let time_ns = now_ns();
    let kind = kind::INTERRUPTED;
    let (other, length) = (NO_PROCESS, 0);
    send(Event { kind, tgid, process, other, time_ns, address, length, parent_tgid: 0, share: 0 }, process);
}
