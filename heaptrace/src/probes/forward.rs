//! Finds functions that only pass their work on, from their bytes. A block that goes through two probed free
//! functions would count as freed twice.

use super::cut::site;
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, Register,
};

/// Where code goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// This address.
    Code(u64),
    /// The address that the pointer at this address holds.
    Slot(u64),
}

/// Where the function at `address`, whose bytes are `code`, goes with its block on every path but that of NULL:
/// by a call or jump that it always reaches with its first argument unchanged, or by the tail jumps that are its
/// only ends. `None` if it (also) does something of its own.
pub fn targets(code: &[u8], address: u64) -> Option<Vec<Target>> {
    let instructions: Vec<_> =
        Decoder::with_ip(64, code, address, DecoderOptions::NONE).into_iter().collect();
    straight_line(&instructions)
        .map(|target| vec![target])
        .or_else(|| tail_jumps(&instructions, code, address))
}

fn straight_line(instructions: &[Instruction]) -> Option<Target> {
    let mut info = InstructionInfoFactory::new();
    let mut previous: Option<&Instruction> = None;
    for instruction in instructions {
        match instruction.flow_control() {
            FlowControl::Next if !site::writes(&mut info, instruction, &[Register::RDI]) => {}
            FlowControl::ConditionalBranch if is_null_check(previous, instruction) => {}
            FlowControl::UnconditionalBranch | FlowControl::Call => {
                return Some(Target::Code(instruction.near_branch_target()));
            }
            FlowControl::IndirectBranch | FlowControl::IndirectCall => return slot(instruction),
            _ => return None,
        }
        previous = Some(instruction);
    }
    None
}

/// The jumps out of a function that ends in nothing else, but for the return of its NULL check.
fn tail_jumps(instructions: &[Instruction], code: &[u8], address: u64) -> Option<Vec<Target>> {
    let inside = address..address.saturating_add(code.len() as u64);
    let pairs = || instructions.iter().zip(instructions.iter().skip(1));
    let null_path =
        pairs().find(|(one, next)| is_null_check(Some(one), next)).map(|(_, je)| je.near_branch_target());
    let mut targets = Vec::new();
    for instruction in instructions {
        match instruction.flow_control() {
            FlowControl::Return if Some(instruction.ip()) == null_path => {}
            FlowControl::Return => return None,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if !inside.contains(&instruction.near_branch_target()) =>
            {
                targets.push(Target::Code(instruction.near_branch_target()));
            }
            FlowControl::IndirectBranch => targets.push(slot(instruction)?),
            _ => {}
        }
    }
    (!targets.is_empty()).then_some(targets)
}

fn is_null_check(previous: Option<&Instruction>, branch: &Instruction) -> bool {
    previous.is_some_and(site::tests_rdi) && branch.mnemonic() == Mnemonic::Je
}

fn slot(instruction: &Instruction) -> Option<Target> {
    instruction.is_ip_rel_memory_operand().then(|| Target::Slot(instruction.ip_rel_memory_address()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: u64 = 0x1000;

    #[test]
    fn a_thunk_passes_everything_on() {
        // jmp +0x10
        assert_eq!(targets(&[0xe9, 0x10, 0, 0, 0], HERE), Some(vec![Target::Code(0x1015)]));
        // endbr64; bnd jmp [rip+0x20], as in a procedure linkage table
        let stub = [0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x20, 0, 0, 0];
        assert_eq!(targets(&stub, HERE), Some(vec![Target::Slot(0x102b)]));
    }

    #[test]
    fn a_call_behind_the_null_check_passes_the_block_on() {
        // test rdi, rdi; je ret; sub rsp, 8; call; add rsp, 8; ret; ret: jemalloc's sized operator delete
        let code = [
            0x48, 0x85, 0xff, 0x74, 0x0e, 0x48, 0x83, 0xec, 0x08, 0xe8, 0x12, 0x33, 0xf8, 0xff, 0x48, 0x83,
            0xc4, 0x08, 0xc3, 0xc3,
        ];
        assert_eq!(targets(&code, 0xae110), Some(vec![Target::Code(0x31430)]));
    }

    #[test]
    fn a_function_with_an_end_of_its_own_passes_nothing_on() {
        // cmp rsi, 8; ja +5; jmp out; ret
        let code = [0x48, 0x83, 0xfe, 0x08, 0x77, 0x05, 0xe9, 0, 0x10, 0, 0, 0xc3];
        assert_eq!(targets(&code, HERE), None);
        // mov rdi, rsi; call: another block
        assert_eq!(targets(&[0x48, 0x89, 0xf7, 0xe8, 0, 0, 0, 0, 0xc3], HERE), None);
    }

    #[test]
    fn tail_jumps_that_are_the_only_ends_pass_the_block_on() {
        // test rdi, rdi; je ret; cmp rdx, 8; ja 1f; mov rsi, rdx; jmp out; 1: jmp out; ret
        let code = [
            0x48, 0x85, 0xff, 0x74, 0x13, 0x48, 0x83, 0xfa, 0x08, 0x77, 0x08, 0x48, 0x89, 0xd6, 0xe9, 0xed,
            0x0f, 0, 0, 0xe9, 0xe8, 0x0f, 0, 0, 0xc3,
        ];
        assert_eq!(targets(&code, HERE), Some(vec![Target::Code(0x2000), Target::Code(0x2000)]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed_without_panic(code: Vec<u8>, address: u64) {
            let _ = targets(&code, address);
        }
    }
}
