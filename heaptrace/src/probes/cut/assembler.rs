//! Machine code for tests: raw bytes, jumps to labels, and functions at addresses.

use super::image::Image;
use std::collections::HashMap;
use std::ops::Range;

/// Where tests' code begins.
pub const BASE: u64 = 0x10_0000;

/// Code that grows. Jumps have displacements of 4 bytes.
#[derive(Default)]
pub struct Assembler {
    pub code: Vec<u8>,
    labels: HashMap<String, u64>,
    jumps: Vec<(usize, String)>,
    functions: Vec<u64>,
}

impl Assembler {
    pub fn here(&self) -> u64 {
        BASE + self.code.len() as u64
    }

    /// A function begins.
    pub fn function(&mut self, name: &str) -> &mut Self {
        self.functions.push(self.here());
        self.label(name)
    }

    pub fn label(&mut self, name: &str) -> &mut Self {
        self.labels.insert(name.to_owned(), self.here());
        self
    }

    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.extend_from_slice(bytes);
        self
    }

    fn displacement(&mut self, label: &str) -> &mut Self {
        self.jumps.push((self.code.len(), label.to_owned()));
        self.raw(&[0; 4])
    }

    pub fn jmp(&mut self, label: &str) -> &mut Self {
        self.raw(&[0xe9]).displacement(label)
    }

    pub fn call(&mut self, label: &str) -> &mut Self {
        self.raw(&[0xe8]).displacement(label)
    }

    /// `lea rax, [rip + label]`
    pub fn lea(&mut self, label: &str) -> &mut Self {
        self.raw(&[0x48, 0x8d, 0x05]).displacement(label)
    }

    /// A conditional jump by the low nibble of its opcode: 4 is e, 5 ne.
    pub fn jcc(&mut self, nibble: u8, label: &str) -> &mut Self {
        self.raw(&[0x0f, 0x80 | nibble]).displacement(label)
    }

    /// Resolves all jumps.
    pub fn done(mut self) -> Program {
        for (at, label) in &self.jumps {
            let next = BASE + *at as u64 + 4;
            let distance = (self.labels[label].wrapping_sub(next)) as u32;
            self.code[*at..*at + 4].copy_from_slice(&distance.to_le_bytes());
        }
        let ends = self.functions.iter().skip(1).copied().chain([self.here()]);
        let spans = self.functions.iter().zip(ends).map(|(start, end)| *start..end).collect();
        Program { code: self.code, labels: self.labels, spans }
    }
}

/// Finished code.
pub struct Program {
    pub code: Vec<u8>,
    labels: HashMap<String, u64>,
    spans: Vec<Range<u64>>,
}

impl Program {
    pub fn at(&self, label: &str) -> u64 {
        self.labels[label]
    }

    pub fn image(&self) -> Image<'_> {
        Image::of_code(BASE, &self.code, &self.spans)
    }
}

/// The function `entry`, and one `callee` that it may call.
pub fn program(write: impl FnOnce(&mut Assembler)) -> Program {
    let mut assembler = Assembler::default();
    assembler.function("entry");
    write(&mut assembler);
    assembler.function("callee").raw(&[0xc3]);
    assembler.done()
}
