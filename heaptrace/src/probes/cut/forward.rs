//! Where a function's arguments are, before each of its instructions: what holds on every way from the entry.

use super::answer::NoCut;
use super::frames::Cfa;
use super::graph::Graph;
use super::instruction::writes;
use super::node::{Edge, Way};
use super::state::{
    CALLER_SAVED, Memory, RAX, RBP, RDX, RSP, State, Value, general, immediate, is_whole_memory,
    whole_register,
};
use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

/// The most times that a node is looked at. A state can only lose what it knows, some 80 times; real functions need
/// three rounds.
const MAX_ROUNDS: usize = 64;

/// States before nodes; `None` where nothing leads.
pub struct Forward {
    pub states: Vec<Option<State>>,
    /// Whether an address of the stack gets out of the function, so that calls and stores through pointers may change
    /// what is there.
    pub escaped: bool,
}

impl Forward {
    pub fn of(graph: &Graph<'_, '_>) -> Result<Self, NoCut> {
        Self::run(graph, None)
    }

    /// The same, with what the calls that `gives` is true of return as [`super::state::Value::Given`], and without what
    /// exceptions lead to.
    pub fn of_results(graph: &Graph<'_, '_>, gives: &dyn Fn(&Instruction) -> bool) -> Result<Self, NoCut> {
        Self::run(graph, Some(gives))
    }

    fn run(graph: &Graph<'_, '_>, gives: Option<&dyn Fn(&Instruction) -> bool>) -> Result<Self, NoCut> {
        let mut machine = Machine { info: InstructionInfoFactory::new(), escaped: false, gives };
        let states = machine.run(graph)?;
        let escapes = graph.nodes.iter().zip(&states).any(|(node, state)| {
            state.as_ref().is_some_and(|state| machine.escapes(&node.instruction, state))
        });
        if !escapes {
            return Ok(Self { states, escaped: false });
        }
        machine.escaped = true;
        Ok(Self { states: machine.run(graph)?, escaped: true })
    }

    pub fn state(&self, node: usize) -> Option<&State> {
        self.states[node].as_ref()
    }

    /// Compares with the call frame information, which the compiler made by other means.
    pub fn check(&self, graph: &Graph<'_, '_>) -> Result<(), NoCut> {
        let mut rows = Vec::new();
        for part in &graph.parts.all {
            let has_rows = graph.image.frames.has_rows();
            let of_part = has_rows.then(|| graph.image.frames.rows(&part.span)).flatten();
            if has_rows && of_part.is_none() {
                return Err(NoCut::StackPointer(part.range.start));
            }
            rows.push(of_part);
        }
        for (node, state) in graph.nodes.iter().zip(&self.states) {
            let Some(state) = state.as_ref().filter(|_| node.live) else { continue };
            let at = node.instruction.ip();
            if node.end.is_some() {
                // Whoever jumps to where a call ends has left its frame.
                if state.registers[RSP] != Some(Value::Stack(0)) {
                    return Err(NoCut::StackPointer(graph.parts.entries[0]));
                }
                continue;
            }
            let Some(rows) = &rows[node.part] else { continue };
            let row = rows.iter().find(|row| (row.start..row.end).contains(&at));
            let is_right = match row.map(|row| row.cfa) {
                Some(Cfa::Register(register, offset)) => match state.registers[usize::from(register)] {
                    Some(Value::Stack(held)) => i64::from(held) + offset == 8,
                    _ => false,
                },
                _ => false,
            };
            if !is_right {
                return Err(NoCut::StackPointer(at));
            }
        }
        Ok(())
    }
}

struct Machine<'a> {
    info: InstructionInfoFactory,
    escaped: bool,
    /// See [`Forward::of_results`].
    gives: Option<&'a dyn Fn(&Instruction) -> bool>,
}

impl Machine<'_> {
    fn run(&mut self, graph: &Graph<'_, '_>) -> Result<Vec<Option<State>>, NoCut> {
        let mut states: Vec<Option<State>> = vec![None; graph.nodes.len()];
        states[0] = Some(State::entry());
        let mut waiting = vec![0];
        let mut steps = 0;
        while let Some(node) = waiting.pop() {
            steps += 1;
            if steps > MAX_ROUNDS * graph.nodes.len() {
                return Err(NoCut::TooLarge);
            }
            let Some(mut state) = states[node].clone() else { continue };
            self.step(&graph.nodes[node].instruction, &mut state);
            let follows = |edge: &&Edge| self.gives.is_none() || edge.way != Way::Unwind;
            for edge in graph.nodes[node].successors.iter().filter(follows) {
                let changed = match &mut states[edge.to] {
                    Some(known) => known.join(&state),
                    unknown => {
                        *unknown = Some(state.clone());
                        true
                    }
                };
                if changed {
                    waiting.push(edge.to);
                }
            }
        }
        Ok(states)
    }

    /// What an instruction does.
    fn step(&mut self, instruction: &Instruction, state: &mut State) {
        match instruction.flow_control() {
            FlowControl::Call | FlowControl::IndirectCall => {
                self.call(state);
                state.registers[RAX] =
                    self.gives.is_some_and(|gives| gives(instruction)).then_some(Value::Given);
            }
            FlowControl::Return => {}
            _ if self.moves(instruction, state) => {}
            _ => self.other(instruction, state),
        }
        state.trim();
    }

    fn call(&self, state: &mut State) {
        for (number, register) in state.registers.iter_mut().enumerate() {
            if CALLER_SAVED >> number & 1 != 0 {
                *register = None;
            }
        }
        match state.stack_pointer() {
            // The callee's frames lie below.
            Some(pointer) if !self.escaped => state.slots.retain(|slot, _| *slot >= pointer),
            _ => state.slots.clear(),
        }
    }

    /// Follows what carries values on. False if `instruction` is nothing of the kind.
    fn moves(&mut self, instruction: &Instruction, state: &mut State) -> bool {
        let value = |state: &State, operand| source(instruction, operand, state);
        match instruction.mnemonic() {
            Mnemonic::Push if instruction.stack_pointer_increment() == -8 => {
                let pushed = value(state, 0);
                let Some(pointer) = state.stack_pointer().and_then(|pointer| pointer.checked_sub(8)) else {
                    return false;
                };
                state.registers[RSP] = Some(Value::Stack(pointer));
                state.store(pointer, pushed);
                if state.holds_caller_bp && whole_register(instruction, 0) == Some(RBP) {
                    state.saved_caller_bp = Some(pointer);
                }
            }
            Mnemonic::Pop if instruction.stack_pointer_increment() == 8 => {
                let (Some(to), Some(pointer)) = (whole_register(instruction, 0), state.stack_pointer())
                else {
                    return false;
                };
                let Some(after) = pointer.checked_add(8) else { return false };
                state.registers[RSP] = Some(Value::Stack(after));
                set(state, to, state.slots.get(&pointer).copied());
                state.holds_caller_bp |= to == RBP && state.saved_caller_bp == Some(pointer);
            }
            Mnemonic::Leave => {
                let Some(Value::Stack(frame)) = state.registers[RBP] else { return false };
                let Some(after) = frame.checked_add(8) else { return false };
                set(state, RBP, state.slots.get(&frame).copied());
                state.holds_caller_bp = state.saved_caller_bp == Some(frame);
                state.registers[RSP] = Some(Value::Stack(after));
            }
            Mnemonic::Mov => {
                let moved = value(state, 1);
                let loaded = match state.operand(instruction) {
                    Memory::Slot(slot) if is_whole_memory(instruction, 1) => Some(slot),
                    _ => None,
                };
                if let Some(to) = whole_register(instruction, 0) {
                    set(state, to, moved);
                    state.holds_caller_bp |= to == RBP && loaded.is_some() && state.saved_caller_bp == loaded;
                } else if let (true, Memory::Slot(slot)) =
                    (is_whole_memory(instruction, 0), state.operand(instruction))
                {
                    state.store(slot, moved);
                    if state.holds_caller_bp && whole_register(instruction, 1) == Some(RBP) {
                        state.saved_caller_bp = Some(slot);
                    }
                } else {
                    return false;
                }
            }
            Mnemonic::Lea => {
                let Some(to) = whole_register(instruction, 0) else { return false };
                let moved = address(instruction, state);
                set(state, to, moved);
            }
            Mnemonic::Add | Mnemonic::Sub => {
                let (Some(to), Some(by)) = (whole_register(instruction, 0), immediate(instruction, 1)) else {
                    return false;
                };
                let Some(Value::Stack(offset)) = state.registers[to] else { return false };
                let by = if instruction.mnemonic() == Mnemonic::Sub { by.wrapping_neg() } else { by };
                let moved = i32::try_from(by).ok().and_then(|by| offset.checked_add(by));
                set(state, to, moved.map(Value::Stack));
            }
            Mnemonic::Mul if instruction.op0_register().size() == 8 || is_whole_memory(instruction, 0) => {
                let product = product(value(state, 0), state.registers[RAX]);
                set(state, RAX, product);
                set(state, RDX, None);
            }
            Mnemonic::Imul if instruction.op_count() == 2 => {
                let Some(to) = whole_register(instruction, 0) else { return false };
                let product = product(value(state, 1), state.registers[to]);
                set(state, to, product);
            }
            _ => return false,
        }
        true
    }

    /// Forgets whatever an instruction writes.
    fn other(&mut self, instruction: &Instruction, state: &mut State) {
        let escaped = self.escaped;
        let info = self.info.info(instruction);
        let mut stores = Vec::new();
        for used in info.used_memory() {
            if writes(used.access()) {
                let place = state.memory(used.base(), used.index(), used.displacement(), used.segment());
                stores.push((place, used.memory_size().size()));
            }
        }
        for used in info.used_registers() {
            if let Some(number) = general(used.register()).filter(|_| writes(used.access())) {
                set(state, number, None);
            }
        }
        for (place, size) in stores {
            match (place, i32::try_from(size)) {
                (Memory::Slot(slot), Ok(size)) if size > 0 => state.overwrite(slot, size),
                (Memory::Slot(_) | Memory::Stack, _) => state.slots.clear(),
                (Memory::Pointer, _) if escaped => state.slots.clear(),
                (Memory::Pointer | Memory::Elsewhere, _) => {}
            }
        }
    }

    /// Whether an instruction gives an address of the stack to anything but the stack and frame pointers.
    fn escapes(&mut self, instruction: &Instruction, state: &State) -> bool {
        let is_frame = |register: Register| match general(register) {
            Some(RSP) => true,
            Some(RBP) => state.frame_pointer,
            _ => false,
        };
        let target = (instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register)
            .then(|| instruction.op0_register());
        let to_frame = matches!(target, Some(Register::RSP | Register::RBP));
        if instruction.mnemonic() == Mnemonic::Lea {
            return !to_frame
                && (is_frame(instruction.memory_base()) || is_frame(instruction.memory_index()));
        }
        // `and rsp, -16` and the like move the stack pointer only.
        let only_moves =
            matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Add | Mnemonic::Sub | Mnemonic::And);
        let info = self.info.info(instruction);
        (0..instruction.op_count()).any(|operand| {
            instruction.op_kind(operand) == OpKind::Register
                && is_frame(instruction.op_register(operand))
                && !matches!(info.op_access(operand), OpAccess::Write | OpAccess::None)
                && !(to_frame && only_moves)
        })
    }
}

/// What an operand holds.
fn source(instruction: &Instruction, operand: u32, state: &State) -> Option<Value> {
    if let Some(register) = whole_register(instruction, operand) {
        return state.registers[register];
    }
    match state.operand(instruction) {
        Memory::Slot(slot) if is_whole_memory(instruction, operand) => state.slots.get(&slot).copied(),
        _ => None,
    }
}

/// What `lea` makes: a copy, or another address of the stack.
fn address(instruction: &Instruction, state: &State) -> Option<Value> {
    if instruction.memory_index() != Register::None || instruction.memory_base().size() != 8 {
        return None;
    }
    let held = state.registers[general(instruction.memory_base())?]?;
    match held {
        Value::Stack(_) => match state.operand(instruction) {
            Memory::Slot(slot) => Some(Value::Stack(slot)),
            _ => None,
        },
        value => (instruction.memory_displacement64() == 0).then_some(value),
    }
}

fn product(one: Option<Value>, other: Option<Value>) -> Option<Value> {
    match (one?, other?) {
        (Value::Argument(one), Value::Argument(other)) if one.abs_diff(other) == 1 => {
            Some(Value::Product(one.min(other)))
        }
        _ => None,
    }
}

fn set(state: &mut State, register: usize, value: Option<Value>) {
    state.registers[register] = value;
    if register == RBP {
        state.holds_caller_bp = false;
        state.frame_pointer = matches!(value, Some(Value::Stack(_)));
    }
}
