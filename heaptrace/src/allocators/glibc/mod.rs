//! All arenas of a process whose allocator is glibc's.

pub mod arena;
mod chunks;
pub mod layout;
mod lists;
pub mod locate;
pub mod picture;
mod used;

use self::{
    arena::{Arena, Count, MOST_CANDIDATES, MOST_HEAPS},
    layout::Layout,
    picture::Part,
};
use crate::allocators::{
    broken::Broken,
    memory::{Memory, Reader, offset},
};
use serde::Serialize;

/// How often an arena that does not fit is read.
const ATTEMPTS: u32 = 10;

/// The most arenas: eight for each of 512 CPUs, which is glibc's own limit there.
const MOST_ARENAS: usize = 4096;

/// Where malloc's state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub layout: Layout,
    pub main_arena: u64,
    /// `mp_`, if it was found.
    pub parameters: Option<u64>,
    /// Where `[heap]` begins, for when `mp_` was not found.
    pub heap: Option<u64>,
}

/// What malloc holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Glibc {
    /// 2.36, say.
    pub version: String,
    /// How `main_arena` was found.
    pub found_by: &'static str,
    pub arenas: Vec<Arena>,
    /// Blocks with a mapping of their own; `None` if malloc's count of them was not found.
    pub mmapped: Option<Count>,
    /// Threads' caches that were found with blocks in them.
    pub tcaches: u64,
    /// As mallinfo2(3) has them.
    pub mallinfo: Mallinfo,
    /// Whether everything fitted.
    pub consistent: bool,
    /// What could not be read, one sentence each.
    pub problems: Vec<String>,
}

/// The same keys as in glibc's `struct mallinfo2`, without those that it leaves 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Mallinfo {
    pub arena: u64,
    pub ordblks: u64,
    pub smblks: u64,
    pub hblks: u64,
    pub hblkhd: u64,
    pub fsmblks: u64,
    pub uordblks: u64,
    pub fordblks: u64,
    pub keepcost: u64,
}

/// Reads all arenas, and at most about `most` bytes.
pub fn survey(memory: &dyn Memory, place: &Place, most: u64) -> Glibc {
    survey_for(memory, place, most, &[])
}

/// Addresses that are at no beginning of a block in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotBegun {
    /// In free blocks: in malloc's lists, in threads' caches, or on top.
    pub freed: Vec<u64>,
    /// Within blocks in use: another allocator's may be, that takes its blocks from malloc's.
    pub inside: Vec<u64>,
}

/// Which of `addresses`, in order, are so, by malloc's own books; each list in order. `None` where not all arenas could be read
/// to their end. Who changes the heap meanwhile may have it say so of where a block begins.
pub fn not_begun(memory: &dyn Memory, place: &Place, most: u64, addresses: &[u64]) -> Option<NotBegun> {
    let found = survey_for(memory, place, most, addresses);
    let others = usize::from(found.mmapped.is_none());
    if found.problems.len() > others || found.arenas.iter().any(|arena| !arena.complete) {
        return None;
    }
    let mut all = NotBegun::default();
    for mut arena in found.arenas {
        all.freed.append(&mut arena.freed);
        all.inside.append(&mut arena.inside);
    }
    for addresses in [&mut all.freed, &mut all.inside] {
        addresses.sort_unstable();
        addresses.dedup();
    }
    Some(all)
}

/// [`survey`]; each arena tells which of the addresses in `asked`, in order, lie in free blocks of it. If there are any, it is read
/// until it was read to its end, and no more.
fn survey_for(memory: &dyn Memory, place: &Place, most: u64, asked: &[u64]) -> Glibc {
    let mut reader = Reader::new(memory, most);
    let mut found = Glibc { version: format!("2.{}", place.layout.minor), ..Glibc::default() };
    found.mmapped = place.parameters.and_then(|at| mmapped(&mut reader, &place.layout, at).ok());
    if found.mmapped.is_none() {
        found.problems.push("malloc's count of blocks with a mapping of their own was not found".to_owned());
    }
    let base = match place.parameters {
        Some(at) => {
            offset(at, place.layout.sbrk_base).and_then(|at| reader.word(at)).ok().filter(|base| *base != 0)
        }
        None => None,
    };
    let base = base.or(place.heap).unwrap_or(0);
    let heap_most = arena::most_of_heap(&mut reader, &place.layout, place.parameters);
    let mut candidates = Vec::new();
    let mut address = place.main_arena;
    let (mut pages, mut heaps, mut told) = (used::MOST_PAGES, 0, 0);
    loop {
        let main = found.arenas.is_empty();
        let mut arena =
            patiently(&mut reader, &place.layout, address, main.then_some(base), heap_most, asked, pages);
        pages = arena.used.left;
        heaps += arena.heaps.len();
        told += arena.freed.len() + arena.inside.len();
        candidates.extend(arena.candidates.drain(..).take(MOST_CANDIDATES - candidates.len()));
        let next = arena.next;
        found.arenas.push(arena);
        if next == place.main_arena {
            break;
        }
        let known = found.arenas.iter().any(|arena| arena.address == next);
        // An address is in one block of one arena, and perhaps on top.
        let too_many = found.arenas.len() >= MOST_ARENAS || heaps > MOST_HEAPS || told > 2 * asked.len();
        if next == 0 || known || too_many {
            found.problems.push(Broken::Arena(next).to_string());
            break;
        }
        address = next;
    }
    tcaches(&mut found, &mut reader, &place.layout, &candidates, asked);
    found.mallinfo = mallinfo(&found);
    found.consistent = found.problems.is_empty() && found.arenas.iter().all(|arena| arena.consistent);
    found
}

/// Reads an arena until it fits, some times; if it never does, the best attempt counts.
fn patiently(
    reader: &mut Reader<'_>,
    layout: &Layout,
    address: u64,
    base: Option<u64>,
    heap_most: u64,
    asked: &[u64],
    pages: u64,
) -> Arena {
    let mut best: Option<Arena> = None;
    for attempts in 1..=ATTEMPTS {
        let (mut arena, problem) = arena::read(reader, layout, address, base, heap_most, asked, pages);
        // What is too large is so the next time.
        let is_enough = arena.used.cut || !asked.is_empty() && arena.complete;
        let done = is_enough || problem.is_none_or(|broken| !broken.passes());
        arena.consistent = problem.is_none();
        arena.problem = problem.map(|broken| broken.to_string());
        let merit = |arena: &Arena| (arena.complete, arena.in_use.blocks);
        if done || best.as_ref().is_none_or(|best| merit(&arena) >= merit(best)) {
            best = Some(arena);
        }
        if let Some(best) = &mut best {
            best.attempts = attempts;
        }
        if done {
            break;
        }
    }
    best.unwrap_or_default()
}

fn mmapped(reader: &mut Reader<'_>, layout: &Layout, parameters: u64) -> Result<Count, Broken> {
    let at = offset(parameters, layout.n_mmaps)?;
    // A count of four bytes, in one half of a word or the other.
    let word = reader.word(at & !7)?;
    let blocks = if at.is_multiple_of(8) { word & 0xffff_ffff } else { word >> 32 };
    Ok(Count { blocks, bytes: reader.word(offset(parameters, layout.mmapped_mem)?)? })
}

/// Finds the threads' caches among the blocks of their size, and moves what they hold from in use to parked.
fn tcaches(found: &mut Glibc, reader: &mut Reader<'_>, layout: &Layout, candidates: &[u64], asked: &[u64]) {
    let mut ranges: Vec<_> = found.arenas.iter().flat_map(|arena| arena.heaps.clone()).collect();
    ranges.sort_unstable_by_key(|range| range.start);
    let mut parked = Vec::new();
    // Any number of candidates may lead to one list, and none be a tcache.
    let mut left = lists::MOST_NODES;
    for candidate in candidates {
        if left == 0 {
            found.problems.push(Broken::Endless("of the tcaches").to_string());
            break;
        }
        if let Some(blocks) =
            lists::tcache(reader, layout, *candidate, &ranges, &mut left).filter(|blocks| !blocks.is_empty())
        {
            found.tcaches += 1;
            parked.extend(blocks);
        }
    }
    parked.sort_unstable();
    // A cache and a stale copy of one, or one that was read while it changed.
    parked.dedup_by_key(|(at, _)| *at);
    let mut owners: Vec<_> = found
        .arenas
        .iter()
        .enumerate()
        .flat_map(|(index, arena)| arena.heaps.iter().map(move |heap| (heap.start, index)))
        .collect();
    owners.sort_unstable();
    for (at, size) in parked {
        let behind = owners.partition_point(|(start, _)| *start <= at);
        let owner = behind.checked_sub(1).and_then(|index| found.arenas.get_mut(owners[index].1));
        if let Some(arena) = owner.filter(|arena| at < arena.reached) {
            arena.freed.extend_from_slice(arena::within(asked, at, size));
            arena.tcache.add(size);
            arena.used.remove(at, size);
            arena.picture.add(Part::Parked, at, size);
        }
    }
    found.arenas.iter_mut().for_each(|arena| arena.in_use.take(arena.tcache));
}

fn mallinfo(found: &Glibc) -> Mallinfo {
    let mut info = Mallinfo::default();
    for arena in &found.arenas {
        info.arena = info.arena.saturating_add(arena.system_bytes);
        info.ordblks += 1 + arena.unsorted.blocks + arena.small.blocks + arena.large.blocks;
        info.smblks += arena.fastbins.blocks;
        info.fsmblks = info.fsmblks.saturating_add(arena.fastbins.bytes);
        info.fordblks = info.fordblks.saturating_add(arena.free_bytes);
        if arena.main {
            info.keepcost = arena.top_bytes;
        }
    }
    info.uordblks = info.arena.saturating_sub(info.fordblks);
    if let Some(mmapped) = found.mmapped {
        (info.hblks, info.hblkhd) = (mmapped.blocks, mmapped.bytes);
    }
    info
}
