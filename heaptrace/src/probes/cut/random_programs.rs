//! Random functions as machine code, for tests.

use super::assembler::{Assembler, Program};
use proptest::prelude::*;

/// Registers that programs use, callee-saved ones last.
const REGISTERS: [u8; 9] = [0, 1, 2, 6, 7, 3, 5, 12, 13];
const SAVED: [u8; 4] = [3, 5, 12, 13];

/// Slots of a frame, of 8 bytes.
const FRAME: u8 = 4;

#[derive(Clone, Debug)]
pub enum Statement {
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

pub fn body() -> impl Strategy<Value = Vec<Statement>> {
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
            S::Call => {
                self.assembler.call("callee");
            }
            // imul rdi, rsi
            S::Multiply => {
                self.assembler.raw(&[0x48, 0x0f, 0xaf, 0xfe]);
            }
            S::Abort => {
                self.assembler.call("abort");
            }
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
pub fn program(body: &[Statement], other: &[Statement], shared: bool) -> Program {
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
