//! Which of a function's instructions could be sites, for what, and at what cost.

use super::answer::{CutSite, Request};
use super::backward::{Backward, Holders};
use super::emulation::{self, Emulation, Treatment};
use super::forward::Forward;
use super::graph::Graph;
use super::instruction::writes;
use super::node::{End, Node, Way};
use super::places::{are_in_registers, is_whole_possible, own_frame, result_place, sizes};
use super::state::{Memory, State};
use super::{Place, Role};
use heaptrace_common::function::Shape;
use iced_x86::{FastFormatter, FlowControl, InstructionInfoFactory, Mnemonic};

/// Costs, roughly in units of a tenth of one trap. Failures are rare, and of ways that can be seen by one trap or by
/// two, one is taken.
const ONE_TRAP: u64 = 10;
const FAILURE: u64 = 11;
const STEPPED_FAILURE: u64 = 30;
const RESULT: u64 = 130;
const SHARED_RESULT: u64 = 300;
const STEPPED: u64 = 1000;
/// An emulated push costs a twelfth more than a jump.
const PUSH: u64 = 11;

/// Seeing a result on one edge.
#[derive(Clone, Debug)]
pub struct Crossing {
    pub weight: u64,
    pub holders: Holders,
    pub emulated: bool,
    /// The size is known, too.
    pub sized: bool,
}

impl Crossing {
    /// Seeing it on both.
    pub fn with(&self, other: &Self) -> Self {
        Self {
            weight: self.weight.max(other.weight),
            holders: self.holders.both(&other.holders),
            emulated: self.emulated && other.emulated,
            sized: self.sized && other.sized,
        }
    }
}

/// Everything that a site could be, by node and number of the edge.
pub struct Candidates<'a> {
    graph: &'a Graph<'a, 'a>,
    forward: &'a Forward,
    shape: Shape,
    results: Vec<Vec<Option<Crossing>>>,
    begins: Vec<Option<Crossing>>,
    acted: Vec<bool>,
}

impl<'a> Candidates<'a> {
    pub fn of(
        graph: &'a Graph<'a, 'a>,
        forward: &'a Forward,
        mut backward: Backward<'a>,
        request: &Request<'_>,
    ) -> Self {
        let acts: Vec<bool> = acts(graph, forward);
        let mut candidates = Self {
            graph,
            forward,
            shape: request.shape,
            results: Vec::new(),
            begins: Vec::new(),
            acted: reached_from(graph, &acts),
        };
        let will_act = reaches(graph, &acts);
        for (index, node) in graph.nodes.iter().enumerate() {
            let treatment = treatment(graph, index, request.emulation);
            let late = request.shape == Shape::OutPointer;
            let results = node.successors.iter().map(|edge| {
                let is_early = late && will_act[edge.to];
                let holders = backward.on(index, edge).filter(|_| !is_early && edge.way != Way::Unwind)?;
                candidates.result_on(index, treatment?, holders)
            });
            let results = results.collect();
            let begin = treatment.and_then(|treatment| candidates.begin_on(index, treatment));
            candidates.results.push(results);
            candidates.begins.push(begin);
        }
        candidates
    }

    /// Seeing the result.
    pub fn result(&self, node: usize, edge: usize) -> Option<&Crossing> {
        self.results[node][edge].as_ref()
    }

    /// Keeping the arguments.
    pub fn begin(&self, node: usize) -> Option<&Crossing> {
        self.begins[node].as_ref()
    }

    /// Whether something may have been done before a node that others can see.
    pub fn acted(&self, node: usize) -> bool {
        self.acted[node]
    }

    fn result_on(&self, index: usize, treatment: Treatment, holders: Holders) -> Option<Crossing> {
        let (node, state) = (&self.graph.nodes[index], self.forward.state(index)?);
        result_place(&holders, own_frame(state)?)?;
        // `posix_memalign` returns 0 if it succeeds.
        let is_failure = holders.zero && self.shape != Shape::OutPointer;
        let whole = is_whole_possible(self.shape);
        let sized = sizes(self.shape, state).is_some();
        let is_return = node.instruction.flow_control() == FlowControl::Return;
        let weight = match treatment {
            Treatment::Refused => return None,
            Treatment::SingleStepped if is_failure && node.successors.len() == 1 => STEPPED_FAILURE,
            Treatment::SingleStepped if is_return && (sized || !whole) => STEPPED,
            Treatment::SingleStepped if is_return => STEPPED + RESULT,
            Treatment::SingleStepped => return None,
            Treatment::Emulated if node.shared => SHARED_RESULT,
            Treatment::Emulated if holders.is_only_zero() => FAILURE,
            Treatment::Emulated if sized || !whole => ONE_TRAP,
            Treatment::Emulated => RESULT,
        };
        Some(Crossing { weight, holders, emulated: treatment == Treatment::Emulated, sized })
    }

    fn begin_on(&self, index: usize, treatment: Treatment) -> Option<Crossing> {
        let (node, state) = (&self.graph.nodes[index], self.forward.state(index)?);
        own_frame(state)?;
        let known = if is_whole_possible(self.shape) {
            sizes(self.shape, state).is_some()
        } else {
            !self.acted[index] && are_in_registers(self.shape, state)
        };
        let is_return = node.instruction.flow_control() == FlowControl::Return;
        if !known || node.shared || is_return {
            return None;
        }
        let weight = match treatment {
            Treatment::Emulated if node.instruction.mnemonic() == Mnemonic::Push => PUSH,
            Treatment::Emulated => ONE_TRAP,
            Treatment::SingleStepped if node.successors.len() == 1 => STEPPED,
            Treatment::SingleStepped | Treatment::Refused => return None,
        };
        let emulated = treatment == Treatment::Emulated;
        Some(Crossing { weight, holders: Holders::default(), emulated, sized: true })
    }

    pub fn site(&self, index: usize, role: Role, condition: u8, crossing: &Crossing) -> CutSite {
        let node = &self.graph.nodes[index];
        let state = self.forward.state(index);
        let stack_pointer = state.and_then(State::stack_pointer).unwrap_or_default();
        let (size, factor) = state.and_then(|state| sizes(self.shape, state)).unwrap_or_default();
        let result = match role {
            Role::Begin | Role::Free | Role::Entered | Role::Sample | Role::SampleFree => Place::None,
            Role::Whole | Role::Result => result_place(&crossing.holders, stack_pointer).unwrap_or_default(),
        };
        CutSite {
            address: node.instruction.ip(),
            role,
            condition,
            size,
            factor,
            result,
            caller_bp: state.map(State::caller_bp).unwrap_or_default(),
            pushed: stack_pointer.unsigned_abs(),
            emulated: crossing.emulated,
            shared: node.shared,
            weight: u32::try_from(crossing.weight).unwrap_or(u32::MAX),
            text: text(&node.instruction),
        }
    }
}

/// What the kernel does with a probe on a node; `None` where none may be.
pub fn treatment(graph: &Graph<'_, '_>, index: usize, emulation: Emulation) -> Option<Treatment> {
    let node = &graph.nodes[index];
    let is_call = matches!(node.instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
    let fit = if index == 0 { !is_call } else { emulation::is_fit(&node.instruction) };
    let treatment =
        emulation::treatment(graph.image.bytes_of(&node.instruction), &node.instruction, emulation);
    (node.end.is_none() && fit).then_some(treatment)
}

/// Nodes that others could see something of: calls, and stores but to the function's own frame.
pub fn acts(graph: &Graph<'_, '_>, forward: &Forward) -> Vec<bool> {
    let mut info = InstructionInfoFactory::new();
    let acts = |(index, node): (usize, &Node)| {
        let Some(state) = forward.state(index).filter(|_| node.end.is_none()) else {
            return matches!(node.end, Some(End::PassesOn(_) | End::Unknown | End::Filling));
        };
        match node.instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => true,
            _ => info.info(&node.instruction).used_memory().iter().filter(|used| writes(used.access())).any(
                |used| {
                    let place = state.memory(used.base(), used.index(), used.displacement(), used.segment());
                    !matches!(place, Memory::Slot(slot) if slot < 0)
                },
            ),
        }
    };
    graph.nodes.iter().enumerate().map(acts).collect()
}

/// Nodes before which one of `from` may have run.
pub fn reached_from(graph: &Graph<'_, '_>, from: &[bool]) -> Vec<bool> {
    let mut reached = vec![false; from.len()];
    let mut waiting: Vec<usize> = (0..from.len()).filter(|node| from[*node]).collect();
    while let Some(node) = waiting.pop() {
        for edge in &graph.nodes[node].successors {
            if !std::mem::replace(&mut reached[edge.to], true) {
                waiting.push(edge.to);
            }
        }
    }
    reached
}

/// Nodes from which on one of `to` may run.
fn reaches(graph: &Graph<'_, '_>, to: &[bool]) -> Vec<bool> {
    let mut reaching = to.to_vec();
    let mut waiting: Vec<usize> = (0..to.len()).filter(|node| to[*node]).collect();
    while let Some(node) = waiting.pop() {
        for (before, _) in &graph.predecessors[node] {
            if !std::mem::replace(&mut reaching[*before], true) {
                waiting.push(*before);
            }
        }
    }
    reaching
}

/// An instruction in Intel's syntax.
pub fn text(instruction: &iced_x86::Instruction) -> String {
    let mut text = String::new();
    FastFormatter::new().format(instruction, &mut text);
    text
}
