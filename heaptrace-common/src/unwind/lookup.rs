//! From a pc to its rule: the search through cache, mappings, pages and rows, for any place where tables are.
//!
//! Branch-free binary searches by fixed steps: the BPF verifier follows one path through each (a plain loop took
//! it 80 times the instructions).

use super::{CfaKind, NO_TABLE, PAGE_BITS, Page, Row, Rule, UnwindMapping};

/// Entries of the cache.
pub const CACHE: usize = 1 << 16;

/// Where the tables of one process are read from. An index may be anything: what is out of range is masked or
/// answered with `None`, never a panic.
pub trait Tables {
    /// One shard of rows, found once for the reads of a search.
    type Rows: Copy;

    /// [`search`], called in whatever way suits.
    fn search(&self, current: &mut UnwindMapping, pc: u64) -> Place;

    /// Keeps apart what different processes, and a process at different times, have at an address. 16 bits.
    fn generation(&self) -> u16;
    /// Whether there may be mappings newer than those of `start` and `mapping`: then the cache may be out of date.
    fn has_new(&self) -> bool;
    /// The newest of them that holds `pc`.
    fn newest(&self, pc: u64) -> Option<UnwindMapping>;
    /// Element of the cache.
    fn cached(&self, slot: u64) -> u64;
    fn cache(&mut self, slot: u64, entry: u64);
    /// Start of the mapping at `index`, below `MAX_MAPPINGS`; several in a row may be one. `None` if the process has no
    /// mappings.
    fn start(&self, index: u32) -> Option<u64>;
    fn mapping(&self, index: u32) -> Option<UnwindMapping>;
    /// An element of `PAGES`.
    fn page(&self, index: u32) -> Option<Page>;
    /// The shard that holds the row numbered `index`.
    fn rows(&self, index: u32) -> Option<Self::Rows>;
    /// The row numbered `index`, of that shard.
    fn row(&self, rows: Self::Rows, index: u32) -> Row;
    fn rule(&self, index: u32) -> Rule;
}

/// What is known of a pc.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Rule(Rule),
    /// No mapping holds it.
    NoMapping,
    /// Its mapping has no table.
    NoTable,
}

/// In an entry of the cache: the tag in the high 48 bits, this, and the rule's index in the 14 low ones.
const FILLED: u64 = 0x8000;
const TAG: u64 = !0xffff;

/// A bijection of (pc, generation), so that index and tag together are exact: no entry is taken for another's.
#[inline(always)]
fn scramble(pc: u64, generation: u16) -> u64 {
    let mut key = pc & 0xffff_ffff_ffff | (generation as u64) << 48;
    key ^= key >> 32;
    key = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    key ^ key >> 32
}

/// The rule for `pc`. `current` is the mapping found last, to begin with [`UnwindMapping::UNUSED`].
#[inline(always)]
pub fn find<T: Tables>(tables: &mut T, current: &mut UnwindMapping, pc: u64) -> Found {
    let key = scramble(pc, tables.generation());
    let slot = key & (CACHE as u64 - 1);
    let settled = !tables.has_new();
    if settled {
        let entry = tables.cached(slot);
        if entry & (TAG | FILLED) == key & TAG | FILLED {
            return Found::Rule(tables.rule(entry as u32 & 0x3fff));
        }
    }
    let index = match tables.search(current, pc) {
        Place::Rule(index) => index,
        Place::NoMapping => return Found::NoMapping,
        Place::NoTable => return Found::NoTable,
    };
    let rule = tables.rule(index);
    if settled && rule.cfa_kind() != CfaKind::None as u64 {
        tables.cache(slot, key & TAG | FILLED | index as u64 & 0x3fff);
    }
    Found::Rule(rule)
}

/// What a search finds, with the rule's index. Passes through a number, as a BPF function's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    NoMapping,
    NoTable,
    Rule(u32),
}

impl Place {
    #[inline(always)]
    pub const fn to_bits(self) -> u64 {
        match self {
            Self::NoMapping => 0,
            Self::NoTable => 1,
            Self::Rule(index) => index as u64 + 2,
        }
    }

    #[inline(always)]
    pub const fn from_bits(bits: u64) -> Self {
        match bits {
            0 => Self::NoMapping,
            1 => Self::NoTable,
            index => Self::Rule((index - 2) as u32),
        }
    }
}

/// The search without the cache.
#[inline(always)]
pub fn search<T: Tables>(tables: &T, current: &mut UnwindMapping, pc: u64) -> Place {
    let settled = !tables.has_new();
    // A newer mapping may lie over a part of the one found last.
    if !settled || pc < current.start || pc >= current.end {
        let newest = if settled { None } else { tables.newest(pc) };
        let Some(mapping) = newest.or_else(|| find_mapping(tables, pc)) else { return Place::NoMapping };
        if pc < mapping.start || pc >= mapping.end {
            return Place::NoMapping;
        }
        *current = mapping;
    }
    if current.pages_at == NO_TABLE {
        return Place::NoTable;
    }
    let address = pc.wrapping_sub(current.bias);
    let page =
        ((address >> PAGE_BITS) as u32).wrapping_sub(current.first_page).wrapping_add(current.pages_at);
    let Some(page) = tables.page(page) else { return Place::NoTable };
    match find_row(tables, page, address as u32 & ((1 << PAGE_BITS) - 1)) {
        Some(index) => Place::Rule(index),
        None => Place::NoTable,
    }
}

/// The last mapping that starts at or below `pc`, or else the first.
#[inline(always)]
fn find_mapping<T: Tables>(tables: &T, pc: u64) -> Option<UnwindMapping> {
    let mut index: u32 = 0;
    macro_rules! step {
        ($($width:literal)*) => {$(
            let start = tables.start(index + $width)?;
            // All ones if it starts above; both are below 2^63.
            let above = ((pc.wrapping_sub(start) as i64) >> 63) as u32;
            index += $width & !above;
        )*};
    }
    step!(256 128 64 32 16 8 4 2 1);
    tables.mapping(index)
}

/// The rule index of the last row of `page` at or below `low`, or of the row before the page's first.
#[inline(always)]
fn find_row<T: Tables>(tables: &T, page: Page, low: u32) -> Option<u32> {
    let first = page.0 & 0x00ff_ffff;
    let count = page.0 >> 24;
    let rows = tables.rows(first)?;
    let mut before: u32 = 0;
    macro_rules! step {
        ($($width:literal)*) => {$(
            let candidate = before + $width;
            let row = tables.row(rows, first.wrapping_add(candidate).wrapping_sub(1)).0;
            // All ones if the page has no such row or it begins above.
            let above = ((count.wrapping_sub(candidate) | low.wrapping_sub(row >> 16)) as i32 >> 31) as u32;
            before += $width & !above;
        )*};
    }
    if count >= 16 {
        step!(128 64 32 16);
    }
    if count != 0 {
        step!(8 4 2 1);
    }
    Some(tables.row(rows, first.wrapping_add(before).wrapping_sub(1)).0 & 0xffff)
}
