//! Residency: which files' tables are in the BPF maps `ROWS`, `PAGES` and `RULES`, where, and for how many users.
//! Knows the maps only as arrays; publishing mappings that refer to them is the caller's.
//!
//! Walkers read the arrays at any time. So what `insert` writes is reachable only once the caller publishes a
//! mapping to it, and what `release` gives up keeps its contents until the caller says, by `reclaim`, that no list in
//! force refers to it any more.

use super::space::Space;
use super::table::{FileTable, RowKind};
use crate::process::object::FileStamp;
use heaptrace_common::unwind::{MAX_RULES, Page, Row, Rule, SHARD, TablePlace};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// The maps' memory, as the kernel shares it. Atomics, because BPF programs read it meanwhile.
pub trait Arrays {
    /// `ROWS`: all shards in a row. What lies beyond 2^24 is not used: a `Page` cannot name it.
    fn rows(&self) -> &[AtomicU32];
    /// `PAGES`: all shards in a row.
    fn pages(&self) -> &[AtomicU32];
    /// `RULES`. What lies beyond `MAX_RULES` is not used.
    fn rules(&self) -> &[AtomicU64];
}

/// Which file's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileKey {
    File(FileStamp),
    /// The kernel's own, the same in all 64-bit processes.
    Vdso,
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableKey {
    pub file: FileKey,
    pub rows: RowKind,
}

/// Where a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resident {
    pub place: TablePlace,
    /// Rows with those repeated for pages apart, and rows that are unsupported because `RULES` is full.
    pub rows: u32,
    pub rows_without_rule: u32,
}

/// Which array is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Array {
    Rows,
    Pages,
}

impl Array {
    fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Pages => "pages",
        }
    }
}

/// A table does not fit; its file's code is walked by frame pointers. Reclaiming may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for unwind {}: {needed} needed at least, {free} free", what.name())]
pub struct Full {
    pub what: Array,
    /// Elements.
    pub needed: u32,
    /// Elements, not necessarily together.
    pub free: u64,
}

/// The arrays cannot hold even what every table needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the unwind maps are too small")]
pub struct TooSmall;

/// How full the arrays are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub files: u32,
    /// Of those, without a user: kept until they are reclaimed.
    pub retired: u32,
    /// Elements in use and in all.
    pub rows: (u64, u64),
    pub pages: (u64, u64),
    pub rules: (u64, u64),
}

impl Usage {
    /// Whether half of the rows or pages are in use.
    pub fn is_half_full(&self) -> bool {
        [self.rows, self.pages].into_iter().any(|(used, all)| used > all / 2)
    }

    /// Bytes in use.
    pub fn bytes(&self) -> u64 {
        4 * (self.rows.0 + self.pages.0) + 8 * self.rules.0
    }
}

#[derive(Debug)]
struct Entry {
    resident: Resident,
    rows: Vec<Range<u32>>,
    users: u32,
}

/// The tables in the arrays.
#[derive(Debug)]
pub struct Store<A> {
    arrays: A,
    rows: Space,
    pages: Space,
    row_capacity: u32,
    page_capacity: u32,
    /// Rules are not counted or freed: rows of many files share them, they are few (1,161 in 22 objects, and each
    /// further file brings fewer), and a walker's cache of rule numbers stays right as long as none changes.
    rules: HashMap<Rule, u16>,
    rule_capacity: usize,
    files: HashMap<TableKey, Entry>,
}

/// Rows that a `Page`'s 24 bits can name.
const MAX_ROWS: usize = 1 << 24;

const UNSUPPORTED: u16 = 1;

impl<A: Arrays> Store<A> {
    /// A store over arrays that nothing refers to.
    pub fn new(arrays: A) -> Result<Self, TooSmall> {
        let row_capacity = arrays.rows().len().min(MAX_ROWS) as u32;
        // `NO_TABLE` must stay free.
        let page_capacity = arrays.pages().len().min(1 << 31) as u32;
        let rule_capacity = arrays.rules().len().min(MAX_RULES);
        if rule_capacity < 2 {
            return Err(TooSmall);
        }
        let mut store = Self {
            rows: Space::new(row_capacity, SHARD as u32),
            pages: Space::new(page_capacity, u32::MAX),
            row_capacity,
            page_capacity,
            rules: HashMap::new(),
            rule_capacity,
            files: HashMap::new(),
            arrays,
        };
        // 0 is what zeroed memory says, 1 what a rule becomes for which there is no room.
        store.number(Rule::NONE);
        store.number(Rule::UNSUPPORTED);
        Ok(store)
    }

    pub fn arrays(&self) -> &A {
        &self.arrays
    }

    /// One more user of a file's table, if it is resident, retired or not.
    pub fn acquire(&mut self, key: &TableKey) -> Option<Resident> {
        let entry = self.files.get_mut(key)?;
        entry.users += 1;
        Some(entry.resident)
    }

    /// Where a file's table is; no further user.
    pub fn get(&self, key: &TableKey) -> Option<Resident> {
        self.files.get(key).map(|entry| entry.resident)
    }

    /// Writes a table, for its first user; of a file that is resident this is just one more user.
    pub fn insert(&mut self, key: TableKey, table: &FileTable) -> Result<Resident, Full> {
        if let Some(resident) = self.acquire(&key) {
            return Ok(resident);
        }
        let pages = table.pages().len() as u32;
        let full = |what, needed, space: &Space| Full { what, needed, free: space.free() };
        let Some(pages_range) = self.pages.take(pages) else {
            return Err(full(Array::Pages, pages, &self.pages));
        };
        let numbers: Vec<u16> = table.rules().iter().map(|rule| self.number(*rule)).collect();
        let refused = |local: u16| {
            numbers[local as usize] == UNSUPPORTED && table.rules()[local as usize] != Rule::UNSUPPORTED
        };
        let mut placing = Placing::new(&mut self.rows, self.arrays.rows());
        for (at, page) in pages_range.clone().zip(table.pages()) {
            let first = page.first_row as usize;
            let in_force = numbers[table.rows()[first - 1].rule as usize];
            let rows = table.rows()[first..first + page.count as usize]
                .iter()
                .map(|row| Row::new(row.low, numbers[row.rule as usize]));
            let Some(first_row) = placing.page(in_force, rows) else {
                placing.undo();
                self.pages.give(pages_range);
                return Err(full(Array::Rows, table.rows().len() as u32, &self.rows));
            };
            self.arrays.pages()[at as usize].store(Page::new(first_row, page.count).0, Ordering::Relaxed);
        }
        let rows = placing.done();
        // What the caller publishes next must not be seen before this.
        fence(Ordering::Release);
        let resident = Resident {
            place: TablePlace { first_page: table.first_page(), pages, pages_at: pages_range.start, _pad: 0 },
            rows: rows.iter().map(|range| range.end - range.start).sum(),
            rows_without_rule: table.rows().iter().filter(|row| refused(row.rule)).count() as u32,
        };
        self.files.insert(key, Entry { resident, rows, users: 1 });
        Ok(resident)
    }

    /// One user fewer. Without any the table is retired: it stays readable, and usable by `acquire`, until it is
    /// reclaimed. `None` if there was no such user; else whether it was the last.
    pub fn release(&mut self, key: &TableKey) -> Option<bool> {
        let entry = self.files.get_mut(key).filter(|entry| entry.users > 0)?;
        entry.users -= 1;
        Some(entry.users == 0)
    }

    /// Tables without a user.
    pub fn retired(&self) -> impl Iterator<Item = TableKey> + '_ {
        self.files.iter().filter(|(_, entry)| entry.users == 0).map(|(key, _)| *key)
    }

    /// Gives back the memory of tables without a user, but for those whose pages begin at one of `kept`. Walks that
    /// began before they were released find out that their lists were replaced. Returns how many tables there were.
    pub fn reclaim(&mut self, kept: &HashSet<u32>) -> usize {
        let Self { rows, pages, files, .. } = self;
        let gone =
            files.extract_if(|_, entry| entry.users == 0 && !kept.contains(&entry.resident.place.pages_at));
        let mut count = 0;
        for (_, entry) in gone {
            count += 1;
            let TablePlace { pages: count, pages_at, .. } = entry.resident.place;
            pages.give(pages_at..pages_at + count);
            entry.rows.into_iter().for_each(|range| rows.give(range));
        }
        count
    }

    pub fn usage(&self) -> Usage {
        let in_use = |capacity: u32, space: &Space| (u64::from(capacity) - space.free(), capacity.into());
        Usage {
            files: self.files.len() as u32,
            retired: self.files.values().filter(|entry| entry.users == 0).count() as u32,
            rows: in_use(self.row_capacity, &self.rows),
            pages: in_use(self.page_capacity, &self.pages),
            rules: (self.rules.len() as u64, self.rule_capacity as u64),
        }
    }

    fn number(&mut self, rule: Rule) -> u16 {
        if let Some(number) = self.rules.get(&rule) {
            return *number;
        }
        let number = self.rules.len();
        if number >= self.rule_capacity {
            return UNSUPPORTED;
        }
        self.arrays.rules()[number].store(rule.0, Ordering::Relaxed);
        self.rules.insert(rule, number as u16);
        number as u16
    }
}

/// Puts the rows of one file into free ranges, none of which crosses a shard's end.
struct Placing<'a> {
    space: &'a mut Space,
    array: &'a [AtomicU32],
    taken: Vec<Range<u32>>,
    /// What is left of the range in use; the part before `at` was used since `start`.
    start: u32,
    at: u32,
    end: u32,
    /// The rule of the row before `at`, if that row is in this range.
    tail: Option<u16>,
}

impl<'a> Placing<'a> {
    fn new(space: &'a mut Space, array: &'a [AtomicU32]) -> Self {
        Self { space, array, taken: Vec::new(), start: 0, at: 0, end: 0, tail: None }
    }

    /// Writes a page's rows, after a row with the rule in force before them unless the one there has it. Returns
    /// the index of the first, or `None` where there is no room.
    fn page(&mut self, in_force: u16, rows: impl ExactSizeIterator<Item = Row>) -> Option<u32> {
        let count = rows.len() as u32;
        if !self.fits(in_force, count) {
            let next = self.end;
            self.close();
            // Besides the rows the one before, and one more so that `fits` holds at a shard's end too.
            // Onward first, and only then again where there was no room for an earlier page.
            let range =
                self.space.take_range(next, count + 2).or_else(|| self.space.take_range(0, count + 2))?;
            (self.start, self.at, self.end, self.tail) = (range.start, range.start, range.end, None);
        }
        if self.tail != Some(in_force) {
            self.write(Row::new(0, in_force), in_force);
        }
        let first = self.at;
        for row in rows {
            self.write(row, row.0 as u16);
        }
        Some(first)
    }

    /// The first row's index names the shard, so it must not be the end of one, even if the page has no rows.
    fn fits(&self, in_force: u16, count: u32) -> bool {
        let first = self.at + u32::from(self.tail != Some(in_force));
        first + count <= self.end && !first.is_multiple_of(SHARD as u32)
    }

    fn write(&mut self, row: Row, rule: u16) {
        self.array[self.at as usize].store(row.0, Ordering::Relaxed);
        self.at += 1;
        self.tail = Some(rule);
    }

    fn close(&mut self) {
        if self.start < self.at {
            self.taken.push(self.start..self.at);
        }
        self.space.give(self.at..self.end);
        (self.start, self.at, self.end, self.tail) = (0, 0, 0, None);
    }

    fn done(mut self) -> Vec<Range<u32>> {
        self.close();
        self.taken
    }

    fn undo(mut self) {
        self.close();
        self.taken.drain(..).for_each(|range| self.space.give(range));
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
