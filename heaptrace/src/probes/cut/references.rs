//! All branches and pointers from one function of a file into another, found by a sweep through its code. What leads
//! into the middle of a function's code makes it unfit for a cut: calls could come or go past its sites.

use super::frames::Span;
use super::memory::Memory;
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind};
use std::ops::Range;

/// Where code is referred to from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A jump or call at this address.
    Branch(u64),
    /// A pointer: anybody may go there.
    Pointer,
}

/// References, in order of target.
#[derive(Debug, Default)]
pub struct References {
    all: Vec<(u64, Source)>,
    called: Vec<u64>,
}

/// What of a file is looked at. Its fields are as those of an image.
pub struct Swept<'a, 'data> {
    pub memory: &'a Memory<'data>,
    pub code: &'a [Range<u64>],
    pub spans: &'a [Span],
    pub pointers: &'a [u64],
    pub fixed: bool,
}

/// The most entries of a jump table that are followed.
const MAX_TABLE: usize = 4096;

impl References {
    /// Sweeps through the code of a file.
    pub fn read(file: &Swept<'_, '_>) -> Self {
        let mut sweep = Sweep { file, found: Self::default(), data: Vec::new(), switches: Vec::new() };
        for part in parts(file.code, file.spans) {
            sweep.part(&part);
        }
        sweep.tables();
        let mut found = sweep.found;
        found.all.extend(file.pointers.iter().map(|pointer| (*pointer, Source::Pointer)));
        found.all.sort_unstable();
        found.all.dedup();
        found.called.sort_unstable();
        found.called.dedup();
        found
    }

    /// Those to an address in `range`.
    pub fn into(&self, range: Range<u64>) -> &[(u64, Source)] {
        let first = self.all.partition_point(|(target, _)| *target < range.start);
        let last = self.all.partition_point(|(target, _)| *target < range.end);
        self.all.get(first..last).unwrap_or_default()
    }

    /// What is called from anywhere.
    pub fn called(&self) -> &[u64] {
        &self.called
    }
}

/// The code, in functions and what lies between them.
fn parts(code: &[Range<u64>], spans: &[Span]) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    for range in code {
        let first = spans.partition_point(|span| span.end <= range.start);
        let mut at = range.start;
        for span in spans[first..].iter().take_while(|span| span.start < range.end) {
            parts.push(at..span.start.max(at));
            at = span.end.min(range.end).max(at);
            parts.push(span.start.max(range.start)..at);
        }
        parts.push(at..range.end);
    }
    parts.retain(|part| part.start < part.end);
    parts
}

struct Sweep<'a, 'data> {
    file: &'a Swept<'a, 'data>,
    found: References,
    /// What instructions take the address of, outside of code.
    data: Vec<u64>,
    /// Such addresses in functions that jump to computed ones.
    switches: Vec<u64>,
}

impl Sweep<'_, '_> {
    fn part(&mut self, part: &Range<u64>) {
        let Some(bytes) = self.file.memory.bytes(part.start) else { return };
        let length = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(length)];
        let mut decoder = Decoder::with_ip(64, bytes, part.start, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let (before, mut computed) = (self.data.len(), false);
        while decoder.can_decode() {
            let at = decoder.position();
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                // Data or padding: the next byte may begin something.
                if decoder.set_position(at + 1).is_err() {
                    break;
                }
                decoder.set_ip(part.start.wrapping_add(at as u64 + 1));
                continue;
            }
            computed |= instruction.flow_control() == FlowControl::IndirectBranch;
            self.instruction(part, &instruction);
        }
        if computed {
            self.switches.extend_from_slice(&self.data[before..]);
        }
    }

    fn instruction(&mut self, part: &Range<u64>, instruction: &Instruction) {
        if matches!(instruction.op0_kind(), OpKind::NearBranch64) {
            let target = instruction.near_branch_target();
            let is_call = instruction.flow_control() == FlowControl::Call;
            if is_call {
                self.found.called.push(target);
            }
            // Without spans a part is a whole section, and says nothing.
            if !part.contains(&target) || self.file.spans.is_empty() || is_call {
                self.found.all.push((target, Source::Branch(instruction.ip())));
            }
        } else if instruction.code() == Code::Lea_r64_m && instruction.is_ip_rel_memory_operand() {
            let target = instruction.ip_rel_memory_address();
            if self.file.memory.is_code(target) {
                self.found.all.push((target, Source::Pointer));
            } else {
                self.data.push(target);
            }
        } else if self.file.fixed {
            self.fixed(instruction);
        }
    }

    /// Addresses in the instructions of a program that is not relocated.
    fn fixed(&mut self, instruction: &Instruction) {
        for operand in 0..instruction.op_count() {
            let value = match instruction.op_kind(operand) {
                OpKind::Immediate64 | OpKind::Immediate32 | OpKind::Immediate32to64 => {
                    instruction.immediate(operand)
                }
                OpKind::Memory => instruction.memory_displacement64(),
                _ => continue,
            };
            if self.file.memory.is_code(value) {
                self.found.all.push((value, Source::Pointer));
            }
        }
    }

    /// Jump tables: distances from the table's beginning, of 4 bytes, up to the next thing that code refers to.
    fn tables(&mut self) {
        self.data.sort_unstable();
        self.data.dedup();
        self.switches.sort_unstable();
        self.switches.dedup();
        for table in &self.switches {
            let next = self.data.get(self.data.partition_point(|address| address <= table));
            let room = next.map_or(u64::MAX, |next| next - table) / 4;
            let bytes = self.file.memory.bytes(*table).unwrap_or_default();
            let entries =
                bytes.chunks_exact(4).take(usize::try_from(room).unwrap_or(MAX_TABLE).min(MAX_TABLE));
            for entry in entries {
                let distance = i32::from_le_bytes(entry.try_into().unwrap_or_default());
                let target = table.wrapping_add_signed(i64::from(distance));
                if !self.file.memory.is_code(target) {
                    break;
                }
                self.found.all.push((target, Source::Branch(*table)));
            }
        }
    }
}
