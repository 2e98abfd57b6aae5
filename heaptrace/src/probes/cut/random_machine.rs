//! An interpreter of the few instructions that random functions are made of, which looks at sites as probes do.

use super::assembler::{BASE, Program};
use super::{CutSite, Place, Role};
use heaptrace_common::probe::condition;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::HashMap;

const RETURN: u64 = 0xdead_beef;
const STACK: u64 = 0x7fff_0000;

/// What a site saw.
#[derive(Debug, PartialEq)]
pub struct Event {
    pub role: Role,
    pub size: Option<u64>,
    pub result: Option<u64>,
}

pub struct Machine<'a> {
    program: &'a Program,
    sites: &'a [CutSite],
    pub registers: [u64; 16],
    memory: HashMap<u64, u8>,
    zero: bool,
    random: u64,
    pub events: Vec<Event>,
    acted: bool,
    /// Something was done that others can see before a site was hit.
    pub acted_before_site: bool,
}

impl<'a> Machine<'a> {
    pub fn new(program: &'a Program, sites: &'a [CutSite], seed: u64) -> Self {
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
    pub fn run(&mut self) -> Option<u64> {
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

    /// Whether the call came back to its caller's frame.
    pub fn is_sane(&self) -> bool {
        self.registers[4] == STACK + 8 && self.read(STACK) == RETURN
    }
}
