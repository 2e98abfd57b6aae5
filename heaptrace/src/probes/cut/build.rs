//! Builds a function's control flow graph, instruction by instruction from its entry.

use super::answer::NoCut;
use super::image::Image;
use super::instruction;
use super::node::{Edge, End, Node, Way, returns_its_first_argument};
use super::noreturn::{self, NoReturn};
use super::parts::Parts;
use iced_x86::{Code, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The most instructions of a graph: six times the largest allocation function known.
const MAX_NODES: usize = 4000;

/// What a graph is made of.
pub struct Built<'a, 'data> {
    pub nodes: Vec<Node>,
    pub parts: Parts<'a, 'data>,
    /// Code by which calls were proven not to return.
    pub used: Vec<(u64, u64)>,
}

/// How a jump's target is to be taken.
enum Target {
    Code(u64),
    End(End),
    Never,
}

pub struct Builder<'a, 'data> {
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
}

impl<'a, 'data> Builder<'a, 'data> {
    pub fn run(
        image: &'a Image<'data>,
        entry: u64,
        probed: &'a [u64],
        beginning: bool,
    ) -> Result<Built<'a, 'data>, NoCut> {
        let mut builder = Self {
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
        };
        builder.node(entry, 0, None)?;
        while let Some(node) = builder.waiting.pop() {
            builder.follow(node)?;
        }
        let Self { nodes, parts, noreturn, .. } = builder;
        Ok(Built { nodes, parts, used: noreturn.used.into_iter().collect() })
    }

    /// The node at `address`, which is reached with the constant.
    fn node(&mut self, address: u64, part: usize, constant: Option<u64>) -> Result<usize, NoCut> {
        if let Some(&known) = self.index.get(&address) {
            if self.constants[known].is_some() && self.constants[known] != constant {
                self.constants[known] = None;
                self.waiting.push(known);
            }
            return Ok(known);
        }
        let instruction = self.image.memory.instruction(address).ok_or(NoCut::NoCode(address))?;
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
        if returns_its_first_argument(name) {
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
        if let Some(pad) = pad {
            let part = self.parts.enter(part, pad)?;
            successors.push(Edge { to: self.node(pad, part, None)?, way: Way::Unwind });
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
            instruction::writes(used.access())
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
        let is_rdi = |register: Register| register.full_register() == Register::RDI;
        let used = self.info.info(instruction).used_registers().iter();
        let writes = used.into_iter().any(|it| is_rdi(it.register()) && instruction::writes(it.access()));
        before.filter(|_| !writes)
    }
}
