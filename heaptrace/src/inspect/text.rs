//! The inspection for people: where the memory is first, then the heap.

use super::{Inspection, jemalloc_text};
use crate::allocators::glibc::{
    Glibc,
    arena::{Arena, Count},
    picture::Picture,
};
use crate::printable::printable;
use crate::rss::mappings::{Amount, Kind, Memory};
use crate::units::{bytes_cell, counted, human, percent};
use std::io::{self, Write};

type Out<'a> = &'a mut dyn Write;

/// Cells of a picture's line.
const LINE: usize = 64;

/// Cells of a picture: four lines.
const CELLS: usize = 4 * LINE;

/// From free to used, by eighths; the ends are for nothing and all.
const SHADES: &[u8; 10] = b" .,:-=+*%#";

pub fn render(found: &Inspection, out: Out<'_>) -> io::Result<()> {
    let Inspection {
        schema: _,
        heaptrace: _,
        pid,
        comm,
        exe,
        threads,
        peak_resident_bytes,
        memory,
        allocators,
        glibc,
        jemalloc,
        notes,
    } = found;
    write!(
        out,
        "process {pid} ({}), {}",
        printable(comm),
        counted(u64::from(*threads), "thread", "threads")
    )?;
    if let Some(peak) = peak_resident_bytes {
        write!(out, ", at most {} resident so far", human(*peak))?;
    }
    writeln!(out, "\n{}\n", printable(exe))?;
    mappings(memory, out)?;
    writeln!(out, "Allocators, in the order in which calls resolve")?;
    for allocator in allocators {
        let called = if allocator.called { "called" } else { "not called" };
        writeln!(out, "  {:<10} {:<10} {}", allocator.kind, called, printable(&allocator.path))?;
    }
    notes.iter().try_for_each(|note| writeln!(out, "  {}", printable(note)))?;
    glibc.as_ref().map_or(Ok(()), |glibc| heap(glibc, out))?;
    jemalloc.as_ref().map_or(Ok(()), |found| jemalloc_text::render(found, out))
}

fn mappings(memory: &Memory, out: Out<'_>) -> io::Result<()> {
    let row = |out: Out<'_>, name: &str, count: &str, amount: &Amount| {
        let Amount { virtual_bytes, resident_bytes, pss_bytes, swap_bytes, .. } = *amount;
        let [all, resident, pss, swap] =
            [virtual_bytes, resident_bytes, pss_bytes, swap_bytes].map(bytes_cell);
        writeln!(out, "  {name:<12} {count:>8} {all:>12} {resident:>12} {pss:>12} {swap:>12}")
    };
    writeln!(out, "Memory         mappings      virtual     resident          PSS         swap")?;
    for of in &memory.kinds {
        row(out, name(of.kind), &of.mappings.to_string(), &of.amount)?;
    }
    row(out, "all", "", &memory.total)?;
    let Amount { hugetlb_bytes, transparent_huge_bytes, lazily_free_bytes, merged_bytes, .. } = memory.total;
    for (bytes, what) in [
        (hugetlb_bytes, "on huge pages that were set aside (hugetlb), in no resident size"),
        (transparent_huge_bytes, "of the resident on transparent huge pages"),
        (lazily_free_bytes, "of the resident given back, and taken as soon as memory is short (MADV_FREE)"),
        (merged_bytes, "of the resident merged with pages of the same contents (KSM)"),
    ] {
        if bytes > 0 {
            writeln!(out, "  {} {what}", human(bytes))?;
        }
    }
    writeln!(out, "\nLargest mappings\n       resident         swap      virtual  kind")?;
    for listed in &memory.largest {
        let Amount { virtual_bytes, resident_bytes, swap_bytes, .. } = listed.amount;
        let [all, resident, swap] = [virtual_bytes, resident_bytes, swap_bytes].map(bytes_cell);
        let path = listed.name.as_deref().map(printable).unwrap_or_default();
        let line = format!(
            "  {resident:>13} {swap:>12} {all:>12}  {:<10} {:#x} {path}",
            name(listed.kind),
            listed.start
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    writeln!(out)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Heap => "heap",
        Kind::Anonymous => "anonymous",
        Kind::Stack => "stacks",
        Kind::File => "files",
        Kind::Shared => "shared",
        Kind::Special => "special",
    }
}

pub(super) fn heap(glibc: &Glibc, out: Out<'_>) -> io::Result<()> {
    let Glibc { version, found_by, arenas, mmapped, tcaches, mallinfo, consistent, problems } = glibc;
    writeln!(
        out,
        "\nHeap of glibc {version} ({}; found by {found_by})",
        counted(arenas.len() as u64, "arena", "arenas")
    )?;
    writeln!(
        out,
        "  {} from the system in arenas: {} in use, {} free (of it {} at the main arena's top)",
        human(mallinfo.arena),
        human(mallinfo.uordblks),
        human(mallinfo.fordblks),
        human(mallinfo.keepcost)
    )?;
    if let Some(Count { blocks, bytes }) = mmapped {
        writeln!(
            out,
            "  {} in {} with a mapping of their own",
            human(*bytes),
            counted(*blocks, "block", "blocks")
        )?;
    }
    writeln!(
        out,
        "  {} of threads with free blocks, which count as in use above",
        counted(*tcaches, "cache", "caches")
    )?;
    if !consistent {
        writeln!(out, "  not all could be read consistently: the process runs on; see below")?;
    }
    problems.iter().try_for_each(|problem| writeln!(out, "  {problem}"))?;
    arenas.iter().enumerate().try_for_each(|(index, arena)| one_arena(index, arena, out))
}

fn one_arena(index: usize, arena: &Arena, out: Out<'_>) -> io::Result<()> {
    let main = if arena.main { ", the main one" } else { "" };
    writeln!(
        out,
        "\nArena {index}{main}: {} from the system (at most {}), {}, {}",
        human(arena.system_bytes),
        human(arena.most_system_bytes),
        counted(arena.heaps.len() as u64, "heap", "heaps"),
        counted(arena.attached_threads, "thread", "threads")
    )?;
    if let Some(problem) = problem(arena) {
        writeln!(out, "  {problem}")?;
    }
    let Arena { in_use, tcache, fastbins, unsorted, small, large, .. } = arena;
    let row = |out: Out<'_>, name: &str, bytes: u64, blocks: Option<u64>| {
        let blocks = blocks.map(|blocks| counted(blocks, "block", "blocks")).unwrap_or_default();
        let line = format!(
            "  {name:<22} {:>12} {:>6.1} %  {blocks}",
            bytes_cell(bytes),
            percent(bytes, arena.system_bytes)
        );
        writeln!(out, "{}", line.trim_end())
    };
    row(out, "in use", in_use.bytes, Some(in_use.blocks))?;
    for (name, count) in [
        ("free: threads' caches", tcache),
        ("free: fastbins", fastbins),
        ("free: unsorted", unsorted),
        ("free: small bins", small),
        ("free: large bins", large),
    ] {
        row(out, name, count.bytes, Some(count.blocks))?;
    }
    row(out, "free: top", arena.top_bytes, None)?;
    row(out, "overhead", arena.overhead_bytes, None)?;
    writeln!(
        out,
        "  largest free block {}; malloc_trim could give back {} at most",
        human(arena.largest_free_bytes),
        human(arena.trimmable_bytes)
    )?;
    writeln!(
        out,
        "  fragmentation {:.2} (share of the free bytes outside the largest free block)",
        arena.fragmentation
    )?;
    picture(&arena.picture, out)
}

/// What was not read as it should, and what the counts then cover.
pub(super) fn problem(arena: &Arena) -> Option<String> {
    let problem = arena.problem.as_ref()?;
    let cover = match arena.complete {
        true => "the counts below cover all of it, but are of different moments",
        false => "the counts below end there",
    };
    let times = counted(u64::from(arena.attempts), "time", "times");
    Some(format!("READ INCONSISTENTLY, {times}: {problem}; {cover}"))
}

fn picture(picture: &Picture, out: Out<'_>) -> io::Result<()> {
    if picture.used.is_empty() {
        return Ok(());
    }
    let joined = picture.used.len().div_ceil(CELLS).max(1);
    let cell_bytes = picture.cell_bytes.saturating_mul(joined as u64);
    writeln!(out, "  each cell {}, from free ' ' to used '#':", human(cell_bytes))?;
    let total = picture.total();
    let mut from = 0u64;
    for line in picture.used.chunks(LINE * joined) {
        let mut cells = String::with_capacity(LINE);
        for used in line.chunks(joined) {
            let size = cell_bytes.min(total.saturating_sub(from)).max(1);
            cells.push(shade(used.iter().fold(0, |sum: u64, used| sum.saturating_add(*used)), size));
            from = from.saturating_add(cell_bytes);
        }
        writeln!(out, "  |{cells}|")?;
    }
    Ok(())
}

fn shade(used: u64, size: u64) -> char {
    let index = match used {
        0 => 0,
        used if used >= size => SHADES.len() - 1,
        used => 1 + (used as u128 * (SHADES.len() as u128 - 2) / u128::from(size)) as usize,
    };
    char::from(SHADES[index.min(SHADES.len() - 1)])
}
