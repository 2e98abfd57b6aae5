//! One arena: its heaps walked, its lists read, and what they come to.

use super::{
    chunks::{self, Block, End, SMALLEST, State},
    layout::{Layout, PAGE, state},
    lists,
    picture::{Part, Picture},
    used::UsedPages,
};
use crate::allocators::{
    broken::Broken,
    memory::{Reader, offset},
};
use serde::Serialize;
use std::ops::Range;

/// `HEAP_MAX_SIZE`, to which heaps of all arenas but the main one are aligned: twice the largest mmap threshold.
const HEAP_MOST: u64 = 64 << 20;

/// The same in huge pages, where malloc is told to take these (`heap_max_size`, malloc/arena.c).
const HEAP_MOST_HUGE_PAGES: u64 = 4;

/// The largest huge page of x86_64.
const HUGE_PAGE: u64 = 1 << 30;

/// How large heaps may be, and to what they are aligned, by malloc's parameters at an address.
pub fn most_of_heap(reader: &mut Reader<'_>, layout: &Layout, parameters: Option<u64>) -> u64 {
    let at = parameters.zip(layout.huge_page).and_then(|(at, field)| offset(at, field).ok());
    let huge = at.and_then(|at| reader.word(at).ok());
    let huge = huge.filter(|huge| huge.is_power_of_two() && (PAGE..=HUGE_PAGE).contains(huge));
    huge.map_or(HEAP_MOST, |huge| huge * HEAP_MOST_HUGE_PAGES)
}

/// The most heaps: 4 TiB of addresses.
pub const MOST_HEAPS: usize = 1 << 16;

/// The most blocks that are looked at as tcaches: more than threads there can be on most machines.
pub const MOST_CANDIDATES: usize = 1 << 16;

/// How often one place that does not fit is read again before the walk is given up.
const REREADS: u32 = 20;

/// Pages that are looked at for where a part of a main arena begins that is not the break's: 256 MiB of other memory.
const MOST_STARTS: u64 = 1 << 16;

/// What a program is given of a block lies so far behind its beginning.
const HEADER: u64 = 16;

/// Small bins hold blocks below this size, large bins the others (`MIN_LARGE_SIZE`).
const LARGE: u64 = 1024;

/// Blocks of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    pub blocks: u64,
    /// With their headers.
    pub bytes: u64,
}

impl Count {
    pub fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Takes `other` out.
    pub fn take(&mut self, other: Self) {
        self.blocks = self.blocks.saturating_sub(other.blocks);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }
}

/// What an arena holds. Where it is not consistent, what was read until it broke.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Arena {
    pub address: u64,
    pub main: bool,
    /// Threads that use it.
    pub attached_threads: u64,
    /// From the system, as the arena counts it.
    pub system_bytes: u64,
    pub most_system_bytes: u64,
    /// Blocks that the program holds.
    pub in_use: Count,
    /// Free blocks that threads keep for themselves. mallinfo counts them as in use.
    pub tcache: Count,
    pub fastbins: Count,
    pub unsorted: Count,
    pub small: Count,
    pub large: Count,
    pub top_bytes: u64,
    /// Headers of heaps, fence posts, and what alignment costs.
    pub overhead_bytes: u64,
    /// All that is free as mallinfo counts it: bins, fastbins and top.
    pub free_bytes: u64,
    pub largest_free_bytes: u64,
    /// Whole pages of free blocks and, in the main arena, top: what `malloc_trim(0)` would give back at most.
    pub trimmable_bytes: u64,
    /// The share of the free bytes that is not in the largest free block: 0 if all is in one, near 1 if scattered.
    pub fragmentation: f64,
    pub consistent: bool,
    /// Whether all its heaps were walked to their end. The counts then cover it all, if of different moments.
    pub complete: bool,
    /// How many places were read again because they did not fit.
    pub reread: u64,
    /// How often it was read.
    pub attempts: u32,
    /// What did not fit in the last attempt.
    pub problem: Option<String>,
    pub picture: Picture,
    /// Where its blocks lie.
    #[serde(skip)]
    pub heaps: Vec<Range<u64>>,
    /// Blocks in use that are as large as a tcache.
    #[serde(skip)]
    pub candidates: Vec<u64>,
    /// How far its heaps were walked, in order of address.
    #[serde(skip)]
    pub reached: u64,
    #[serde(skip)]
    pub next: u64,
    /// Where its top block begins.
    #[serde(skip)]
    pub top: u64,
    /// Of the blocks in use.
    #[serde(skip)]
    pub used: UsedPages,
    /// Addresses, of those that were asked for, that lie in free blocks.
    #[serde(skip)]
    pub freed: Vec<u64>,
    /// The same within blocks in use, but for where a program's part of one begins.
    #[serde(skip)]
    pub inside: Vec<u64>,
}

/// A heap to walk.
struct Extent {
    from: u64,
    end: End,
    range: Range<u64>,
}

/// Reads the arena at `address`; `base` is where the main arena's heap begins, `heap_most` how large others' heaps may be, `asked` are addresses, in order, and of `pages`
/// it is counted how much of them is in use.
pub fn read(
    reader: &mut Reader<'_>,
    layout: &Layout,
    address: u64,
    base: Option<u64>,
    heap_most: u64,
    asked: &[u64],
    pages: u64,
) -> (Arena, Option<Broken>) {
    let used = UsedPages::over(&[], pages);
    let mut arena = Arena { address, main: base.is_some(), used, ..Arena::default() };
    let problem = fill(&mut arena, reader, layout, base, heap_most, asked).err();
    (arena, problem)
}

fn fill(
    arena: &mut Arena,
    reader: &mut Reader<'_>,
    layout: &Layout,
    base: Option<u64>,
    heap_most: u64,
    asked: &[u64],
) -> Result<(), Broken> {
    reader.refresh();
    let field = |reader: &mut Reader<'_>, at| reader.word(offset(arena.address, at)?);
    arena.next = field(reader, state::NEXT)?;
    arena.attached_threads = field(reader, state::ATTACHED)?;
    arena.system_bytes = field(reader, state::SYSTEM)?;
    arena.most_system_bytes = field(reader, state::MOST_SYSTEM)?;
    let top = field(reader, state::TOP)?;
    let scattered = field(reader, state::FLAGS)? & state::NONCONTIGUOUS != 0;
    let extents = match base {
        Some(_) if scattered => regions(reader, arena.system_bytes, top)?,
        Some(base) => vec![main_heap(reader, base, top)?],
        None => heaps(reader, layout, arena.address, top, heap_most)?,
    };
    arena.top_bytes = chunks::size_at(reader, top)?;
    arena.heaps = extents.iter().map(|extent| extent.range.clone()).collect();
    arena.picture = Picture::over(&arena.heaps);
    arena.used = UsedPages::over(&arena.heaps, arena.used.left);
    arena.top = top;
    arena.picture.add(Part::Top, top, arena.top_bytes);
    let fast = lists::fastbins(reader, layout, arena.address, &arena.heaps);
    let unsorted = lists::unsorted(reader, arena.address, &arena.heaps);
    // A list that does not fit says nothing against the blocks.
    let listed = Listed {
        fast: fast.as_deref().unwrap_or_default(),
        unsorted: unsorted.as_deref().unwrap_or_default(),
        asked,
    };
    let walked = blocks(arena, reader, &extents, listed);
    arena.largest_free_bytes = arena.largest_free_bytes.max(arena.top_bytes);
    if arena.main {
        arena.trimmable_bytes += whole_pages(arena.top_bytes.saturating_sub(SMALLEST + 1));
    }
    let bins = [arena.fastbins, arena.unsorted, arena.small, arena.large];
    arena.free_bytes = bins.iter().fold(arena.top_bytes, |sum, bin| sum.saturating_add(bin.bytes));
    if arena.free_bytes > 0 {
        arena.fragmentation = 1.0 - arena.largest_free_bytes as f64 / arena.free_bytes as f64;
    }
    arena.freed.extend_from_slice(within(asked, top, arena.top_bytes));
    walked?;
    arena.complete = true;
    let (fast, unsorted) = (fast?.len() as u64, unsorted?.len() as u64);
    reader.refresh();
    let same = reader.word(offset(arena.address, state::TOP)?)? == top
        && reader.word(offset(arena.address, state::SYSTEM)?)? == arena.system_bytes
        && (arena.fastbins.blocks, arena.unsorted.blocks) == (fast, unsorted)
        && arena.reread == 0;
    let known = arena.free_bytes.saturating_add(arena.in_use.bytes);
    match arena.system_bytes.checked_sub(known).filter(|_| same) {
        Some(rest) => arena.overhead_bytes = rest,
        None => return Err(Broken::Changed),
    }
    Ok(())
}

fn whole_pages(bytes: u64) -> u64 {
    bytes & !(PAGE - 1)
}

/// The addresses of the blocks in lists, and addresses that are asked for, sorted.
#[derive(Clone, Copy)]
struct Listed<'a> {
    fast: &'a [u64],
    unsorted: &'a [u64],
    asked: &'a [u64],
}

/// Walks all blocks and sorts them by kind.
fn blocks(
    arena: &mut Arena,
    reader: &mut Reader<'_>,
    extents: &[Extent],
    listed: Listed<'_>,
) -> Result<(), Broken> {
    for extent in extents {
        let mut at = extent.from;
        let (mut end, mut stuck) = (extent.end, (at, 0));
        // What was read in two windows can be of two moments: where it does not fit, the place is read again.
        while let Err(broken) = chunks::walk(reader, &mut at, end, &mut |block| {
            note(arena, block, listed);
        }) {
            stuck = if stuck.0 == at { (at, stuck.1 + 1) } else { (at, 1) };
            if !broken.passes() || stuck.1 > REREADS {
                return Err(broken);
            }
            arena.reread += 1;
            reader.refresh();
            if let End::Top(_) = end {
                // It may have moved, within its heap.
                let top = reader.word(offset(arena.address, state::TOP)?)?;
                if arena.main || extent.range.contains(&top) {
                    end = End::Top(top);
                }
            }
        }
    }
    Ok(())
}

/// Those of `addresses`, in order, that lie in a block.
pub fn within(addresses: &[u64], at: u64, size: u64) -> &[u64] {
    let from = addresses.partition_point(|address| *address < at);
    let behind = addresses.partition_point(|address| *address < at.saturating_add(size));
    &addresses[from..behind.max(from)]
}

fn note(arena: &mut Arena, block: Block, listed: Listed<'_>) {
    arena.reached = block.at.saturating_add(block.size);
    let Block { at, size, state } = block;
    match state {
        State::Fence => return,
        State::InUse => arena.picture.add(Part::Used, at, size),
        State::Free => arena.picture.add(Part::Free, at, size),
    }
    if state == State::Free || listed.fast.binary_search(&at).is_ok() {
        arena.freed.extend_from_slice(within(listed.asked, at, size));
    }
    match state {
        State::Fence => return,
        State::InUse if listed.fast.binary_search(&at).is_ok() => {
            arena.picture.add(Part::Parked, at, size);
            return arena.fastbins.add(size);
        }
        State::InUse => {
            arena.in_use.add(size);
            arena.used.add(at, size);
            let begins = at.saturating_add(HEADER);
            arena.inside.extend(within(listed.asked, at, size).iter().filter(|address| **address != begins));
            if size == lists::TCACHE_BLOCK && arena.candidates.len() < MOST_CANDIDATES {
                arena.candidates.push(at);
            }
            return;
        }
        State::Free if listed.unsorted.binary_search(&at).is_ok() => arena.unsorted.add(size),
        State::Free if size < LARGE => arena.small.add(size),
        State::Free => arena.large.add(size),
    }
    arena.largest_free_bytes = arena.largest_free_bytes.max(size);
    // `mtrim` in malloc/malloc.c: what lies behind the links of a free block, from the next page on.
    let links = at.saturating_add(48);
    let kept = links.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX).saturating_sub(at);
    arena.trimmable_bytes = arena.trimmable_bytes.saturating_add(whole_pages(size.saturating_sub(kept)));
}

/// The main arena's heap, by the break.
fn main_heap(reader: &mut Reader<'_>, base: u64, top: u64) -> Result<Extent, Broken> {
    let from = base.checked_next_multiple_of(16).ok_or(Broken::Misaligned(base))?;
    if top < from || !top.is_multiple_of(16) {
        return Err(Broken::TopElsewhere(top));
    }
    let end = offset(top, chunks::size_at(reader, top)?)?;
    Ok(Extent { from, end: End::Top(top), range: from..end })
}

/// The parts of a main arena that is not the break's alone: malloc maps more where the break cannot grow, and all where it is
/// told to take huge pages (`sysmalloc`, glibc.malloc.hugetlb=2). It keeps no list of them; each ends in fence posts, but for
/// that with the top block, and together they are what the arena has of the system.
fn regions(reader: &mut Reader<'_>, system: u64, top: u64) -> Result<Vec<Extent>, Broken> {
    let mut extents = Vec::new();
    let mut found = 0_u64;
    let mut left = MOST_STARTS;
    for range in reader.writable() {
        let mut from = range.start;
        // Mappings that lie side by side are one to the kernel, whoever made them.
        while from < range.end && left > 0 && found < system {
            if let Some(region) = region(reader, from, &range, top)? {
                from = region.range.end;
                found = found.saturating_add(region.range.end - region.range.start);
                extents.push(region);
            } else {
                left -= 1;
                from = from.saturating_add(chunks::mmapped_at(reader, from).unwrap_or(PAGE));
            }
        }
    }
    match found == system && extents.len() <= MOST_HEAPS {
        true => Ok(extents),
        false => Err(Broken::Regions { found, all: system }),
    }
}

/// The part of a main arena that begins at `from`, if one does.
fn region(
    reader: &mut Reader<'_>,
    from: u64,
    within: &Range<u64>,
    top: u64,
) -> Result<Option<Extent>, Broken> {
    if from >= within.end {
        return Ok(None);
    }
    let has_top = (from..within.end).contains(&top);
    let limit = if has_top { End::Top(top) } else { End::Fence(within.end) };
    let (mut at, mut fences, mut ended) = (from, 0, None);
    let walked = chunks::walk(reader, &mut at, limit, &mut |block| {
        fences = if block.state == State::Fence { fences + 1 } else { 0 };
        if fences == 2 {
            ended = ended.or_else(|| block.at.checked_add(block.size));
        }
    });
    match (ended, walked) {
        (_, Err(Broken::Limit)) => Err(Broken::Limit),
        (Some(end), _) => {
            let end = end.checked_next_multiple_of(PAGE).unwrap_or(end);
            Ok(Some(Extent { from, end: End::Fence(end), range: from..end }))
        }
        (None, Ok(())) if has_top && at == top => {
            let end = offset(top, chunks::size_at(reader, top)?)?;
            Ok((end <= within.end).then_some(Extent { from, end: limit, range: from..end }))
        }
        _ => Ok(None),
    }
}

/// The heaps of another arena, in order of address: the newest, which has the top, leads to those before it.
fn heaps(
    reader: &mut Reader<'_>,
    layout: &Layout,
    arena: u64,
    top: u64,
    most: u64,
) -> Result<Vec<Extent>, Broken> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut heap = top & !(most - 1);
    loop {
        let size = reader.word(offset(heap, 16)?)?;
        let fits = heap.is_multiple_of(PAGE) && (1..=most).contains(&size) && extents.len() < MOST_HEAPS;
        if !fits || reader.word(heap)? != arena {
            return Err(Broken::Heap(heap));
        }
        let previous = reader.word(offset(heap, 8)?)?;
        let mut from = offset(heap, layout.heap_info)?;
        if previous == 0 {
            if from != arena {
                return Err(Broken::Heap(heap));
            }
            from = offset(arena, state::SIZE + 15)? & !15;
        }
        let range = heap..offset(heap, size)?;
        let end = match extents.is_empty() {
            true if range.contains(&top) && top.is_multiple_of(16) => End::Top(top),
            true => return Err(Broken::TopElsewhere(top)),
            false => End::Fence(range.end),
        };
        extents.push(Extent { from, end, range });
        if previous == 0 {
            break;
        }
        heap = previous;
    }
    extents.sort_by_key(|extent| extent.range.start);
    // Else one block would be in all of them.
    match extents.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        Some(pair) => Err(Broken::Heap(pair[1].range.start)),
        None => Ok(extents),
    }
}
