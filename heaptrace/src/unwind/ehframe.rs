//! From call frame information to raw rows: every address of the code has the rule of the last row at or before
//! it. Hostile input costs bounded time and memory.

use super::image::Image;
use super::locate::{Code, Form, FrameError, Located, locate};
use super::rule::{Slice, Unsupported, rule};
use crate::process::cfi::{self, Storage};
use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, LittleEndian, UnwindContext,
    UnwindSection,
};
use heaptrace_common::unwind::{CfaKind, FpKind, Rule};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The most FDEs of a file: a browser of 200 MB has about a million. Each costs 24 bytes while rows are made.
pub const MAX_FDES: usize = 1 << 21;

/// The most raw rows of a file, 16 bytes each: 60 MB of LLVM code have 1.2 million.
pub const MAX_RAW_ROWS: usize = 1 << 23;

/// The most bytes of CIEs whose instructions are run, which is once for each FDE: a million of real ones' come to 24 MB.
const MAX_CIE_BYTES_RUN: usize = 128 << 20;

/// CIEs kept parsed. Real files have a few dozen; those beyond are parsed again for each FDE.
const MAX_CIES_KEPT: usize = 4096;

/// From `address` to the next row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRow {
    /// ELF virtual address.
    pub address: u64,
    pub rule: Rule,
}

/// What was met in the unwind information. Counts of FDEs, then of their rows, before equal neighbours merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameStats {
    pub fdes: u32,
    /// Not in executable memory: left over from functions that the linker dropped.
    pub fdes_outside: u32,
    /// Begin inside another one, which wins as far as it reaches.
    pub fdes_overlapping: u32,
    /// Unreadable, or of an unreadable or too long CIE.
    pub fdes_malformed: u32,
    /// The information breaks off: code beyond has no rule.
    pub cut_short: bool,
    pub rows: u32,
    pub cfa_rsp: u32,
    pub cfa_rbp: u32,
    pub cfa_dereferenced: u32,
    pub plt: u32,
    pub signal: u32,
    pub stop: u32,
    pub fp_lost: u32,
    pub unsupported_cfa_register: u32,
    pub unsupported_cfa_expression: u32,
    pub unsupported_return_address: u32,
    pub unsupported_offset: u32,
    pub unsupported_malformed: u32,
}

/// The raw rows of a file.
#[derive(Debug)]
pub struct Frames {
    /// In order of address, neighbours with different rules. The last is `NONE`, at the end of the last FDE.
    pub rows: Vec<RawRow>,
    /// Executable parts of the file, in order of address; all rows are inside or at the end of one.
    pub code: Vec<Code>,
    pub stats: FrameStats,
}

/// Reads all rows of an ELF image.
pub fn read(image: &dyn Image) -> Result<Frames, FrameError> {
    let Located { form, bytes, bases, code, entry } = locate(image)?;
    let (mut rows, stats) = match form {
        Form::EhFrame => {
            let mut section = EhFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            rows(&bytes, &section, &bases, &code)?
        }
        Form::DebugFrame => {
            let mut section = DebugFrame::new(&bytes, LittleEndian);
            section.set_address_size(8);
            rows(&bytes, &section, &bases, &code)?
        }
    };
    mark_entry(&mut rows, &code, entry);
    Ok(Frames { rows, code, stats })
}

/// The most code of an entry point that no FDE describes: glibc's, of the dynamic linker, has 52 bytes.
const MAX_ENTRY_BYTES: u64 = 256;

/// Code at the entry point has no caller. glibc's dynamic linker, from which libraries' constructors are called, and
/// musl's programs do not say so in an FDE (`_dl_start_user`, sysdeps/x86_64/dl-machine.h).
fn mark_entry(rows: &mut Vec<RawRow>, code: &[Code], entry: u64) {
    let Some(part) = code.iter().find(|part| (part.start..part.end).contains(&entry)) else { return };
    let next = rows.partition_point(|row| row.address <= entry);
    let described = next.checked_sub(1).is_some_and(|before| rows[before].rule != Rule::NONE);
    if described {
        return;
    }
    let following = rows.get(next).map_or(u64::MAX, |row| row.address);
    let end = following.min(part.end).min(entry.saturating_add(MAX_ENTRY_BYTES));
    let after = (end < following).then_some(RawRow { address: end, rule: Rule::NONE });
    rows.splice(next..next, std::iter::once(RawRow { address: entry, rule: Rule::STOP }).chain(after));
    // A row of no rule that begins where this one does.
    if let Some(before) = next.checked_sub(1).filter(|before| rows[*before].address == entry) {
        rows.remove(before);
    }
}

/// Where an FDE is, and what it is about.
struct Span {
    start: u64,
    end: u64,
    offset: usize,
}

/// Reads all rows of a section of unwind information, which consists of `bytes`. `code` is in order of address.
pub fn rows<'a, S: UnwindSection<Slice<'a>>>(
    bytes: &'a [u8],
    section: &S,
    bases: &BaseAddresses,
    code: &[Code],
) -> Result<(Vec<RawRow>, FrameStats), FrameError> {
    let cies = Cies { bytes, kept: HashMap::new() };
    let mut reader =
        Reader { section, bases, cies, cie_bytes_run: 0, rows: Vec::new(), stats: FrameStats::default() };
    let spans = reader.spans(code)?;
    let mut context = UnwindContext::new_in();
    let mut covered = 0;
    for span in spans {
        if span.start < covered {
            reader.stats.fdes_overlapping += 1;
        } else if span.start > covered && !reader.rows.is_empty() {
            reader.push(covered, Rule::NONE)?;
        }
        let from = span.start.max(covered);
        if from < span.end {
            reader.fde(&span, from, &mut context)?;
            covered = span.end;
        }
    }
    if !reader.rows.is_empty() {
        reader.push(covered, Rule::NONE)?;
    }
    Ok((reader.rows, reader.stats))
}

struct Reader<'s, 'a, S: UnwindSection<Slice<'a>>> {
    section: &'s S,
    bases: &'s BaseAddresses,
    cies: Cies<'a>,
    cie_bytes_run: usize,
    rows: Vec<RawRow>,
    stats: FrameStats,
}

impl<'a, S: UnwindSection<Slice<'a>>> Reader<'_, 'a, S> {
    /// The FDEs of executable memory by start, and of equal starts the first first.
    fn spans(&mut self, code: &[Code]) -> Result<Vec<Span>, FrameError> {
        let mut spans = Vec::new();
        let mut entries = self.section.entries(self.bases);
        loop {
            let partial = match entries.next() {
                Ok(None) => break,
                Ok(Some(CieOrFde::Cie(_))) => continue,
                Ok(Some(CieOrFde::Fde(partial))) => partial,
                Err(error) if self.stats.fdes == 0 => return Err(error.into()),
                Err(_) => {
                    self.stats.cut_short = true;
                    break;
                }
            };
            self.stats.fdes += 1;
            if self.stats.fdes as usize > MAX_FDES {
                let limit = MAX_FDES as u64;
                return Err(FrameError::TooMany { what: "FDEs", count: limit + 1, limit });
            }
            let offset = partial.offset();
            let Ok(fde) = partial.parse(|section, bases, at| self.cies.get(section, bases, at)) else {
                self.stats.fdes_malformed += 1;
                continue;
            };
            let start = fde.initial_address();
            let end = start.checked_add(fde.len()).filter(|end| *end > start);
            match end.filter(|end| code.iter().any(|part| part.start <= start && *end <= part.end)) {
                Some(end) => spans.push(Span { start, end, offset }),
                None => self.stats.fdes_outside += 1,
            }
        }
        spans.sort_unstable_by_key(|span| (span.start, span.offset));
        Ok(spans)
    }

    /// Adds the rows of an FDE from address `from` on.
    fn fde(
        &mut self,
        span: &Span,
        from: u64,
        context: &mut UnwindContext<usize, Storage>,
    ) -> Result<(), FrameError> {
        let cies = &mut self.cies;
        let fde = self.section.fde_from_offset(self.bases, span.offset.into(), |section, bases, at| {
            cies.get(section, bases, at)
        });
        // Parsed once already, so it parses again.
        let fde = fde?;
        self.cie_bytes_run += fde.cie().entry_len();
        if self.cie_bytes_run > MAX_CIE_BYTES_RUN {
            let (count, limit) = (self.cie_bytes_run as u64, MAX_CIE_BYTES_RUN as u64);
            return Err(FrameError::TooMany { what: "bytes of CIEs", count, limit });
        }
        let Ok(mut table) = fde.rows(self.section, self.bases, context) else {
            self.stats.fdes_malformed += 1;
            return self.push(from, Rule::UNSUPPORTED);
        };
        let mut done = span.start;
        while done < span.end {
            let found = match table.next_row() {
                Ok(Some(row)) => {
                    let found = rule(self.section, fde.cie().encoding(), row, fde.is_signal_trampoline());
                    // A row that is empty, as several at one address make, is nobody's.
                    if row.end_address() <= done {
                        continue;
                    }
                    let begins = done;
                    done = row.end_address().min(span.end);
                    if done <= from {
                        continue;
                    }
                    (begins.max(from), found)
                }
                // Its last row ends where the FDE does, so there is none left only after an error.
                Ok(None) => break,
                Err(_) => {
                    let begins = done.max(from);
                    done = span.end;
                    (begins, Err(Unsupported::Malformed))
                }
            };
            let (begins, found) = found;
            self.count(found);
            self.push(begins, found.unwrap_or(Rule::UNSUPPORTED))?;
        }
        Ok(())
    }

    fn push(&mut self, address: u64, rule: Rule) -> Result<(), FrameError> {
        match self.rows.last() {
            Some(last) if last.rule == rule => return Ok(()),
            None if rule == Rule::NONE => return Ok(()),
            _ => {}
        }
        if self.rows.len() >= MAX_RAW_ROWS {
            let limit = MAX_RAW_ROWS as u64;
            return Err(FrameError::TooMany { what: "rows", count: limit + 1, limit });
        }
        self.rows.push(RawRow { address, rule });
        Ok(())
    }

    fn count(&mut self, found: Result<Rule, Unsupported>) {
        let stats = &mut self.stats;
        stats.rows += 1;
        let counter = match found {
            Ok(rule) => {
                stats.fp_lost += u32::from(rule.fp_kind() == FpKind::Lost as u64);
                match rule.cfa_kind() {
                    kind if kind == CfaKind::Rsp as u64 => &mut stats.cfa_rsp,
                    kind if kind == CfaKind::Rbp as u64 => &mut stats.cfa_rbp,
                    kind if kind == CfaKind::Plt as u64 => &mut stats.plt,
                    kind if kind == CfaKind::Signal as u64 => &mut stats.signal,
                    kind if kind == CfaKind::Stop as u64 => &mut stats.stop,
                    _ => &mut stats.cfa_dereferenced,
                }
            }
            Err(Unsupported::CfaRegister) => &mut stats.unsupported_cfa_register,
            Err(Unsupported::CfaExpression) => &mut stats.unsupported_cfa_expression,
            Err(Unsupported::ReturnAddress) => &mut stats.unsupported_return_address,
            Err(Unsupported::Offset) => &mut stats.unsupported_offset,
            Err(Unsupported::Malformed) => &mut stats.unsupported_malformed,
        };
        *counter += 1;
    }
}

/// The CIEs of a section.
struct Cies<'a> {
    bytes: &'a [u8],
    kept: HashMap<usize, CommonInformationEntry<Slice<'a>>>,
}

impl<'a> Cies<'a> {
    fn get<S: UnwindSection<Slice<'a>>>(
        &mut self,
        section: &S,
        bases: &BaseAddresses,
        at: S::Offset,
    ) -> gimli::Result<CommonInformationEntry<Slice<'a>>> {
        let key = gimli::UnwindOffset::into(at);
        if let Some(cie) = self.kept.get(&key) {
            return Ok(cie.clone());
        }
        let cie = cfi::cie(self.bytes, section, bases, at)?;
        if self.kept.len() < MAX_CIES_KEPT {
            self.kept.insert(key, cie.clone());
        }
        Ok(cie)
    }
}

/// The rule in force at a virtual address, by raw rows.
pub fn lookup(rows: &[RawRow], address: u64) -> Rule {
    match rows.partition_point(|row| row.address <= address) {
        0 => Rule::NONE,
        after => rows[after - 1].rule,
    }
}

#[cfg(test)]
#[path = "ehframe_tests.rs"]
mod tests;
