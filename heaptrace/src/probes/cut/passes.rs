//! Functions that only pass their calls on: whatever they return, a probed function has returned it to them. Probing
//! them, too, would count each block twice, and each failed attempt of theirs is the other function's. libstdc++'s
//! `operator new` is one.

use super::answer::{NoCut, Request};
use super::forward::Forward;
use super::graph::Graph;
use super::image::Image;
use super::node::End;
use super::state::{RAX, Value};
use iced_x86::{FlowControl, Instruction, OpKind};

/// A probed function whose results the function returns, if it returns nothing else on any way that it reaches by itself:
/// what an exception makes of a call does not count.
pub fn passes_through(image: &Image<'_>, request: &Request<'_>) -> Option<u64> {
    passed(image, request).ok().flatten()
}

fn passed(image: &Image<'_>, request: &Request<'_>) -> Result<Option<u64>, NoCut> {
    let graph = Graph::build(image, request.entry, request.probed)?;
    let gives = |instruction: &Instruction| {
        called(image, instruction)
            .is_some_and(|callee| callee != request.entry && request.probed.contains(&callee))
    };
    let forward = Forward::of_results(&graph, &gives)?;
    let mut passes_to = None;
    for (node, state) in graph.nodes.iter().zip(&forward.states) {
        let Some(state) = state else { continue };
        match node.end {
            Some(End::PassesOn(entry)) => passes_to = Some(entry),
            Some(End::Return) if state.registers[RAX] == Some(Value::Given) => {}
            Some(_) => return Ok(None),
            None if gives(&node.instruction) => passes_to = called(image, &node.instruction),
            None => {}
        }
    }
    Ok(passes_to)
}

/// Where a direct call goes, through a stub of the file or not.
fn called(image: &Image<'_>, instruction: &Instruction) -> Option<u64> {
    let is_call =
        instruction.flow_control() == FlowControl::Call && instruction.op0_kind() == OpKind::NearBranch64;
    is_call.then(|| image.callee(instruction.near_branch_target()))
}
