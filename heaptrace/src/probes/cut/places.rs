//! Where a probe finds a call's sizes and its result.

use super::backward::Holders;
use super::state::{ARGUMENTS, State, Value};
use heaptrace_common::function::{Shape, resizes};
use heaptrace_common::probe::Place;

/// Whether size and result can be read at once: not where something is freed first.
pub fn is_whole_possible(shape: Shape) -> bool {
    shape.allocates() && shape != Shape::OutPointer && !resizes(shape as u8)
}

/// How far the stack pointer is above the entry's: not at all, in sane code.
pub fn own_frame(state: &State) -> Option<i32> {
    state.stack_pointer().filter(|pointer| *pointer <= 0)
}

/// Where size, and perhaps a factor, are.
pub fn sizes(shape: Shape, state: &State) -> Option<(Place, Place)> {
    let stack_pointer = state.stack_pointer()?;
    let find = |value| {
        let (registers, slots) = state.places(value);
        place(registers, slots.into_iter(), stack_pointer)
    };
    let argument = |number| find(Value::Argument(number));
    let (size, factor) = shape.size()?;
    let Some(factor) = factor else { return Some((argument(size)?, Place::None)) };
    // Of what both frees and gives memory, both are kept where the call begins.
    let product = find(Value::Product(size)).filter(|_| !resizes(shape as u8));
    product.map(|product| (product, Place::None)).or_else(|| Some((argument(size)?, argument(factor)?)))
}

/// Whether the arguments are still where the caller put them.
pub fn are_in_registers(shape: Shape, state: &State) -> bool {
    let registers = ARGUMENTS.into_iter().zip(0..).take(usize::from(shape.arguments()));
    registers.into_iter().all(|(register, number)| state.registers[register] == Some(Value::Argument(number)))
}

/// Where a probe finds what `holders` hold, `stack_pointer` above the entry's.
pub fn result_place(holders: &Holders, stack_pointer: i32) -> Option<Place> {
    if holders.zero {
        return Some(Place::Zero);
    }
    place(holders.registers, holders.slots.iter().copied(), stack_pointer)
}

/// One of several places.
fn place(registers: u16, slots: impl Iterator<Item = i32>, stack_pointer: i32) -> Option<Place> {
    if registers != 0 {
        return Some(Place::Register(registers.trailing_zeros() as u8));
    }
    let reachable = |slot: i32| {
        let offset = u16::try_from(slot.checked_sub(stack_pointer)?).ok()?;
        (offset <= Place::MAX_STACK && offset % 8 == 0).then_some(Place::Stack(offset))
    };
    slots.filter_map(reachable).next()
}
