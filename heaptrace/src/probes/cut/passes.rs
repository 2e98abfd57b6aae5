//! Functions that only pass their calls on: whatever they return, a probed function has returned it to them, or what they
//! return lies in what it has returned, as where a program's own `operator new` puts a header before each block. Probing
//! them, too, would count each block twice, and each failed attempt of theirs is the other function's; and where there is a
//! header, what is freed is not what they returned. libstdc++'s `operator new` is one.

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

/// One of `allocating`, which are probed, that every call of this one which returns has called last of all that it calls, or ends
/// in. What is called after it may have allocated in its place, as jemalloc's operators do where memory was short.
pub fn works_by(image: &Image<'_>, request: &Request<'_>, allocating: &[u64]) -> Option<u64> {
    let graph = Graph::build(image, request.entry, request.probed).ok()?;
    let is_base = |entry: u64| entry != request.entry && allocating.contains(&entry);
    let mut works_by = None;
    // Of each node, whether it was reached with such a call as the last one, and without.
    let mut seen = vec![[false; 2]; graph.nodes.len()];
    let mut waiting = vec![(0, false)];
    while let Some((index, is_last)) = waiting.pop() {
        let node = graph.nodes.get(index)?;
        if std::mem::replace(&mut seen[index][usize::from(is_last)], true) {
            continue;
        }
        match node.end {
            Some(End::PassesOn(entry)) if is_base(entry) => works_by = Some(entry),
            Some(End::Return) if is_last => {}
            // It may return without.
            Some(_) => return None,
            None => {
                let base = called(image, &node.instruction).filter(|callee| is_base(*callee));
                works_by = base.or(works_by);
                let calls =
                    matches!(node.instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
                let is_last = base.is_some() || is_last && !calls;
                waiting.extend(node.successors.iter().map(|edge| (edge.to, is_last)));
            }
        }
    }
    works_by
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

#[cfg(test)]
mod tests {
    use super::super::conditions_tests::{EMULATION, LEAVE, RET};
    use super::*;
    use crate::fixtures::assembler::{Assembler, program};
    use heaptrace_common::function::Shape;

    /// What the function at "entry" passes on to, and what it works by; "base" is probed.
    fn of(write: impl FnOnce(&mut Assembler)) -> [Option<&'static str>; 2] {
        let program = program(|it| {
            write(it);
            it.function("base").raw(&RET);
        });
        let (entry, base) = (program.at("entry"), program.at("base"));
        let request = Request { entry, shape: Shape::Size0, probed: &[entry, base], emulation: EMULATION };
        let image = program.image();
        [passes_through(&image, &request), works_by(&image, &request, &[base])]
            .map(|found| found.map(|found| if found == base { "base" } else { "another" }))
    }

    #[test]
    fn a_header_before_the_block_is_no_block_of_its_own() {
        // push rbx; lea rdi, [rdi+16]; call base; test rax, rax; je end; mov [rax+8], rax; add rax, 16; pop rbx; ret
        let header = |it: &mut Assembler| {
            it.raw(&[0x53])
                .raw(&[0x48, 0x8d, 0x7f, 0x10])
                .call("base")
                .raw(&[0x48, 0x85, 0xc0])
                .jcc(4, "end");
            it.raw(&[0x48, 0x89, 0x40, 0x08]).raw(&[0x48, 0x83, 0xc0, 0x10]).label("end").raw(&LEAVE);
        };
        assert_eq!(of(header), [None, Some("base")]);
        let handed_on = |it: &mut Assembler| {
            it.raw(&[0x53]).call("base").raw(&LEAVE);
        };
        assert_eq!(of(handed_on), [Some("base"); 2]);
        let jump = |it: &mut Assembler| {
            it.raw(&[0x48, 0x8d, 0x7f, 0x10]).jmp("base");
        };
        assert_eq!(of(jump)[1], Some("base"));
    }

    #[test]
    fn a_pool_that_asks_now_and_then_gives_blocks_of_its_own() {
        // push rbx; test rdi, rdi; je end; call base; pop rbx; ret
        let pool = |it: &mut Assembler| {
            it.raw(&[0x53]).raw(&[0x48, 0x85, 0xff]).jcc(4, "end").call("base").label("end").raw(&LEAVE);
        };
        assert_eq!(of(pool)[1], None);
        // push rbx; call base; test rax, rax; jne end; call other; end: pop rbx; ret
        let again = |it: &mut Assembler| {
            it.raw(&[0x53]).call("base").raw(&[0x48, 0x85, 0xc0]).jcc(5, "end").call("other");
            it.label("end").raw(&LEAVE).function("other").raw(&RET);
        };
        assert_eq!(of(again)[1], None);
        let handler = |it: &mut Assembler| {
            it.raw(&[0x53])
                .label("again")
                .call("base")
                .raw(&[0x48, 0x85, 0xc0])
                .jcc(5, "end")
                .call("other")
                .jmp("again");
            it.label("end").raw(&LEAVE).function("other").raw(&RET);
        };
        assert_eq!(of(handler)[1], Some("base"));
        let none = |it: &mut Assembler| {
            it.raw(&[0x53]).call("other").raw(&LEAVE).function("other").raw(&RET);
        };
        assert_eq!(of(none), [None; 2]);
    }
}
