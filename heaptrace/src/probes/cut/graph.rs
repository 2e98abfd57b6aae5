//! A function's control flow, by descent from its entry: jumps, jumps into other functions of the file, calls that come
//! back, and exceptions that land. Everything that can end a call is an end of its own.

use super::answer::NoCut;
use super::build::{Builder, Built};
use super::image::Image;
use super::instruction::{tests_for_zero, writes};
use super::node::{Edge, End, Node, Way};
use super::parts::Parts;
use super::state::{general, whole_register};
use iced_x86::{InstructionInfoFactory, Mnemonic};

/// How far before a jump its test is looked for: a function's epilogue and the arguments of a hook.
const MAX_DISTANCE: usize = 32;

pub struct Graph<'a, 'data> {
    pub image: &'a Image<'data>,
    /// The entry is the first.
    pub nodes: Vec<Node>,
    /// Of each node, from where and by which of that one's edges.
    pub predecessors: Vec<Vec<(usize, usize)>>,
    pub parts: Parts<'a, 'data>,
    /// Code by which calls were proven not to return.
    used: Vec<(u64, u64)>,
}

impl<'a, 'data> Graph<'a, 'data> {
    /// The graph of the function at `entry`. `probed` are the entries of all functions that are probed.
    pub fn build(image: &'a Image<'data>, entry: u64, probed: &'a [u64]) -> Result<Self, NoCut> {
        let graph = Self::of(image, entry, probed, false)?;
        graph.check_unknown_exits()?;
        Ok(graph)
    }

    /// As far as the function has done nothing that others could see, and has not left its own code.
    pub fn beginning(image: &'a Image<'data>, entry: u64) -> Result<Self, NoCut> {
        Self::of(image, entry, &[], true)
    }

    fn of(image: &'a Image<'data>, entry: u64, probed: &'a [u64], beginning: bool) -> Result<Self, NoCut> {
        let Built { nodes, parts, used } = Builder::run(image, entry, probed, beginning)?;
        let mut graph = Self { image, nodes, predecessors: Vec::new(), parts, used };
        graph.connect();
        Ok(graph)
    }

    fn connect(&mut self) {
        self.predecessors = vec![Vec::new(); self.nodes.len()];
        for (from, node) in self.nodes.iter().enumerate() {
            for (edge, Edge { to, .. }) in node.successors.iter().enumerate() {
                self.predecessors[*to].push((from, edge));
            }
        }
        let mut waiting: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].end.is_some()).collect();
        while let Some(node) = waiting.pop() {
            if !std::mem::replace(&mut self.nodes[node].live, true) {
                waiting.extend(self.predecessors[node].iter().map(|(from, _)| *from));
            }
        }
    }

    /// A jump through a pointer ends a call only where the pointer was found not to be null: a hook. Others are
    /// jump tables, or the way that all calls go.
    fn check_unknown_exits(&self) -> Result<(), NoCut> {
        let jumps = self.nodes.iter().enumerate().filter(|(_, node)| {
            node.successors.iter().any(|edge| self.nodes[edge.to].end == Some(End::Unknown))
        });
        for (index, node) in jumps {
            if !is_guarded(self, index) {
                return Err(NoCut::Computed(node.instruction.ip()));
            }
        }
        Ok(())
    }

    /// The only predecessor of a node.
    pub fn only_predecessor(&self, node: usize) -> Option<(usize, usize)> {
        match self.predecessors[node].as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// What rests on this graph's bytes: (start, length), in order, merged.
    pub fn bytes(&self) -> Vec<(u64, u64)> {
        let instructions = self.nodes.iter().filter(|node| node.end.is_none());
        let own = instructions.map(|node| (node.instruction.ip(), node.instruction.len() as u64));
        let mut all: Vec<(u64, u64)> = own.chain(self.used.iter().copied()).collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (start, length) in all {
            match merged.last_mut() {
                Some((last, total)) if start <= *last + *total => {
                    *total = (*total).max(start + length - *last);
                }
                _ => merged.push((start, length)),
            }
        }
        merged
    }
}

/// Whether the jump through a register at `node` is only reached where that register was found not to be 0.
fn is_guarded(graph: &Graph<'_, '_>, node: usize) -> bool {
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
