//! Samples that a process's allocator chose itself, and tells of by probes that it offers (USDT): `otel_memory:alloc` and
//! `otel_memory:free`.

use heaptrace_common::{
    counter::Counter,
    function::Function,
    live::LiveBlock,
    probe::{ProbeRecord, Role, operand},
    record::ProcessRecord,
};

use crate::{
    account::{self, Given},
    live,
    maps::count,
    registers::{Registers, UNREADABLE},
    statistics,
    value::{Value, at},
};

/// Whether a probe of this role tells of samples.
#[inline(always)]
pub fn is_told(role: u8) -> bool {
    role == Role::Sample as u8 || role == Role::SampleFree as u8
}

/// The allocator told of a sample. A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
pub fn told(
    process: u32,
    record: Value<ProcessRecord>,
    probe: &ProbeRecord,
    registers: Registers,
    given: &mut Given,
) {
    let address = registers.operand(probe, operand::POINTER);
    if address == 0 {
        return;
    }
    if probe.role == Role::SampleFree as u8 {
        // One from before tracing is not known.
        if let Some(block) = live::take(process, address) {
            account::close(record, &block);
            statistics::freed(process, Function::Sampled as u8, Some(&block));
        }
        return;
    }
    let size = registers.operand(probe, operand::SIZE);
    let weight = registers.operand(probe, operand::WEIGHT);
    // One that stands for nothing is none.
    if address == UNREADABLE || size == UNREADABLE || weight == UNREADABLE || weight == 0 {
        count(Counter::ResultUnreadable);
        return;
    }
    let marks = LiveBlock::marks_of(weight);
    let interval = LiveBlock { marks, ..LiveBlock::NOTHING }.weight();
    at!(record.own_samples).raise(!interval);
    *given = Given { function: Function::Sampled as u8, marks, size, address };
}
