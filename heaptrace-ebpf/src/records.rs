//! The table of process records, who runs, and the phase that tracing is in.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use heaptrace_common::record::{ProcessRecord, phase};

use crate::{
    maps::{PHASE, PROCESSES},
    value::{Lookup, Value},
};

/// Process and thread, as (tgid, tid).
#[inline(always)]
pub fn current() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

#[inline(always)]
pub fn record(index: u32) -> Option<Value<ProcessRecord>> {
    PROCESSES.value(index)
}

#[inline(always)]
pub fn phase_now() -> u64 {
    PHASE.value(0).map_or(phase::BEFORE, Value::load)
}
