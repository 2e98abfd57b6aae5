//! Random functions, run by an interpreter: whatever sites are chosen, each call passes one that sees all of it, or one
//! that keeps its arguments and then one that sees its result; and what is seen there is what was asked for and what
//! comes back.

use super::assembler::{Assembler, BASE, Program};
use super::*;
use heaptrace_common::probe::condition;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;
use std::collections::HashMap;

/// Registers that programs use, callee-saved ones last.
const REGISTERS: [u8; 9] = [0, 1, 2, 6, 7, 3, 5, 12, 13];
const SAVED: [u8; 4] = [3, 5, 12, 13];

/// Slots of a frame, of 8 bytes.
const FRAME: u8 = 4;

#[derive(Clone, Debug)]
enum Statement {
    Copy(u8, u8),
    Load(u8, u8),
    Store(u8, u8),
    /// `lea`: a slot's address gets out.
    Address(u8, u8),
    /// Through a pointer.
    StoreTo(u8, u8),
    Clear(u8),
    Add(u8),
    Call,
    Multiply,
    Abort,
    Return,
    /// Jumps into the other function.
    Tail,
    Pushed(u8, Vec<Statement>, u8),
    If(u8, Vec<Statement>, Vec<Statement>),
    While(u8, Vec<Statement>),
}

use Statement as S;

fn register() -> impl Strategy<Value = u8> {
    prop::sample::select(&REGISTERS[..])
}

fn statement() -> impl Strategy<Value = Statement> {
    let slot = || 0..FRAME;
    let simple = prop_oneof![
        6 => (register(), register()).prop_map(|(to, from)| S::Copy(to, from)),
        // What compilers do: results are kept and given back.
        4 => prop::sample::select(&SAVED[..]).prop_map(|to| S::Copy(to, 0)),
        4 => prop::sample::select(&SAVED[..]).prop_map(|from| S::Copy(0, from)),
        2 => prop::sample::select(&SAVED[..]).prop_map(|to| S::Copy(to, 7)),
        3 => (register(), slot()).prop_map(|(to, slot)| S::Load(to, slot)),
        3 => (slot(), register()).prop_map(|(slot, from)| S::Store(slot, from)),
        1 => (register(), slot()).prop_map(|(to, slot)| S::Address(to, slot)),
        1 => (register(), register()).prop_map(|(to, from)| S::StoreTo(to, from)),
        2 => register().prop_map(S::Clear),
        1 => register().prop_map(S::Add),
        4 => Just(S::Call),
        1 => Just(S::Multiply),
        1 => Just(S::Abort),
        1 => Just(S::Return),
        1 => Just(S::Tail),
    ];
    simple.prop_recursive(4, 40, 6, |inner| {
        let block = || prop::collection::vec(inner.clone(), 0..6);
        prop_oneof![
            1 => (register(), block(), register()).prop_map(|(from, inside, to)| S::Pushed(from, inside, to)),
            4 => (register(), block(), block()).prop_map(|(tested, yes, no)| S::If(tested, yes, no)),
            1 => (register(), block()).prop_map(|(tested, body)| S::While(tested, body)),
        ]
    })
}

fn body() -> impl Strategy<Value = Vec<Statement>> {
    prop::collection::vec(statement(), 1..12)
}

/// Writes functions.
struct Writer {
    assembler: Assembler,
    labels: usize,
    /// Bytes pushed beyond the frame.
    pushed: u8,
}

impl Writer {
    fn label(&mut self) -> String {
        self.labels += 1;
        self.labels.to_string()
    }

    fn modrm(&mut self, opcode: &[u8], register: u8, other: u8) {
        let rex = 0x48 | (register >> 3) << 2 | other >> 3;
        self.assembler.raw(&[&[rex], opcode, &[0xc0 | (register & 7) << 3 | other & 7]].concat());
    }

    fn slot(&mut self, opcode: u8, register: u8, slot: u8) {
        let offset = self.pushed + 8 * slot;
        self.assembler.raw(&[0x48 | (register >> 3) << 2, opcode, 0x44 | (register & 7) << 3, 0x24, offset]);
    }

    fn push(&mut self, register: u8) {
        if register > 7 {
            self.assembler.raw(&[0x41]);
        }
        self.assembler.raw(&[0x50 | register & 7]);
    }

    fn pop(&mut self, register: u8) {
        if register > 7 {
            self.assembler.raw(&[0x41]);
        }
        self.assembler.raw(&[0x58 | register & 7]);
    }

    fn function(&mut self, name: &str, body: &[Statement]) {
        self.assembler.function(name);
        SAVED.iter().for_each(|register| self.push(*register));
        self.assembler.raw(&[0x48, 0x83, 0xec, 8 * FRAME]);
        self.block(body);
        self.epilogue();
        self.assembler.raw(&[0xc3]);
    }

    fn epilogue(&mut self) {
        self.assembler.raw(&[0x48, 0x83, 0xc4, 8 * FRAME + self.pushed]);
        SAVED.iter().rev().for_each(|register| self.pop(*register));
    }

    fn block(&mut self, body: &[Statement]) {
        body.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            S::Copy(to, from) => self.modrm(&[0x89], *from, *to),
            S::Load(to, slot) => self.slot(0x8b, *to, *slot),
            S::Store(slot, from) => self.slot(0x89, *from, *slot),
            S::Address(to, slot) => self.slot(0x8d, *to, *slot),
            S::StoreTo(to, from) => {
                // mov [to + 0], from; with a byte of displacement there is no special register but r12.
                let rex = 0x48 | (from >> 3) << 2 | to >> 3;
                let sib: &[u8] = if to & 7 == 4 { &[0x24] } else { &[] };
                let modrm = 0x40 | (from & 7) << 3 | to & 7;
                self.assembler.raw(&[&[rex, 0x89, modrm], sib, &[0]].concat());
            }
            S::Clear(register) => self.modrm(&[0x31], *register, *register),
            S::Add(register) => {
                self.modrm(&[0x83], 0, *register);
                self.assembler.raw(&[1]);
            }
            S::Call => drop(self.assembler.call("callee")),
            // imul rdi, rsi
            S::Multiply => drop(self.assembler.raw(&[0x48, 0x0f, 0xaf, 0xfe])),
            S::Abort => drop(self.assembler.call("abort")),
            S::Return => {
                self.epilogue();
                self.assembler.raw(&[0xc3]);
            }
            S::Tail => {
                self.epilogue();
                self.assembler.jmp("other");
            }
            S::Pushed(from, inside, to) => {
                self.push(*from);
                self.pushed += 8;
                self.block(inside);
                self.pushed -= 8;
                self.pop(*to);
            }
            S::If(tested, yes, no) => {
                let (otherwise, end) = (self.label(), self.label());
                self.modrm(&[0x85], *tested, *tested);
                self.assembler.jcc(4, &otherwise);
                self.block(yes);
                self.assembler.jmp(&end);
                self.assembler.label(&otherwise);
                self.block(no);
                self.assembler.label(&end);
            }
            S::While(tested, body) => {
                let again = self.label();
                self.assembler.label(&again);
                self.block(body);
                self.modrm(&[0x85], *tested, *tested);
                self.assembler.jcc(5, &again);
            }
        }
    }
}

/// A function, one that it may jump into, and what they call. `shared`: somebody else calls the other one, too.
fn program(body: &[Statement], other: &[Statement], shared: bool) -> Program {
    let mut writer = Writer { assembler: Assembler::default(), labels: 0, pushed: 0 };
    writer.function("entry", body);
    let without: Vec<Statement> = other.iter().filter(|s| !matches!(s, S::Tail)).cloned().collect();
    writer.function("other", &without);
    writer.assembler.function("callee").raw(&[0xc3]);
    writer.assembler.function("abort").raw(&[0x0f, 0x0b]);
    if shared {
        writer.assembler.function("stranger").call("other").raw(&[0xc3]);
    }
    writer.assembler.done()
}

const RETURN: u64 = 0xdead_beef;
const STACK: u64 = 0x7fff_0000;

/// What a site saw.
#[derive(Debug, PartialEq)]
struct Event {
    role: Role,
    size: Option<u64>,
    result: Option<u64>,
}

struct Machine<'a> {
    program: &'a Program,
    sites: &'a [CutSite],
    registers: [u64; 16],
    memory: HashMap<u64, u8>,
    zero: bool,
    random: u64,
    events: Vec<Event>,
    acted: bool,
    acted_before_site: bool,
}

impl<'a> Machine<'a> {
    fn new(program: &'a Program, sites: &'a [CutSite], seed: u64) -> Self {
        let mut machine = Self {
            program,
            sites,
            registers: [0; 16],
            memory: HashMap::new(),
            zero: false,
            random: seed | 1,
            events: Vec::new(),
            acted: false,
            acted_before_site: false,
        };
        for register in 0..16 {
            machine.registers[register] = machine.value();
        }
        machine.registers[4] = STACK;
        machine.write(STACK, RETURN);
        machine
    }

    /// Mostly something that is nowhere else, sometimes 0.
    fn value(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        if self.random.is_multiple_of(3) { 0 } else { self.random }
    }

    fn read(&self, address: u64) -> u64 {
        let byte = |index| self.memory.get(&(address.wrapping_add(index))).copied().unwrap_or(0x5a);
        u64::from_le_bytes(std::array::from_fn(|index| byte(index as u64)))
    }

    fn write(&mut self, address: u64, value: u64) {
        for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
            self.memory.insert(address.wrapping_add(index as u64), byte);
        }
    }

    fn place(&self, place: Place) -> Option<u64> {
        match place {
            Place::None => None,
            Place::Zero => Some(0),
            Place::Register(number) => Some(self.registers[usize::from(number)]),
            Place::Stack(offset) => Some(self.read(self.registers[4] + u64::from(offset))),
        }
    }

    fn probe(&mut self, at: u64) {
        let flags = if self.zero { 0x40 } else { 0 };
        for site in self.sites.iter().filter(|site| site.address == at) {
            let entry = self.registers[4] + u64::from(site.pushed);
            assert_eq!((entry, self.read(entry)), (STACK, RETURN), "{site:?}");
            if condition::holds(site.condition, flags) {
                let factor = self.place(site.factor).unwrap_or(1);
                let size = self.place(site.size).map(|size| size.wrapping_mul(factor));
                self.events.push(Event { role: site.role, size, result: self.place(site.result) });
                self.acted_before_site |= self.acted;
            }
        }
    }

    /// What the call returned; `None` if it never did.
    fn run(&mut self) -> Option<u64> {
        let mut at = self.program.at("entry");
        for _ in 0..600 {
            if at == RETURN {
                return Some(self.registers[0]);
            }
            self.probe(at);
            let bytes = &self.program.code[(at - BASE) as usize..];
            let instruction = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            at = self.step(&instruction)?;
        }
        None
    }

    fn step(&mut self, instruction: &Instruction) -> Option<u64> {
        let mut next = instruction.next_ip();
        let number = |operand| instruction.op_register(operand).full_register().number();
        match instruction.mnemonic() {
            Mnemonic::Mov => {
                let value = self.operand(instruction, 1);
                if instruction.op0_kind() == OpKind::Register {
                    self.registers[number(0)] = value;
                } else {
                    self.acted |= instruction.memory_base() != Register::RSP;
                    self.write(self.address(instruction), value);
                }
            }
            Mnemonic::Lea => self.registers[number(0)] = self.address(instruction),
            Mnemonic::Xor => {
                self.registers[number(0)] = 0;
                self.zero = true;
            }
            Mnemonic::Add | Mnemonic::Sub => {
                let by = instruction.immediate(1);
                let by = if instruction.mnemonic() == Mnemonic::Sub { by.wrapping_neg() } else { by };
                let sum = self.registers[number(0)].wrapping_add(by);
                self.registers[number(0)] = sum;
                self.zero = sum == 0;
            }
            Mnemonic::Imul => {
                self.registers[7] = self.registers[7].wrapping_mul(self.registers[6]);
            }
            Mnemonic::Test => self.zero = self.registers[number(0)] == 0,
            Mnemonic::Push => {
                let value = self.registers[number(0)];
                self.registers[4] -= 8;
                self.write(self.registers[4], value);
            }
            Mnemonic::Pop => {
                self.registers[number(0)] = self.read(self.registers[4]);
                self.registers[4] += 8;
            }
            Mnemonic::Ret => {
                next = self.read(self.registers[4]);
                self.registers[4] += 8;
            }
            Mnemonic::Jmp => next = instruction.near_branch_target(),
            Mnemonic::Je if self.zero => next = instruction.near_branch_target(),
            Mnemonic::Jne if !self.zero => next = instruction.near_branch_target(),
            Mnemonic::Je | Mnemonic::Jne => {}
            Mnemonic::Call if instruction.near_branch_target() == self.program.at("abort") => return None,
            Mnemonic::Call => self.call(),
            other => panic!("{other:?}"),
        }
        Some(next)
    }

    /// A callee that uses all that it may.
    fn call(&mut self) {
        self.acted = true;
        // Arguments that are addresses of the frame: it writes there.
        for argument in [7, 6, 2, 1] {
            let address = self.registers[argument];
            if (self.registers[4]..STACK - 32).contains(&address) {
                let value = self.value();
                self.write(address, value);
            }
        }
        for depth in 1..=40 {
            let value = self.value();
            self.write(self.registers[4] - 8 * depth, value);
        }
        for register in [0, 1, 2, 6, 7, 8, 9, 10, 11] {
            self.registers[register] = self.value();
        }
    }

    fn address(&self, instruction: &Instruction) -> u64 {
        let base = instruction.memory_base().number();
        self.registers[base].wrapping_add(instruction.memory_displacement64())
    }

    fn operand(&self, instruction: &Instruction, operand: u32) -> u64 {
        match instruction.op_kind(operand) {
            OpKind::Register => self.registers[instruction.op_register(operand).number()],
            _ => self.read(self.address(instruction)),
        }
    }
}

/// A function must not break its caller's frame: the program's own fault.
fn is_sane(machine: &Machine<'_>) -> bool {
    machine.registers[4] == STACK + 8 && machine.read(STACK) == RETURN
}

const EMULATION: Emulation = Emulation { push: true, long_nops: false };

fn check(program: &Program, shape: Shape, seeds: &[u64]) -> Result<Option<Kind>, TestCaseError> {
    let image = program.image();
    let entry = program.at("entry");
    let Ok(cut) = analyse(&image, &Request { entry, shape, probed: &[entry], emulation: EMULATION }) else {
        return Ok(None);
    };
    for seed in seeds {
        let mut machine = Machine::new(program, &cut.sites, *seed);
        let (first, second) = (machine.registers[7], machine.registers[6]);
        let asked = match shape {
            Shape::Size0 => first,
            Shape::Size1 | Shape::Resize => second,
            _ => first.wrapping_mul(second),
        };
        let Some(returned) = machine.run() else {
            let results = machine.events.iter().filter(|event| event.role != Role::Begin).count();
            prop_assert!(results <= 1, "{:?}", machine.events);
            continue;
        };
        if !is_sane(&machine) {
            continue;
        }
        let seen = match machine.events.as_slice() {
            [whole @ Event { role: Role::Whole, .. }] => (whole.size, whole.result),
            [begin @ Event { role: Role::Begin, .. }, result @ Event { role: Role::Result, .. }] => {
                (begin.size, result.result)
            }
            other => return Err(TestCaseError::fail(format!("{other:?} of {:?}", cut.sites))),
        };
        prop_assert_eq!(seen.1, Some(returned), "{:?}", &cut.sites);
        if seen.0.is_some() || returned != 0 {
            prop_assert_eq!(seen.0, Some(asked), "{:?}", &cut.sites);
        }
    }
    Ok(Some(cut.kind))
}

fn check_free(program: &Program, seeds: &[u64]) -> Result<(), TestCaseError> {
    let image = program.image();
    let Ok(site) = free_site(&image, program.at("entry"), EMULATION) else { return Ok(()) };
    let sites = [CutSite { size: Place::Register(7), ..site }];
    for seed in seeds {
        let mut machine = Machine::new(program, &sites, *seed);
        let block = machine.registers[7];
        let returned = machine.run().is_some() && is_sane(&machine);
        let hits = machine.events.len();
        prop_assert!(hits <= 1 && !machine.acted_before_site);
        prop_assert!(machine.events.iter().all(|event| event.size == Some(block)));
        prop_assert!(hits == 1 || block == 0 || !returned);
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_call_is_seen_once_and_right(
        body in body(),
        other in body(),
        shared: bool,
        shape in prop::sample::select(vec![Shape::Size0, Shape::Size1, Shape::Product01, Shape::Resize]),
        seeds in prop::collection::vec(any::<u64>(), 12),
    ) {
        let program = program(&body, &other, shared);
        check(&program, shape, &seeds)?;
        check_free(&program, &seeds)?;
    }
}

/// The test above would pass if nothing were ever found.
#[test]
fn random_functions_have_cuts_of_all_kinds() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut found: HashMap<Option<Kind>, usize> = HashMap::new();
    for _ in 0..300 {
        let (body, other) = (body(), body()).new_tree(&mut runner).expect("a program").current();
        let kind = check(&program(&body, &other, true), Shape::Size0, &[1, 2, 3]).expect("seen once");
        *found.entry(kind).or_default() += 1;
    }
    for kind in [Kind::OneTrap, Kind::Stash, Kind::EntryAndExits, Kind::Stepped] {
        assert!(found.get(&Some(kind)).is_some_and(|count| *count >= 3), "{found:?}");
    }
}
