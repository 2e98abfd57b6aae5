//! What single instructions do.

use super::state::{immediate, whole_register};
use iced_x86::{Code, Instruction, OpAccess};

/// Whether an access changes what is accessed.
pub fn writes(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Whether `instruction` compares a whole register with 0, and which.
pub fn tests_for_zero(instruction: &Instruction) -> Option<usize> {
    let register = whole_register(instruction, 0)?;
    match instruction.code() {
        Code::Test_rm64_r64 => (whole_register(instruction, 1) == Some(register)).then_some(register),
        Code::Cmp_rm64_imm8 | Code::Cmp_rm64_imm32 => {
            (immediate(instruction, 1) == Some(0)).then_some(register)
        }
        _ => None,
    }
}
