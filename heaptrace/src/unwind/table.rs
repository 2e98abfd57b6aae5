//! The table of one file: its rows by page of code, with rules numbered within the file. What goes into the BPF
//! maps is made of it by `store`.

use super::callsites;
use super::ehframe::{self, FrameStats, RawRow};
use super::image::Image;
use super::locate::{Code, FrameError};
use heaptrace_common::unwind::{CfaKind, FpKind, MAX_ROWS_PER_PAGE, PAGE_BITS, Rule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};

/// The most pages of one table, 1 GiB of code: the largest programs have a fifth of that, and a hostile file may
/// put two segments at the two ends of the address space.
pub const MAX_PAGES: u64 = 1 << 20;

/// Mappings begin and end at multiples of this, and so may reach so far around a segment.
const MEMORY_PAGE: u64 = 4096;

/// Which of a file's rows a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RowKind {
    /// Those in force at a call or system call: all that a return address needs, and a fifth of all.
    Calls,
    /// All, for frames that a signal or a fault interrupted.
    Exact,
}

/// The rows of one page of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageRows {
    /// Index of the first in `FileTable::rows`; never 0, because the row before is in force at the page's start.
    pub first_row: u32,
    pub count: u8,
}

/// A row within its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalRow {
    /// Low `PAGE_BITS` bits of the virtual address where it begins.
    pub low: u16,
    /// Index in `FileTable::rules`.
    pub rule: u16,
}

/// What a table was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStats {
    pub frames: FrameStats,
    /// Rows before and after dropping those without a call, if they were, neighbours with equal rules being merged in
    /// both.
    pub raw_rows: u32,
    pub kept_rows: u32,
    /// Rows dropped because their page had `MAX_ROWS_PER_PAGE` already: their code has no rule.
    pub rows_over_page_limit: u32,
    /// Rows whose rule became unsupported because the file has 65,535 others.
    pub rows_over_rule_limit: u32,
}

/// The unwind table of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileTable {
    first_page: u32,
    pages: Vec<PageRows>,
    rows: Vec<LocalRow>,
    rules: Vec<Rule>,
    stats: TableStats,
}

/// A failure to make a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error(transparent)]
    Frames(#[from] FrameError),
    #[error("failed to read the code")]
    Io(#[from] std::io::Error),
    #[error("code from {start:#x} to {end:#x} is too far apart or too high")]
    Range { start: u64, end: u64 },
    #[error("the parts of the table do not fit each other")]
    Inconsistent,
}

/// The number of `Rule::NONE` in every table.
const NONE: u16 = 0;
const UNSUPPORTED: u16 = 1;

impl FileTable {
    /// Makes the table of an ELF image.
    pub fn of(image: &dyn Image, kind: RowKind) -> Result<Self, TableError> {
        Self::with_begins(image, kind, &BTreeSet::new())
    }

    /// The same; stacks begin at these instructions, too.
    pub fn with_begins(image: &dyn Image, kind: RowKind, begins: &BTreeSet<u64>) -> Result<Self, TableError> {
        let frames = ehframe::read(image)?;
        let kept = match kind {
            RowKind::Calls => callsites::keep(&frames.rows, &frames.code, image, begins)?,
            RowKind::Exact => frames.rows.clone(),
        };
        let stats =
            TableStats { frames: frames.stats, raw_rows: frames.rows.len() as u32, ..TableStats::default() };
        Self::from_rows(&kept, &frames.code, stats)
    }

    /// Sorts rows into pages. `rows` and `code` are in order of address; `stats` is completed.
    pub fn from_rows(rows: &[RawRow], code: &[Code], stats: TableStats) -> Result<Self, TableError> {
        let start = code.first().map_or(0, |part| part.start) & !(MEMORY_PAGE - 1);
        let end = code.last().map_or(0, |part| part.end);
        let error = TableError::Range { start, end };
        let Some(covered_end) = end.checked_next_multiple_of(MEMORY_PAGE) else { return Err(error) };
        let (first, past) = (start >> PAGE_BITS, covered_end >> PAGE_BITS);
        // Below u32::MAX: page numbers are added up with 32 bits.
        let Some(first_page) = u32::try_from(first).ok().filter(|_| past < u64::from(u32::MAX)) else {
            return Err(error);
        };
        if past - first > MAX_PAGES {
            return Err(error);
        }
        let mut making = Making::new(stats, rows.len());
        let mut rest = &rows[rows.partition_point(|row| row.address < start)..];
        for page in first..past {
            let count = rest.partition_point(|row| row.address >> PAGE_BITS <= page);
            making.page(&rest[..count]);
            rest = &rest[count..];
        }
        Ok(making.done(first_page))
    }

    /// Puts a table together from parts that are not trusted.
    pub(super) fn from_parts(
        first_page: u32,
        pages: Vec<PageRows>,
        rows: Vec<LocalRow>,
        rules: Vec<Rule>,
        stats: TableStats,
    ) -> Result<Self, TableError> {
        let table = Self { first_page, pages, rows, rules, stats };
        if table.is_consistent() { Ok(table) } else { Err(TableError::Inconsistent) }
    }

    fn is_consistent(&self) -> bool {
        let page_is = |page: &PageRows| {
            let first = page.first_row as usize;
            let rows = self.rows.get(first..first + page.count as usize);
            first > 0
                && first <= self.rows.len()
                && rows.is_some_and(|rows| rows.windows(2).all(|pair| pair[0].low < pair[1].low))
        };
        let row_is = |row: &LocalRow| row.low < 1 << PAGE_BITS && (row.rule as usize) < self.rules.len();
        let past = u64::from(self.first_page) + self.pages.len() as u64;
        self.pages.len() as u64 <= MAX_PAGES
            && past < u64::from(u32::MAX)
            && self.rules.len() <= 1 << 16
            && self.rules.iter().all(|rule| is_well_formed(*rule))
            && self.rows.iter().all(row_is)
            && self.pages.iter().all(page_is)
    }

    /// Virtual address >> `PAGE_BITS` of the first page.
    pub fn first_page(&self) -> u32 {
        self.first_page
    }

    pub fn pages(&self) -> &[PageRows] {
        &self.pages
    }

    pub fn rows(&self) -> &[LocalRow] {
        &self.rows
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn stats(&self) -> &TableStats {
        &self.stats
    }

    /// The rule in force at a virtual address.
    pub fn lookup(&self, address: u64) -> Rule {
        let page = (address >> PAGE_BITS).checked_sub(u64::from(self.first_page));
        let Some(page) = page.and_then(|page| self.pages.get(usize::try_from(page).ok()?)) else {
            return Rule::NONE;
        };
        let low = (address & ((1 << PAGE_BITS) - 1)) as u16;
        let first = page.first_row as usize;
        let rows = &self.rows[first..first + page.count as usize];
        let before = first + rows.partition_point(|row| row.low <= low) - 1;
        self.rules[self.rows[before].rule as usize]
    }
}

fn is_well_formed(rule: Rule) -> bool {
    let (cfa, fp) = (rule.cfa_kind(), rule.fp_kind());
    cfa <= CfaKind::Unsupported as u64 && fp <= FpKind::RbpOffset as u64
}

struct Making {
    pages: Vec<PageRows>,
    rows: Vec<LocalRow>,
    rules: Vec<Rule>,
    numbers: HashMap<Rule, u16>,
    stats: TableStats,
}

impl Making {
    fn new(stats: TableStats, rows: usize) -> Self {
        let rules = vec![Rule::NONE, Rule::UNSUPPORTED];
        let numbers = HashMap::from([(Rule::NONE, NONE), (Rule::UNSUPPORTED, UNSUPPORTED)]);
        let mut first = Vec::with_capacity(rows + 1);
        first.push(LocalRow { low: 0, rule: NONE });
        Self { pages: Vec::new(), rows: first, rules, numbers, stats }
    }

    fn page(&mut self, rows: &[RawRow]) {
        let first_row = self.rows.len() as u32;
        let kept = if rows.len() > MAX_ROWS_PER_PAGE { MAX_ROWS_PER_PAGE - 1 } else { rows.len() };
        for row in &rows[..kept] {
            let rule = self.number(row.rule);
            self.rows.push(LocalRow { low: low(row), rule });
        }
        if let [first_dropped, .., last] = &rows[kept..] {
            self.stats.rows_over_page_limit += (rows.len() - kept) as u32;
            self.rows.push(LocalRow { low: low(first_dropped), rule: NONE });
            // Belongs to no page, but is the row before the next one.
            let rule = self.number(last.rule);
            self.pages.push(PageRows { first_row, count: MAX_ROWS_PER_PAGE as u8 });
            self.rows.push(LocalRow { low: low(last), rule });
        } else {
            self.pages.push(PageRows { first_row, count: kept as u8 });
        }
        self.stats.kept_rows += rows.len() as u32;
    }

    fn number(&mut self, rule: Rule) -> u16 {
        if let Some(number) = self.numbers.get(&rule) {
            return *number;
        }
        let Ok(number) = u16::try_from(self.rules.len()) else {
            self.stats.rows_over_rule_limit += 1;
            return UNSUPPORTED;
        };
        self.rules.push(rule);
        self.numbers.insert(rule, number);
        number
    }

    fn done(self, first_page: u32) -> FileTable {
        let Self { pages, rows, rules, numbers: _, stats } = self;
        FileTable { first_page, pages, rows, rules, stats }
    }
}

fn low(row: &RawRow) -> u16 {
    (row.address & ((1 << PAGE_BITS) - 1)) as u16
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
