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
    calls,
    helpers::read_user,
    live,
    maps::count,
    registers::{Registers, UNREADABLE},
    site,
    value::{Value, at},
};
use aya_ebpf::EbpfContext;

/// A probe was hit that a traced process offers. A program of its own: with the others' the verifier would go through the walk twice.
#[inline(always)]
pub fn hit(ctx: &impl EbpfContext) {
    let Some((process, record, probe)) = calls::admitted(ctx) else { return };
    let registers = Registers::of(ctx);
    // Not all zeros, which would be written by a call of memset.
    let mut given = Given { size: 1, ..Given::NOTHING };
    told(process, record, probe, registers, &mut given);
    if given.address != 0 {
        let site = site::of_call(process, given.function, registers.now());
        account::allocated(process, record, site, &given);
    } else {
        account::hit_beside(record);
    }
}

/// The allocator told of a sample. A function of its own, so that what it keeps on the stack is not below the walk.
#[inline(never)]
fn told(
    process: u32,
    record: Value<ProcessRecord>,
    probe: &ProbeRecord,
    registers: Registers,
    given: &mut Given,
) {
    let all = registers.all();
    let address = operand(&all, probe, operand::POINTER);
    if address == 0 {
        return;
    }
    if probe.role == Role::SampleFree as u8 {
        match live::take(process, address) {
            // The hit is counted by who calls.
            Some(block) => account::close_also(record, &block),
            // One from before tracing.
            None => _ = at!(record.unknown_frees).add(1),
        }
        return;
    }
    let size = operand(&all, probe, operand::SIZE);
    let weight = operand(&all, probe, operand::WEIGHT);
    // One that stands for nothing is none.
    if address == UNREADABLE || size == UNREADABLE || weight == UNREADABLE || weight == 0 {
        count(Counter::ResultUnreadable);
        return;
    }
    let marks = own_marks(weight) as u32;
    let interval = LiveBlock { marks, ..LiveBlock::NOTHING }.weight();
    at!(record.own_samples).raise(!interval);
    *given = Given { function: Function::Sampled as u8, marks, size, address };
}

/// [`LiveBlock::marks_of`]. A global function: the verifier would follow each number of rounds of its loop through all that comes
/// after.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn own_marks(weight: u64) -> u64 {
    u64::from(LiveBlock::marks_of(weight))
}

/// An argument; [`UNREADABLE`] if it cannot be read.
#[inline(always)]
fn operand(registers: &[u64; 16], probe: &ProbeRecord, index: usize) -> u64 {
    let Some(of) = probe.own.get(index) else { return UNREADABLE };
    let (how, number) = (of.start, i64::from(of.end) as u64);
    let register = registers[(how & operand::REGISTER_MASK) as usize];
    let width = (how >> operand::WIDTH_SHIFT) as u32;
    let value = if how & operand::REGISTER != 0 {
        register
    } else if how & operand::MEMORY != 0 {
        let at = register.wrapping_add(number);
        // No byte more: there may be nothing behind.
        let value = match width {
            1 => read_user::<u8>(at).map(u64::from),
            2 => read_user::<u16>(at).map(u64::from),
            4 => read_user::<u32>(at).map(u64::from),
            _ => read_user::<u64>(at),
        };
        match value {
            Some(value) => value,
            None => return UNREADABLE,
        }
    } else {
        number
    };
    if width < 8 { value & ((1 << (8 * (width & 7))) - 1) } else { value }
}
