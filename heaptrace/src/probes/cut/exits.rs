//! What is known of the ways out of a function.

use super::forward::{tests_for_zero, writes};
use super::graph::{Graph, Way};
use super::state::{general, whole_register};
use iced_x86::{InstructionInfoFactory, Mnemonic};

/// Functions that return their first argument (C11, 7.24.6.1 and 7.24.2).
pub fn returns_its_first_argument(name: &str) -> bool {
    matches!(name, "memset" | "memcpy" | "memmove" | "__memset_chk" | "__memcpy_chk" | "__memmove_chk")
}

/// How far before a jump its test is looked for: a function's epilogue and the arguments of a hook.
const MAX_DISTANCE: usize = 32;

/// Whether the jump through a register at `node` is only reached where that register was found not to be 0.
pub fn is_guarded(graph: &Graph<'_, '_>, node: usize) -> bool {
    let mut info = InstructionInfoFactory::new();
    let Some(register) = whole_register(&graph.nodes[node].instruction, 0) else { return false };
    let mut at = node;
    for _ in 0..MAX_DISTANCE {
        let Some((before, edge)) = graph.only_predecessor(at) else { return false };
        let instruction = &graph.nodes[before].instruction;
        let way = graph.nodes[before].successors[edge].way;
        let is_not_zero_way = match instruction.mnemonic() {
            Mnemonic::Jne => way == Way::Taken,
            Mnemonic::Je => way == Way::Next,
            _ => false,
        };
        if is_not_zero_way
            && let Some((test, _)) = graph.only_predecessor(before)
            && tests_for_zero(&graph.nodes[test].instruction) == Some(register)
        {
            return true;
        }
        let changes = info
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| writes(used.access()) && general(used.register()) == Some(register));
        if changes {
            return false;
        }
        at = before;
    }
    false
}
