//! What is known of the machine before an instruction, whatever way led there: where the arguments are, and how far the
//! stack pointer is from where it was at the entry.

use heaptrace_common::probe::Place;
use iced_x86::{Instruction, OpKind, Register};
use std::collections::BTreeMap;

pub const RAX: usize = 0;
const RCX: usize = 1;
pub const RDX: usize = 2;
pub const RSP: usize = 4;
pub const RBP: usize = 5;
const RSI: usize = 6;
pub const RDI: usize = 7;

/// Registers that arguments come in, in their order (System V ABI, 3.2.3), as far as any is read.
pub const ARGUMENTS: [usize; 4] = [RDI, RSI, RDX, RCX];

/// Registers that a call may change (System V ABI, 3.2.1), as bits.
pub const CALLER_SAVED: u16 = 0b0000_1111_1100_0111;

/// Bytes below the stack pointer that signals leave alone (System V ABI, 3.2.2).
const RED_ZONE: i32 = 128;

/// The most stack slots that are followed.
const MAX_SLOTS: usize = 64;

/// A value that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// An argument, from 0.
    Argument(u8),
    /// An argument times the next one.
    Product(u8),
    /// An address so many bytes above what the stack pointer was at the entry.
    Stack(i32),
    /// What a probed function returned. Only where that is asked for.
    Given,
}

/// Where an instruction accesses memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// From so many bytes above the entry's stack pointer on.
    Slot(i32),
    /// Somewhere on the stack.
    Stack,
    /// Not on the stack.
    Elsewhere,
    /// Where a pointer leads: on the stack only if one of its addresses got out.
    Pointer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    pub registers: [Option<Value>; 16],
    /// Of 8 bytes, by their distance from the entry's stack pointer.
    pub slots: BTreeMap<i32, Value>,
    /// Whether rbp may be an address of the stack on some way.
    pub frame_pointer: bool,
    /// Whether rbp is the caller's still, or again.
    pub holds_caller_bp: bool,
    /// Where the caller's rbp was saved. What a function saves for its caller it may rely on whatever it calls.
    pub saved_caller_bp: Option<i32>,
}

impl State {
    /// That of a function's entry.
    pub fn entry() -> Self {
        let mut registers = [None; 16];
        for (register, number) in ARGUMENTS.into_iter().zip(0..) {
            registers[register] = Some(Value::Argument(number));
        }
        registers[RSP] = Some(Value::Stack(0));
        Self {
            registers,
            slots: BTreeMap::new(),
            frame_pointer: false,
            holds_caller_bp: true,
            saved_caller_bp: None,
        }
    }

    /// How far the stack pointer is above where it was at the entry.
    pub fn stack_pointer(&self) -> Option<i32> {
        match self.registers[RSP] {
            Some(Value::Stack(offset)) => Some(offset),
            _ => None,
        }
    }

    /// What holds on this way and on the other one. True if this is less than before.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.known();
        for (value, other) in self.registers.iter_mut().zip(&other.registers) {
            if value != other {
                *value = None;
            }
        }
        self.slots.retain(|offset, value| other.slots.get(offset) == Some(value));
        self.frame_pointer |= other.frame_pointer;
        self.holds_caller_bp &= other.holds_caller_bp;
        self.saved_caller_bp = self.saved_caller_bp.filter(|slot| other.saved_caller_bp == Some(*slot));
        before != self.known()
    }

    /// What tells whether less is known than before.
    fn known(&self) -> ([Option<Value>; 16], usize, bool, bool, Option<i32>) {
        (self.registers, self.slots.len(), self.frame_pointer, self.holds_caller_bp, self.saved_caller_bp)
    }

    /// Where a probe finds the caller's rbp.
    pub fn caller_bp(&self) -> Place {
        if self.holds_caller_bp {
            return Place::Register(RBP as u8);
        }
        let above = self
            .saved_caller_bp
            .zip(self.stack_pointer())
            .and_then(|(slot, pointer)| slot.checked_sub(pointer));
        match above.and_then(|above| u16::try_from(above).ok()) {
            Some(above) if above <= Place::MAX_STACK && above % 8 == 0 => Place::Stack(above),
            _ => Place::None,
        }
    }

    /// Something is written to `size` bytes of the stack.
    pub fn overwrite(&mut self, offset: i32, size: i32) {
        self.slots.retain(|slot, _| slot.saturating_add(8) <= offset || *slot >= offset.saturating_add(size));
    }

    /// A value is stored in a slot.
    pub fn store(&mut self, offset: i32, value: Option<Value>) {
        self.overwrite(offset, 8);
        if let Some(value) = value.filter(|_| self.slots.len() < MAX_SLOTS) {
            self.slots.insert(offset, value);
        }
    }

    /// Forgets slots that are not the function's own to rely on.
    pub fn trim(&mut self) {
        match self.stack_pointer() {
            Some(pointer) => self.slots.retain(|slot, _| is_kept(*slot, pointer)),
            None => self.slots.clear(),
        }
    }

    /// Where a value is held: registers as bits, then slots.
    pub fn places(&self, value: Value) -> (u16, Vec<i32>) {
        let registers = self.registers.iter().enumerate().filter(|(_, held)| **held == Some(value));
        let slots = self.slots.iter().filter(|(_, held)| **held == value);
        (registers.fold(0, |bits, (number, _)| bits | 1 << number), slots.map(|(slot, _)| *slot).collect())
    }

    /// Where the memory operand of `instruction` is.
    pub fn operand(&self, instruction: &Instruction) -> Memory {
        self.memory(
            instruction.memory_base(),
            instruction.memory_index(),
            instruction.memory_displacement64(),
            instruction.memory_segment(),
        )
    }

    pub fn memory(&self, base: Register, index: Register, displacement: u64, segment: Register) -> Memory {
        // Thread-local.
        if matches!(segment, Register::FS | Register::GS) {
            return Memory::Elsewhere;
        }
        let is_frame = |register: Register| {
            register.full_register() == Register::RSP
                || register.full_register() == Register::RBP && self.frame_pointer
        };
        let held = general(base).and_then(|number| self.registers[number]);
        match (held, index) {
            (Some(Value::Stack(offset)), Register::None) if base.size() == 8 => {
                i32::try_from(displacement as i64)
                    .ok()
                    .and_then(|displacement| offset.checked_add(displacement))
                    .map_or(Memory::Stack, Memory::Slot)
            }
            (Some(Value::Stack(_)), _) => Memory::Stack,
            _ if is_frame(base) || is_frame(index) => Memory::Stack,
            (None, Register::None) if base == Register::None || base.is_ip() => Memory::Elsewhere,
            _ => Memory::Pointer,
        }
    }
}

/// Whether a slot holds what was stored there: not above the function's own frame, and not where a signal's frame may
/// come.
pub fn is_kept(slot: i32, stack_pointer: i32) -> bool {
    slot <= -8 && slot >= stack_pointer.saturating_sub(RED_ZONE)
}

/// The number of a general register, of any width.
pub fn general(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

/// The number of the 64-bit register that an operand is.
pub fn whole_register(instruction: &Instruction, operand: u32) -> Option<usize> {
    let is_register = operand < instruction.op_count() && instruction.op_kind(operand) == OpKind::Register;
    let register = is_register.then(|| instruction.op_register(operand))?;
    register.is_gpr64().then(|| register.number())
}

/// Whether an operand is 8 bytes of memory.
pub fn is_whole_memory(instruction: &Instruction, operand: u32) -> bool {
    operand < instruction.op_count()
        && instruction.op_kind(operand) == OpKind::Memory
        && instruction.memory_size().size() == 8
}

/// The immediate operand, if it is one.
pub fn immediate(instruction: &Instruction, operand: u32) -> Option<i64> {
    if operand >= instruction.op_count() {
        return None;
    }
    let is_immediate = matches!(
        instruction.op_kind(operand),
        OpKind::Immediate8
            | OpKind::Immediate16
            | OpKind::Immediate32
            | OpKind::Immediate64
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
    );
    is_immediate.then(|| instruction.immediate(operand) as i64)
}
