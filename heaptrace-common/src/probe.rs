//! What a probe's hit means: which call it is a part of, and where in the registers and on the stack its size and
//! result are. Userspace writes a table of these; a probe's BPF cookie names the row.

use crate::function::{Function, Shape};

/// What a hit is of its call.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The call began, or is at a point where its arguments are last known: they are kept for its result, under its
    /// stack pointer. What the function frees is taken out of the live table here.
    Begin = 0,
    /// Size and result are both there: the whole call in one trap.
    Whole = 1,
    /// The result of a call whose `Begin` was seen.
    Result = 2,
    /// A block is given back.
    Free = 3,
    /// The call began: for verification alone, see [`crate::check`].
    Entered = 4,
    /// The allocator tells of an allocation that it chose for a sample. The row has [`Operand`]s.
    Sample = 5,
    /// It tells that a sample is freed.
    SampleFree = 6,
}

/// Where a value is at a probe's instruction, before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere.
    #[default]
    None,
    /// The value is 0.
    Zero,
    /// In a general register, by its number in x86_64 machine code: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6,
    /// rdi 7, r8 to r15.
    Register(u8),
    /// In the 8 bytes that begin so many bytes above the stack pointer.
    Stack(u16),
}

impl Place {
    const NONE: u16 = 0;
    /// Bits of [`Place::Zero`].
    pub const ZERO: u16 = 1;
    /// Bits from here on are registers.
    pub const FIRST_REGISTER: u16 = 16;
    /// Bits from here on are stack slots.
    pub const FIRST_SLOT: u16 = 32;
    /// The farthest slot that can be told, in bytes above the stack pointer.
    pub const MAX_STACK: u16 = (u16::MAX - Self::FIRST_SLOT) & !7;

    /// As the table has it.
    pub const fn to_bits(self) -> u16 {
        match self {
            Self::None => Self::NONE,
            Self::Zero => Self::ZERO,
            Self::Register(number) => Self::FIRST_REGISTER + (number & 15) as u16,
            Self::Stack(offset) => Self::FIRST_SLOT + offset,
        }
    }

    pub const fn from_bits(bits: u16) -> Self {
        if bits >= Self::FIRST_SLOT {
            Self::Stack(bits - Self::FIRST_SLOT)
        } else if bits >= Self::FIRST_REGISTER {
            Self::Register((bits - Self::FIRST_REGISTER) as u8)
        } else if bits == Self::ZERO {
            Self::Zero
        } else {
            Self::None
        }
    }
}

/// When a hit counts: the low four bits of a conditional jump's opcode (Intel SDM, appendix B.1.4: 4 is e, 5 ne),
/// plus 1; 0 counts always. At a `jcc` whose call goes on to its end by the taken edge only, the jump's own
/// condition; by the other edge only, the opposite one.
pub mod condition {
    pub const ALWAYS: u8 = 0;

    /// The jump with this low nibble is taken.
    pub const fn taken(nibble: u8) -> u8 {
        (nibble & 15) + 1
    }

    /// It is not.
    pub const fn not_taken(nibble: u8) -> u8 {
        ((nibble & 15) ^ 1) + 1
    }

    /// Whether a condition holds with these RFLAGS.
    #[inline(always)]
    pub const fn holds(condition: u8, flags: u64) -> bool {
        if condition == ALWAYS {
            return true;
        }
        let nibble = condition - 1;
        let (carry, parity, zero) = (flags & 1 != 0, flags & 4 != 0, flags & 0x40 != 0);
        let (sign, overflow) = (flags & 0x80 != 0, flags & 0x800 != 0);
        let base = match nibble >> 1 {
            0 => overflow,
            1 => carry,
            2 => zero,
            3 => carry | zero,
            4 => sign,
            5 => parity,
            6 => sign != overflow,
            _ => zero | (sign != overflow),
        };
        base != (nibble & 1 != 0)
    }
}

/// What a probe's BPF cookie says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cookie {
    /// Of the table.
    pub row: u32,
    /// Of the gates: hits count while it is open. 0 is always open.
    pub gate: u32,
}

impl Cookie {
    pub const fn to_bits(self) -> u64 {
        ((self.gate as u64) << 32) | self.row as u64
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        Self { row: bits as u32, gate: (bits >> 32) as u32 }
    }
}

/// Where a probe that a program offers (USDT) has an argument, before its instruction runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A constant.
    Constant(i32),
    /// A general register, numbered as in [`Place::Register`].
    Register(u8),
    /// In memory, so far from what a register has.
    Memory { base: u8, displacement: i32 },
}

/// How wide an argument is, in bytes, 1 to 8.
pub type Width = u8;

/// Operands of a row with [`Role::Sample`]: what was allocated, its size, and the bytes that it stands for. One with
/// [`Role::SampleFree`] has the first alone.
pub mod operand {
    pub const POINTER: usize = 0;
    pub const SIZE: usize = 1;
    pub const WEIGHT: usize = 2;

    /// Low bits of what a row has: the register.
    pub const REGISTER_MASK: i32 = 0xf;
    pub const REGISTER: i32 = 0x10;
    pub const MEMORY: i32 = 0x20;
    /// Above these is the width.
    pub const WIDTH_SHIFT: u32 = 8;
}

/// How many stretches of the allocator's own code a probe can tell calls from.
pub const OWN_CODE: usize = 16;

/// Code from whose calls a hit is no call of the program's: distances in bytes from the probed instruction to the
/// first byte, and to the first one behind. Empty where both are 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct OwnCode {
    pub start: i32,
    pub end: i32,
}

/// One row of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProbeRecord {
    pub function: u8,
    /// `Shape`.
    pub shape: u8,
    /// `Role`.
    pub role: u8,
    /// See [`condition`].
    pub condition: u8,
    /// `Place`s: of the size, or of what it is the product of if `factor` is not `None`.
    pub size: u16,
    pub factor: u16,
    /// Of the result.
    pub result: u16,
    /// Of the caller's rbp, where the walk of its stack begins.
    pub caller_bp: u16,
    /// 1: the code serves other functions, too: a hit without its call's `Begin` is another's.
    pub shared: u8,
    /// 1: another probed function may end in a jump to this one, which then completes the other's call.
    pub joined: u8,
    /// 1: nobody but the allocator itself calls the entry by a direct call, see `is_direct_own` of the BPF side.
    pub direct_is_own: u8,
    /// 1: the function, which frees, may end in a jump to another probed one, which then frees the same block.
    pub passes_on: u8,
    /// Bytes by which the stack pointer is lower than at the function's entry: the return address is that far up.
    pub pushed: u32,
    /// Bytes of code between the function's entry and the probed instruction, two's complement.
    pub from_entry: i32,
    /// Elements of `own` that are used.
    pub own_count: u32,
    /// 1: while the code in `own` runs, a call is under way whose `Begin` was seen. Without such a call no hit is the
    /// allocator's own.
    pub within_begun: u8,
    pub _pad2: [u8; 3],
    pub own: [OwnCode; OWN_CODE],
}

impl ProbeRecord {
    /// A row for a hit of `role` in a call of `function`, with nothing else known.
    pub const fn new(function: Function, shape: Shape, role: Role) -> Self {
        Self {
            function: function as u8,
            shape: shape as u8,
            role: role as u8,
            condition: condition::ALWAYS,
            size: 0,
            factor: 0,
            result: 0,
            caller_bp: 0,
            shared: 0,
            joined: 0,
            direct_is_own: 0,
            passes_on: 0,
            pushed: 0,
            from_entry: 0,
            own_count: 0,
            within_begun: 0,
            _pad2: [0; 3],
            own: [OwnCode { start: 0, end: 0 }; OWN_CODE],
        }
    }

    /// The same with operands, which are where calls have code of the allocator's own: how each is had, and a number.
    pub const fn with_operand(mut self, index: usize, operand: Operand, width: Width) -> Self {
        let width = (width as i32) << operand::WIDTH_SHIFT;
        self.own[index] = match operand {
            Operand::Constant(number) => OwnCode { start: width, end: number },
            Operand::Register(register) => {
                OwnCode { start: width | operand::REGISTER | (register & 15) as i32, end: 0 }
            }
            Operand::Memory { base, displacement } => {
                OwnCode { start: width | operand::MEMORY | (base & 15) as i32, end: displacement }
            }
        };
        self
    }
}

const _: () = assert!(size_of::<ProbeRecord>() == 32 + 8 * OWN_CODE);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_its_bits() {
        let registers = (0..16).map(Place::Register);
        let slots = (0..=Place::MAX_STACK).step_by(8).map(Place::Stack);
        for place in [Place::None, Place::Zero].into_iter().chain(registers).chain(slots) {
            assert_eq!(Place::from_bits(place.to_bits()), place);
        }
    }

    #[test]
    fn a_cookie_survives_its_bits() {
        let cookie = Cookie { row: 0xffff_fff0, gate: 7 };
        assert_eq!(Cookie::from_bits(cookie.to_bits()), cookie);
    }

    #[test]
    fn a_condition_holds_as_its_jump_goes() {
        let (carry, zero, sign, overflow) = (1, 0x40, 0x80, 0x800);
        // jb, je, jbe, jl, jg
        for (nibble, flags, taken) in [
            (2, carry, true),
            (2, zero, false),
            (4, zero, true),
            (4, carry, false),
            (6, zero, true),
            (6, sign, false),
            (0xc, sign, true),
            (0xc, sign | overflow, false),
            (0xf, 0, true),
            (0xf, zero, false),
        ] {
            assert_eq!(condition::holds(condition::taken(nibble), flags), taken, "{nibble:x} {flags:x}");
            assert_eq!(condition::holds(condition::not_taken(nibble), flags), !taken, "{nibble:x} {flags:x}");
        }
        assert!(condition::holds(condition::ALWAYS, 0));
    }
}
