//! Which rows to keep: those in whose range the last byte of a `call` or `syscall` may lie. All pcs but an
//! interrupted one are looked up as return address minus one, which is that byte. And those at whose instructions stacks begin.

use super::ehframe::RawRow;
use super::image::Image;
use super::locate::Code;
use heaptrace_common::unwind::Rule;
use std::{collections::BTreeSet, io};

/// Bytes of code in memory at once.
const WINDOW: usize = 256 << 10;

/// The longest call, from its opcode on: `ff`, ModRM, SIB, 4 bytes of displacement. Prefixes do not matter.
const LONGEST: u64 = 7;

/// Keeps the rows that a return address minus one can fall into, and merges equal neighbours. The result gives
/// for each such address, and for those in `begins`, what `rows` gives. Errors where the code cannot be read.
pub fn keep(
    rows: &[RawRow],
    code: &[Code],
    image: &dyn Image,
    begins: &BTreeSet<u64>,
) -> io::Result<Vec<RawRow>> {
    let mut reader = CodeReader { image, window: Vec::new(), start: 0 };
    let mut kept: Vec<RawRow> = Vec::new();
    let mut part = code.iter();
    let mut current = part.next();
    for (index, row) in rows.iter().enumerate() {
        while current.is_some_and(|code| code.end <= row.address) {
            current = part.next();
        }
        let end = rows.get(index + 1).map_or(u64::MAX, |next| next.address);
        let matters = match current {
            // Cheap, and worth having whatever the code looks like.
            _ if row.rule == Rule::STOP || row.rule == Rule::SIGNAL => true,
            Some(code) if code.start <= row.address && end <= code.end => {
                kept.last().map_or(Rule::NONE, |last| last.rule) != row.rule
                    && (begins.range(row.address..end).next().is_some()
                        || reader.call_may_end_in(code, row.address, end)?)
            }
            // Reaches out of the segment: where the code ends, so does the rule.
            _ => true,
        };
        if matters && kept.last().map_or(Rule::NONE, |last| last.rule) != row.rule {
            kept.push(*row);
        }
    }
    Ok(kept)
}

/// Reads code in order of address.
struct CodeReader<'a> {
    image: &'a dyn Image,
    window: Vec<u8>,
    /// Virtual address of the window's first byte.
    start: u64,
}

impl CodeReader<'_> {
    /// Whether the last byte of a call may lie in `[from, to)`, which is part of `code`. True where the file lacks
    /// the bytes.
    fn call_may_end_in(&mut self, code: &Code, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            // Calls that end in the range may begin before it.
            let begin = at.saturating_sub(LONGEST - 1).max(code.start);
            let until = to.min(begin + WINDOW as u64);
            if begin < self.start || until > self.start + self.window.len() as u64 {
                self.fill(code, begin)?;
                if until > self.start + self.window.len() as u64 {
                    return Ok(true);
                }
            }
            let bytes = &self.window[(begin - self.start) as usize..(until - self.start) as usize];
            if call_ends_from(bytes, (at - begin) as usize) {
                return Ok(true);
            }
            at = until;
        }
        Ok(false)
    }

    fn fill(&mut self, code: &Code, begin: u64) -> io::Result<()> {
        let wanted = (code.end - begin).min(WINDOW as u64) as usize;
        self.window.resize(wanted, 0);
        let filled = self.image.read_at(code.offset.saturating_add(begin - code.start), &mut self.window)?;
        self.window.truncate(filled);
        self.start = begin;
        Ok(())
    }
}

/// Whether at any byte of `bytes`, taken as the start of an instruction, there is a call whose last byte is in
/// `bytes` too, at index `from` or later.
fn call_ends_from(bytes: &[u8], from: usize) -> bool {
    // A byte earlier than this is part of no call that ends in time.
    let first = (from + 1).saturating_sub(LONGEST as usize);
    (first..bytes.len()).any(|at| {
        call_length(&bytes[at..]).is_some_and(|length| at + length > from && at + length <= bytes.len())
    })
}

/// Bytes from the opcode to the end, if the bytes may be a near call or a syscall. Bytes that are missing are
/// taken for those of the shortest form.
fn call_length(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [0xe8, ..] => Some(5),
        [0x0f, 0x05, ..] => Some(2),
        [0xff, modrm, ..] if modrm >> 3 & 7 == 2 => {
            let sib_byte = || bytes.get(2).copied().unwrap_or_default();
            let (mode, rm) = (modrm >> 6, modrm & 7);
            let sib = usize::from(mode != 3 && rm == 4);
            let displacement = match mode {
                0 if rm == 5 || rm == 4 && sib_byte() & 7 == 5 => 4,
                1 => 1,
                2 => 4,
                _ => 0,
            };
            Some(2 + sib + displacement)
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "callsites_tests.rs"]
mod tests;
