//! Where the value that a call will return already is, before each instruction: what holds on every way to an end.

use super::answer::NoCut;
use super::forward::Forward;
use super::graph::Graph;
use super::instruction::{tests_for_zero, writes};
use super::node::{Edge, End, Way, returns_its_first_argument};
use super::state::State;
use super::state::{
    CALLER_SAVED, Memory, RAX, RDI, RSP, general, immediate, is_kept, is_whole_memory, whole_register,
};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;

/// As for the other direction.
const MAX_ROUNDS: usize = 64;

/// Places that all hold the return value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    /// As bits.
    pub registers: u16,
    /// By their distance from the entry's stack pointer.
    pub slots: BTreeSet<i32>,
    /// It is 0.
    pub zero: bool,
}

impl Holders {
    fn register(number: usize) -> Self {
        Self { registers: 1 << number, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.registers == 0 && self.slots.is_empty() && !self.zero
    }

    /// Nothing but that it is 0 is known.
    pub fn is_only_zero(&self) -> bool {
        self.zero && self.registers == 0 && self.slots.is_empty()
    }

    pub fn both(&self, other: &Self) -> Self {
        Self {
            registers: self.registers & other.registers,
            slots: self.slots.intersection(&other.slots).copied().collect(),
            zero: self.zero && other.zero,
        }
    }

    fn has(&self, register: usize) -> bool {
        self.registers >> register & 1 != 0
    }

    fn take(&mut self, register: usize) -> bool {
        let had = self.has(register);
        self.registers &= !(1 << register);
        had
    }

    fn overwrite(&mut self, slot: i32, size: i32) {
        self.slots.retain(|held| held.saturating_add(8) <= slot || *held >= slot.saturating_add(size));
    }
}

pub struct Backward<'a> {
    graph: &'a Graph<'a, 'a>,
    forward: &'a Forward,
    info: InstructionInfoFactory,
    /// Before each node; `None` where no end is reached.
    before: Vec<Option<Holders>>,
    /// The return value is an `int`.
    narrow: bool,
}

impl<'a> Backward<'a> {
    /// `narrow`: only the low half of the return value counts.
    pub fn of(graph: &'a Graph<'a, 'a>, forward: &'a Forward, narrow: bool) -> Result<Self, NoCut> {
        let info = InstructionInfoFactory::new();
        let mut analysis = Self { graph, forward, info, before: vec![None; graph.nodes.len()], narrow };
        analysis.run()?;
        Ok(analysis)
    }

    fn run(&mut self) -> Result<(), NoCut> {
        let ends = |node: &usize| self.graph.nodes[*node].end.is_some();
        let mut waiting: Vec<usize> = (0..self.graph.nodes.len()).filter(ends).collect();
        let mut steps = 0;
        while let Some(node) = waiting.pop() {
            steps += 1;
            if steps > MAX_ROUNDS * self.graph.nodes.len() {
                return Err(NoCut::TooLarge);
            }
            let holders = match self.graph.nodes[node].end {
                Some(End::Return) => Some(Holders::register(RAX)),
                Some(End::Filling) => Some(Holders::register(RDI)),
                Some(End::PassesOn(_) | End::Unknown | End::Acts) => Some(Holders::default()),
                None => self.node(node),
            };
            if holders != self.before[node] {
                self.before[node] = holders;
                waiting.extend(self.graph.predecessors[node].iter().map(|(from, _)| *from));
            }
        }
        Ok(())
    }

    /// What holds before `node`, whatever way is taken from it.
    fn node(&mut self, node: usize) -> Option<Holders> {
        let graph = self.graph;
        let ways = graph.nodes[node].successors.iter();
        let all: Vec<Holders> = ways.filter_map(|edge| self.on(node, edge)).collect();
        all.into_iter().reduce(|one, other| one.both(&other))
    }

    /// What holds before `node` where control goes on by `edge`.
    pub fn on(&mut self, node: usize, edge: &Edge) -> Option<Holders> {
        let mut holders = self.before[edge.to].clone()?;
        if let Some(register) = self.zero_on(node, edge.way) {
            // The register is 0 on this way.
            if holders.zero {
                holders.registers |= 1 << register;
            }
            holders.zero |= holders.has(register);
        }
        self.back_over(node, holders)
    }

    /// The register that the test before a conditional jump has found to be 0, if it goes that way.
    fn zero_on(&self, node: usize, way: Way) -> Option<usize> {
        let (before, _) = self.graph.only_predecessor(node)?;
        let is_zero_way = match self.graph.nodes[node].instruction.mnemonic() {
            Mnemonic::Je => way == Way::Taken,
            Mnemonic::Jne => way == Way::Next,
            _ => false,
        };
        is_zero_way.then(|| tests_for_zero(&self.graph.nodes[before].instruction)).flatten()
    }

    /// From what holds behind an instruction to what holds before it.
    fn back_over(&mut self, node: usize, mut holders: Holders) -> Option<Holders> {
        let instruction = &self.graph.nodes[node].instruction;
        // Without a state nothing leads here.
        let state = self.forward.state(node)?;
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.back_over_call(instruction, state, &mut holders)
            }
            FlowControl::Return => {}
            _ if self.moves(instruction, state, &mut holders) => {}
            _ => self.other(instruction, state, &mut holders),
        }
        match state.stack_pointer() {
            Some(pointer) => holders.slots.retain(|slot| is_kept(*slot, pointer)),
            None => holders.slots.clear(),
        }
        Some(holders)
    }

    fn back_over_call(&self, instruction: &Instruction, state: &State, holders: &mut Holders) {
        let fills = instruction.op0_kind() == OpKind::NearBranch64
            && self
                .graph
                .image
                .stub_name(instruction.near_branch_target())
                .is_some_and(returns_its_first_argument);
        let returned = fills && holders.has(RAX);
        holders.registers &= !CALLER_SAVED;
        if returned {
            holders.registers |= 1 << RDI;
        }
        match state.stack_pointer() {
            Some(pointer) if !self.forward.escaped => holders.slots.retain(|slot| *slot >= pointer),
            _ => holders.slots.clear(),
        }
    }

    fn moves(&self, instruction: &Instruction, state: &State, holders: &mut Holders) -> bool {
        let pointer = state.stack_pointer();
        match instruction.mnemonic() {
            Mnemonic::Push if instruction.stack_pointer_increment() == -8 => {
                let Some(slot) = pointer.and_then(|pointer| pointer.checked_sub(8)) else { return false };
                let had = holders.slots.contains(&slot);
                holders.overwrite(slot, 8);
                if let Some(from) = whole_register(instruction, 0).filter(|from| had && *from != RSP) {
                    holders.registers |= 1 << from;
                }
                true
            }
            Mnemonic::Pop if instruction.stack_pointer_increment() == 8 => {
                let (Some(to), Some(pointer)) = (whole_register(instruction, 0), pointer) else {
                    return false;
                };
                if holders.take(to) {
                    holders.slots.insert(pointer);
                }
                true
            }
            Mnemonic::Mov => self.mov(instruction, state, holders),
            Mnemonic::Xor | Mnemonic::Sub => {
                let is_register = |operand| instruction.op_kind(operand) == OpKind::Register;
                if !is_register(0)
                    || !is_register(1)
                    || instruction.op0_register() != instruction.op1_register()
                {
                    return false;
                }
                let register = instruction.op0_register();
                let Some(to) = general(register).filter(|_| register.size() >= 4) else { return false };
                holders.zero |= holders.take(to);
                true
            }
            Mnemonic::Lea => {
                let from = general(instruction.memory_base()).filter(|from| *from != RSP);
                let is_copy = instruction.memory_index() == Register::None
                    && instruction.memory_displacement64() == 0
                    && instruction.memory_base().size() == 8;
                let (Some(to), Some(from), true) = (whole_register(instruction, 0), from, is_copy) else {
                    return false;
                };
                if holders.take(to) {
                    holders.registers |= 1 << from;
                }
                true
            }
            _ => false,
        }
    }

    fn mov(&self, instruction: &Instruction, state: &State, holders: &mut Holders) -> bool {
        let is_register = instruction.op0_kind() == OpKind::Register;
        let register = instruction.op0_register();
        let to = general(register).filter(|_| is_register && register.size() >= 4);
        let slot = match state.operand(instruction) {
            Memory::Slot(slot) => Some(slot),
            _ => None,
        };
        let (had, whole) = if let Some(to) = to {
            (holders.take(to), register.size() == 8)
        } else if let (true, Some(slot)) = (is_whole_memory(instruction, 0), slot) {
            let had = holders.slots.contains(&slot);
            holders.overwrite(slot, 8);
            (had, true)
        } else {
            return false;
        };
        if !had {
            return true;
        }
        match instruction.op1_kind() {
            OpKind::Register => {
                let from = instruction.op1_register();
                if let Some(from) = general(from).filter(|_| whole || self.narrow && from.size() >= 4) {
                    holders.registers |= 1 << from;
                }
            }
            OpKind::Memory if whole && is_whole_memory(instruction, 1) => holders.slots.extend(slot),
            _ => holders.zero |= immediate(instruction, 1) == Some(0),
        }
        true
    }

    fn other(&mut self, instruction: &Instruction, state: &State, holders: &mut Holders) {
        let escaped = self.forward.escaped;
        let info = self.info.info(instruction);
        for used in info.used_registers() {
            if let Some(number) = general(used.register()).filter(|_| writes(used.access())) {
                holders.take(number);
            }
        }
        for used in info.used_memory().iter().filter(|used| writes(used.access())) {
            let place = state.memory(used.base(), used.index(), used.displacement(), used.segment());
            match (place, i32::try_from(used.memory_size().size())) {
                (Memory::Slot(slot), Ok(size)) if size > 0 => holders.overwrite(slot, size),
                (Memory::Slot(_) | Memory::Stack, _) => holders.slots.clear(),
                (Memory::Pointer, _) if escaped => holders.slots.clear(),
                (Memory::Pointer | Memory::Elsewhere, _) => {}
            }
        }
    }
}
