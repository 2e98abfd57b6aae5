//! jemalloc's statistics for people.

use crate::allocators::jemalloc::{Arena, Bin, Blocks, Jemalloc, Stats};
use crate::units::{bytes_cell, counted, human, percent};
use std::io::{self, Write};

type Out<'a> = &'a mut dyn Write;

/// How many size classes are listed.
const MOST_BINS: usize = 5;

pub fn render(found: &Jemalloc, out: Out<'_>) -> io::Result<()> {
    let Jemalloc {
        version,
        stats,
        tcache,
        dirty_bytes,
        muzzy_bytes,
        bins,
        fragmentation,
        arenas,
        consistent,
    } = found;
    let Stats { allocated, active, metadata, resident, mapped, retained } = stats;
    writeln!(
        out,
        "\nHeap of jemalloc {version} ({}; by its own statistics)",
        counted(arenas.len() as u64, "arena", "arenas")
    )?;
    if !consistent {
        writeln!(out, "  not all could be read consistently: the process runs on; see below")?;
    }
    let row = |out: Out<'_>, name: &str, bytes: u64, what: &str| {
        writeln!(out, "  {name:<10} {:>12}  {what}", bytes_cell(bytes))
    };
    let Blocks { blocks, bytes } = tcache;
    let cached = format!(
        "in blocks; of it {} free in {} in threads' caches",
        human(*bytes),
        counted(*blocks, "block", "blocks")
    );
    row(out, "allocated", *allocated, &cached)?;
    row(out, "active", *active, "in pages with blocks")?;
    row(out, "dirty", *dirty_bytes, "in free pages that the kernel gets back later")?;
    row(out, "muzzy", *muzzy_bytes, "in free pages that the kernel may take")?;
    row(out, "metadata", *metadata, "of jemalloc itself")?;
    row(out, "resident", *resident, "of these in memory at most, by jemalloc's account")?;
    row(out, "mapped", *mapped, "mapped for all of these")?;
    row(out, "retained", *retained, "mapped beside them, for later use")?;
    writeln!(out, "  fragmentation {fragmentation:.2} (share of the active pages in which no block is)")?;
    sparse(bins, out)?;
    arenas.iter().try_for_each(|arena| one_arena(arena, out))
}

/// The size classes whose slabs have the most room.
fn sparse(bins: &[Bin], out: Out<'_>) -> io::Result<()> {
    let mut bins: Vec<&Bin> = bins.iter().filter(|bin| bin.free_bytes() > 0).collect();
    bins.sort_by_key(|bin| (std::cmp::Reverse(bin.free_bytes()), bin.size));
    if bins.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nSize classes with the most free bytes in their slabs")?;
    writeln!(out, "       size       blocks     slabs     in slabs         free   used")?;
    for bin in bins.into_iter().take(MOST_BINS) {
        let Bin { size, blocks, slabs, slab_bytes } = *bin;
        let used = percent(slab_bytes.saturating_sub(bin.free_bytes()), slab_bytes);
        writeln!(
            out,
            "  {size:>9} {blocks:>12} {slabs:>9} {:>12} {:>12} {used:>4.0} %",
            bytes_cell(slab_bytes),
            bytes_cell(bin.free_bytes())
        )?;
    }
    Ok(())
}

fn one_arena(arena: &Arena, out: Out<'_>) -> io::Result<()> {
    let Arena { index, threads, small, large, tcache, active_bytes, problem, attempts, .. } = arena;
    writeln!(
        out,
        "\nArena {index}: {} active, {}",
        human(*active_bytes),
        counted(u64::from(*threads), "thread", "threads")
    )?;
    if let Some(problem) = problem {
        let times = counted(u64::from(*attempts), "time", "times");
        writeln!(
            out,
            "  READ INCONSISTENTLY, {times}: {problem}; the counts are of different moments, or too low"
        )?;
    }
    for (name, Blocks { blocks, bytes }) in
        [("small", small), ("large", large), ("in threads' caches", tcache)]
    {
        writeln!(out, "  {name:<18} {:>12}  {}", bytes_cell(*bytes), counted(*blocks, "block", "blocks"))?;
    }
    Ok(())
}
