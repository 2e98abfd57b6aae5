//! The cheapest instruction near a function's beginning that stands for all its calls: hit exactly once before the
//! function does anything that others could see, with the arguments still where the caller put them. For a function
//! that frees, calls with NULL need not hit it.

use super::answer::{CutSite, NoCut};
use super::candidates::{self, reached_from, treatment};
use super::choose::condition_of;
use super::emulation::{self, Emulation, Treatment};
use super::forward::Forward;
use super::graph::Graph;
use super::image::Image;
use super::instruction::tests_for_zero;
use super::node::{Edge, End, Node, Way};
use super::places::{self, are_in_registers, own_frame};
use super::references::Source;
use super::state::{ARGUMENTS, RBP, State, Value};
use super::{Place, Role, site};
use heaptrace_common::function::Shape;
use heaptrace_common::probe::condition;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind};
use std::collections::HashSet;

/// An emulated instruction that each call passes once before anything else, if there is one.
pub fn entry_site(image: &Image<'_>, entry: u64, shape: Shape, emulation: Emulation) -> Option<CutSite> {
    let site = cheapest(image, entry, shape, emulation).ok().filter(|site| site.emulated)?;
    Some(CutSite { role: Role::Begin, ..site })
}

/// The one site of a function's calls: of one that gives no block, but may free one, or where the arguments are kept.
pub fn one_site(image: &Image<'_>, entry: u64, shape: Shape, emulation: Emulation) -> Result<CutSite, NoCut> {
    cheapest(image, entry, shape, emulation).or_else(|why| prologue(image, entry, shape).ok_or(why))
}

/// Costs of one hit, in tens of ns as they were measured, and of hits by `free(NULL)`.
fn cost(mnemonic: Mnemonic, checks_null: bool, emulated: bool) -> u32 {
    match mnemonic {
        _ if !emulated => 1000,
        Mnemonic::Push => 69,
        _ if checks_null => 70,
        _ => 64,
    }
}

fn cheapest(image: &Image<'_>, entry: u64, shape: Shape, emulation: Emulation) -> Result<CutSite, NoCut> {
    let graph = Graph::beginning(image, entry)?;
    let forward = Forward::of(&graph)?;
    let entered = entered_from_behind(&graph)?;
    let search = Search { graph: &graph, forward: &forward, shape, entered };
    let mut best: Option<(u32, u64, usize)> = None;
    for (index, node) in graph.nodes.iter().enumerate() {
        let treatment = treatment(&graph, index, emulation);
        let emulated = treatment == Some(Treatment::Emulated);
        // A single-stepped one might as well be the entry.
        let usable = emulated || index == 0 && treatment == Some(Treatment::SingleStepped);
        if !usable || !search.stands_for_all(index) {
            continue;
        }
        let cost = cost(node.instruction.mnemonic(), search.null_way(index).is_some(), emulated);
        let this = (cost, node.instruction.ip(), index);
        best = Some(best.map_or(this, |best| best.min(this)));
    }
    let (cost, _, index) = best.ok_or(NoCut::NoSite)?;
    Ok(search.site(index, cost))
}

struct Search<'a> {
    graph: &'a Graph<'a, 'a>,
    forward: &'a Forward,
    shape: Shape,
    /// Nodes that are jumped to from behind the beginning.
    entered: Vec<bool>,
}

impl Search<'_> {
    /// Whether each call runs through a node once, and with its arguments in their registers.
    fn stands_for_all(&self, index: usize) -> bool {
        let Some(state) = self.forward.state(index) else { return false };
        let node = &self.graph.nodes[index];
        let leaves = node.instruction.flow_control() == FlowControl::Return;
        if own_frame(state).is_none() || !are_in_registers(self.shape, state) || leaves {
            return false;
        }
        let mut here = vec![false; self.graph.nodes.len()];
        here[index] = true;
        // Not twice, neither by a circle nor from behind.
        if reached_from(self.graph, &here)[index] || self.is_entered_before(index) {
            return false;
        }
        // Not past it.
        let mut seen = here;
        let mut waiting = if index == 0 { Vec::new() } else { vec![0] };
        while let Some(node) = waiting.pop() {
            if self.graph.nodes[node].end.is_some() {
                return false;
            }
            if !std::mem::replace(&mut seen[node], true) {
                let null = self.null_way(node);
                let ways = self.graph.nodes[node].successors.iter().filter(|edge| Some(edge.way) != null);
                waiting.extend(ways.map(|edge| edge.to).filter(|to| !seen[*to]));
            }
        }
        true
    }

    /// Whether control can come to a node from behind the beginning.
    fn is_entered_before(&self, index: usize) -> bool {
        self.entered[index] || reached_from(self.graph, &self.entered)[index]
    }

    /// The way that `free(NULL)` takes from a node that looks for it.
    fn null_way(&self, index: usize) -> Option<Way> {
        let is_null_way = |edge: &Edge| match self.graph.nodes[index].instruction.mnemonic() {
            Mnemonic::Je => edge.way == Way::Taken,
            Mnemonic::Jne => edge.way == Way::Next,
            _ => false,
        };
        let (before, _) = self.graph.only_predecessor(index)?;
        let tested = tests_for_zero(&self.graph.nodes[before].instruction)?;
        let holds = self.forward.state(before)?.registers[tested] == Some(Value::Argument(0));
        let way = self.graph.nodes[index].successors.iter().find(|edge| is_null_way(edge))?.way;
        (holds && self.shape == Shape::Free0).then_some(way)
    }

    fn site(&self, index: usize, cost: u32) -> CutSite {
        let node = &self.graph.nodes[index];
        let state = self.forward.state(index);
        let stack_pointer = state.and_then(State::stack_pointer).unwrap_or_default();
        let sizes = state.and_then(|state| places::sizes(self.shape, state)).unwrap_or_default();
        let null = self.null_way(index);
        let ways: Vec<Way> =
            node.successors.iter().map(|edge| edge.way).filter(|way| Some(*way) != null).collect();
        CutSite {
            address: node.instruction.ip(),
            role: role(self.shape),
            condition: if null.is_some() {
                condition_of(self.graph, index, &ways)
            } else {
                condition::ALWAYS
            },
            size: sizes.0,
            factor: sizes.1,
            result: Place::None,
            caller_bp: state.map(State::caller_bp).unwrap_or_default(),
            pushed: stack_pointer.unsigned_abs(),
            emulated: cost < 1000,
            shared: false,
            weight: cost,
            text: candidates::text(&node.instruction),
        }
    }
}

fn role(shape: Shape) -> Role {
    if shape.allocates() { Role::Begin } else { Role::Free }
}

/// Which nodes are jumped to from code behind the beginning, or from elsewhere in the file. Whoever jumps to the entry
/// begins another call.
fn entered_from_behind(graph: &Graph<'_, '_>) -> Result<Vec<bool>, NoCut> {
    let range = &graph.parts.all[0].range;
    // Those of which it is known where they lead.
    let known: HashSet<u64> = graph
        .nodes
        .iter()
        .filter(|node| node.end.is_none())
        .filter(|node| node.successors.iter().all(|edge| graph.nodes[edge.to].end != Some(End::Acts)))
        .map(|node| node.instruction.ip())
        .collect();
    let mut targets = HashSet::new();
    let bytes = graph.image.memory.bytes(range.start).ok_or(NoCut::NoCode(range.start))?;
    let bytes = &bytes[..bytes.len().min(usize::try_from(range.end - range.start).unwrap_or(usize::MAX))];
    let sweep = Decoder::with_ip(64, bytes, range.start, DecoderOptions::NONE).into_iter();
    for instruction in sweep.filter(|instruction| !known.contains(&instruction.ip())) {
        if !instruction.is_invalid() && instruction.op0_kind() == OpKind::NearBranch64 {
            targets.insert(instruction.near_branch_target());
        }
        let goes_on = matches!(
            instruction.flow_control(),
            FlowControl::Next
                | FlowControl::ConditionalBranch
                | FlowControl::Call
                | FlowControl::IndirectCall
        );
        if goes_on {
            targets.insert(instruction.next_ip());
        }
    }
    for (target, source) in graph.image.references().into_iter().flat_map(|all| all.into(range.clone())) {
        if !matches!(source, Source::Branch(from) if known.contains(from)) {
            targets.insert(*target);
        }
    }
    let is_entered = |(index, node): (usize, &Node)| {
        index != 0 && node.end.is_none() && targets.contains(&node.instruction.ip())
    };
    Ok(graph.nodes.iter().enumerate().map(is_entered).collect())
}

/// What is found by looking at the prologue alone.
fn prologue(image: &Image<'_>, entry: u64, shape: Shape) -> Option<CutSite> {
    let span = image.function(entry).filter(|span| span.start == entry)?;
    let bytes = image.memory.bytes(entry)?;
    let code = &bytes[..bytes.len().min(usize::try_from(span.end - entry).ok()?)];
    let found = site::choose(code, shape);
    let address = entry + u64::from(found.offset);
    let is_restarted =
        image.restartable.iter().any(|(range, abort)| range.contains(&address) || *abort == address);
    if is_restarted || found.offset != 0 && !emulation::is_fit(&image.memory.instruction(address)?) {
        return None;
    }
    let register = |argument: u8| Place::Register(ARGUMENTS[usize::from(argument)] as u8);
    let (size, factor) = shape.size().map_or((Place::None, Place::None), |(size, factor)| {
        (register(size), factor.map_or(Place::None, register))
    });
    (!found.why.is_refusal()).then(|| CutSite {
        address,
        role: role(shape),
        condition: condition::ALWAYS,
        size,
        factor,
        result: Place::None,
        caller_bp: Place::Register(RBP as u8),
        pushed: u32::from(found.pushed),
        emulated: found.emulated,
        shared: false,
        weight: if found.emulated { 69 } else { 1000 },
        text: image
            .memory
            .instruction(address)
            .map(|instruction| candidates::text(&instruction))
            .unwrap_or_default(),
    })
}
