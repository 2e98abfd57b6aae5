//! A function's control flow, by descent from its entry: jumps, jumps into other functions of the file, calls that come
//! back, and exceptions that land. Everything that can end a call is an end of its own.

use super::image::Image;
use super::noreturn::{self, NoReturn};
use super::parts::Parts;
use super::{NoCut, exits, forward};
use iced_x86::{
    Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The most instructions of a graph: six times the largest allocation function known.
const MAX_NODES: usize = 4000;

/// How control goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Next,
    Taken,
    /// An exception out of a call.
    Unwind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    pub to: usize,
    pub way: Way,
}

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    Return,
    /// In `memset` or its like, which returns its first argument.
    Filling,
    /// In another function that is probed.
    PassesOn(u64),
    /// Through a pointer.
    Unknown,
    /// Not followed any further.
    Acts,
}

pub struct Node {
    /// Of an end, nothing.
    pub instruction: Instruction,
    pub end: Option<End>,
    pub successors: Vec<Edge>,
    /// Index of the part.
    pub part: usize,
    /// Whether other functions use this code, too.
    pub shared: bool,
    /// Whether an end can be reached.
    pub live: bool,
}

pub struct Graph<'a, 'data> {
    pub image: &'a Image<'data>,
    /// The entry is the first.
    pub nodes: Vec<Node>,
    /// Of each node, from where and by which of that one's edges.
    pub predecessors: Vec<Vec<(usize, usize)>>,
    pub parts: Parts<'a, 'data>,
    /// Calls that throw out of the function.
    pub throws: u32,
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
        let mut builder = Builder {
            image,
            probed,
            beginning,
            parts: Parts::new(image, entry)?,
            noreturn: NoReturn::new(image),
            info: InstructionInfoFactory::new(),
            nodes: Vec::new(),
            constants: Vec::new(),
            index: HashMap::new(),
            ends: BTreeMap::new(),
            waiting: Vec::new(),
            throwing: HashMap::new(),
        };
        builder.node(entry, 0, None)?;
        while let Some(node) = builder.waiting.pop() {
            builder.follow(node)?;
        }
        let Builder { nodes, parts, noreturn, throwing, .. } = builder;
        let throws = throwing.values().filter(|throws| **throws).count() as u32;
        let used = noreturn.used.into_iter().collect();
        let mut graph = Self { image, nodes, predecessors: Vec::new(), parts, throws, used };
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
            if !exits::is_guarded(self, index) {
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

/// How a jump's target is to be taken.
enum Target {
    Code(u64),
    End(End),
    Never,
}

struct Builder<'a, 'data> {
    image: &'a Image<'data>,
    probed: &'a [u64],
    /// Only up to what others could see.
    beginning: bool,
    parts: Parts<'a, 'data>,
    noreturn: NoReturn<'a, 'data>,
    info: InstructionInfoFactory,
    nodes: Vec<Node>,
    /// The first argument register before each node, where it is the same constant on every way.
    constants: Vec<Option<u64>>,
    index: HashMap<u64, usize>,
    ends: BTreeMap<End, usize>,
    waiting: Vec<usize>,
    /// Calls that do not return, and whether they throw out of the function.
    throwing: HashMap<usize, bool>,
}

impl Builder<'_, '_> {
    /// The node at `address`, which is reached with the constant.
    fn node(&mut self, address: u64, part: usize, constant: Option<u64>) -> Result<usize, NoCut> {
        if let Some(&known) = self.index.get(&address) {
            if self.constants[known].is_some() && self.constants[known] != constant {
                self.constants[known] = None;
                self.waiting.push(known);
            }
            return Ok(known);
        }
        let instruction = self.image.instruction(address).ok_or(NoCut::NoCode(address))?;
        let range = &self.parts.all[part].range;
        if instruction.next_ip() > range.end {
            return Err(NoCut::FallsOut(address));
        }
        self.index.insert(address, self.nodes.len());
        self.add(instruction, None, part, constant)
    }

    fn add(
        &mut self,
        instruction: Instruction,
        end: Option<End>,
        part: usize,
        constant: Option<u64>,
    ) -> Result<usize, NoCut> {
        if self.nodes.len() >= MAX_NODES {
            return Err(NoCut::TooLarge);
        }
        let shared = self.parts.all[part].group != 0;
        let node = Node { instruction, end, successors: Vec::new(), part, shared, live: false };
        self.nodes.push(node);
        self.constants.push(constant);
        if end.is_none() {
            self.waiting.push(self.nodes.len() - 1);
        }
        Ok(self.nodes.len() - 1)
    }

    fn end(&mut self, end: End) -> Result<usize, NoCut> {
        match self.ends.get(&end) {
            Some(known) => Ok(*known),
            None => {
                let node = self.add(Instruction::default(), Some(end), 0, None)?;
                self.ends.insert(end, node);
                Ok(node)
            }
        }
    }

    /// Where control goes from a node.
    fn follow(&mut self, node: usize) -> Result<(), NoCut> {
        let (instruction, part) = (self.nodes[node].instruction, self.nodes[node].part);
        let at = instruction.ip();
        let constant = self.constant_after(&instruction, self.constants[node]);
        let mut successors = Vec::new();
        if self.beginning && self.acts(&instruction) {
            successors.push(Edge { to: self.end(End::Acts)?, way: Way::Next });
            self.nodes[node].successors = successors;
            return Ok(());
        }
        match instruction.flow_control() {
            FlowControl::Next if instruction.mnemonic() == Mnemonic::Hlt => {}
            FlowControl::Next => successors.push(self.next(&instruction, part, constant)?),
            FlowControl::Return => {
                // `ret imm16` and far ones are no end of a C function.
                if instruction.code() != Code::Retnq {
                    return Err(NoCut::Computed(at));
                }
                successors.push(Edge { to: self.end(End::Return)?, way: Way::Next });
            }
            FlowControl::UnconditionalBranch => {
                let target = self.target(instruction.near_branch_target())?;
                successors.extend(self.jump(part, target, Way::Next, constant)?);
            }
            FlowControl::ConditionalBranch => {
                successors.push(self.next(&instruction, part, constant)?);
                let target = self.target(instruction.near_branch_target())?;
                successors.extend(self.jump(part, target, Way::Taken, constant)?);
            }
            FlowControl::IndirectBranch => {
                let target = self.indirect(&instruction)?;
                successors.extend(self.jump(part, target, Way::Next, constant)?);
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                successors = self.call(node, &instruction, part)?;
            }
            FlowControl::Exception => {}
            FlowControl::Interrupt | FlowControl::XbeginXabortXend => return Err(NoCut::Computed(at)),
        }
        self.nodes[node].successors = successors;
        Ok(())
    }

    fn next(&mut self, instruction: &Instruction, part: usize, constant: Option<u64>) -> Result<Edge, NoCut> {
        if instruction.next_ip() >= self.parts.all[part].range.end {
            return Err(NoCut::FallsOut(instruction.ip()));
        }
        Ok(Edge { to: self.node(instruction.next_ip(), part, constant)?, way: Way::Next })
    }

    fn jump(
        &mut self,
        part: usize,
        target: Target,
        way: Way,
        constant: Option<u64>,
    ) -> Result<Option<Edge>, NoCut> {
        let to = match target {
            Target::Never => return Ok(None),
            Target::End(end) => self.end(end)?,
            Target::Code(address) => {
                let part = self.parts.enter(part, address)?;
                self.node(address, part, constant)?
            }
        };
        Ok(Some(Edge { to, way }))
    }

    fn target(&self, address: u64) -> Result<Target, NoCut> {
        if self.beginning {
            let is_own = self.parts.index_of(address).is_some();
            return Ok(if is_own { Target::Code(address) } else { Target::End(End::Acts) });
        }
        if self.probed.contains(&address) || address == self.parts.entries[0] {
            return Ok(Target::End(End::PassesOn(address)));
        }
        if self.parts.index_of(address).is_some() {
            return Ok(Target::Code(address));
        }
        match self.image.stub_name(address) {
            Some(name) => self.named(name).ok_or(NoCut::Leaves(address)),
            None if self.image.name(address).is_some_and(noreturn::is_named) => Ok(Target::Never),
            None => Ok(Target::Code(address)),
        }
    }

    fn named(&self, name: &str) -> Option<Target> {
        if exits::returns_its_first_argument(name) {
            return Some(Target::End(End::Filling));
        }
        if noreturn::is_named(name) {
            return Some(Target::Never);
        }
        let address = self.image.definition(name)?;
        Some(if self.probed.contains(&address) {
            Target::End(End::PassesOn(address))
        } else {
            Target::Code(address)
        })
    }

    fn indirect(&self, instruction: &Instruction) -> Result<Target, NoCut> {
        let at = instruction.ip();
        if instruction.is_ip_rel_memory_operand() {
            let name = self.image.slot_name(instruction.ip_rel_memory_address());
            return name.and_then(|name| self.named(name)).ok_or(NoCut::Computed(at));
        }
        // `notrack` marks jump tables; `check_unknown_exits` looks at the others.
        let is_notrack = self.image.bytes_of(instruction).first() == Some(&0x3e);
        if is_notrack || instruction.op0_kind() != OpKind::Register {
            return Err(NoCut::Computed(at));
        }
        Ok(Target::End(End::Unknown))
    }

    fn call(&mut self, node: usize, instruction: &Instruction, part: usize) -> Result<Vec<Edge>, NoCut> {
        let home: Range<u64> = self.parts.all[part].range.clone();
        let mut successors = Vec::new();
        let start = self.parts.all[part].range.start;
        let sites = self.parts.all[part].call_sites.as_ref().ok_or(NoCut::LandingPads(start))?;
        let pad = sites.iter().find(|site| site.calls.contains(&instruction.ip())).map(|site| site.pad);
        let returns = !self.noreturn.call(instruction, self.constants[node], Some(&home));
        if returns {
            successors.push(self.next(instruction, part, None)?);
        }
        match pad {
            Some(pad) => {
                let part = self.parts.enter(part, pad)?;
                successors.push(Edge { to: self.node(pad, part, None)?, way: Way::Unwind });
            }
            None => {
                let name = (instruction.op0_kind() == OpKind::NearBranch64)
                    .then(|| self.image.name(instruction.near_branch_target()))
                    .flatten();
                self.throwing.insert(node, !returns && name.is_some_and(noreturn::is_thrower));
            }
        }
        Ok(successors)
    }

    /// Whether others could see what an instruction does: what is not known to be the function's own frame counts.
    fn acts(&mut self, instruction: &Instruction) -> bool {
        let goes_on = matches!(
            instruction.flow_control(),
            FlowControl::Next
                | FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch
                | FlowControl::Return
                | FlowControl::Exception
        );
        let is_seen = |used: &iced_x86::UsedMemory| {
            forward::writes(used.access())
                && !(used.base() == Register::RSP && used.index() == Register::None)
        };
        !goes_on || self.info.info(instruction).used_memory().iter().any(is_seen)
    }

    /// The first argument register behind an instruction, if it is a constant.
    fn constant_after(&mut self, instruction: &Instruction, before: Option<u64>) -> Option<u64> {
        let to_rdi =
            instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::EDI;
        match instruction.code() {
            Code::Mov_r32_imm32 if to_rdi => return Some(u64::from(instruction.immediate32())),
            Code::Xor_r32_rm32 | Code::Xor_rm32_r32
                if to_rdi && instruction.op1_register() == Register::EDI =>
            {
                return Some(0);
            }
            _ => {}
        }
        let reads = [OpAccess::None, OpAccess::Read, OpAccess::CondRead, OpAccess::NoMemAccess];
        let used = self.info.info(instruction).used_registers().iter();
        let writes = used
            .clone()
            .any(|u| u.register().full_register() == Register::RDI && !reads.contains(&u.access()));
        before.filter(|_| !writes)
    }
}
