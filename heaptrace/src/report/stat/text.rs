//! `stat` for people.

use super::{
    Glance, Stat,
    scope::{Calls, Scope, scopes},
};
use crate::printable::printable;
use crate::{
    model::{Profile, Statistics, ThreadId, Totals},
    report::{
        footer,
        sizes::{bars, histogram},
        table::{process_name, thread_cells},
    },
    units::{counted, duration, seconds, seconds_cell, sized, thousands},
};
use heaptrace_common::function::Function;
use std::io::{self, Write};

/// Processes that are shown one by one, and threads of each: those that allocated the most bytes.
const SHOWN: usize = 10;

pub(super) fn render(stat: &Stat<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Stat { profile, statistics, command, .. } = *stat;
    let (kernel, arch) = (printable(&profile.host.kernel), printable(&profile.host.arch));
    writeln!(out, "# heaptrace {} on Linux {kernel} {arch}", printable(&profile.heaptrace))?;
    writeln!(out, "# Traced for {}. Sizes are what the program asked for.", seconds(profile.duration_ns))?;
    if let Some(command) = command {
        writeln!(out, "# {}", sentence(&command.to_string()))?;
    }
    writeln!(out)?;
    let (all, mut each) = scopes(profile, statistics);
    each.sort_by_key(|scope| std::cmp::Reverse(scope.process.totals.alloc_bytes));
    match each.as_slice() {
        [] => writeln!(out, "No process was traced.\n")?,
        [only] => write_scope(&title(only), only, false, profile, out)?,
        several => {
            let title = format!("All {}", counted(several.len() as u64, "process", "processes"));
            write_scope(&title, &all, true, profile, out)?;
            for scope in several.iter().take(SHOWN) {
                write_scope(&self::title(scope), scope, false, profile, out)?;
            }
            if let Some(rest) = several.get(SHOWN..).filter(|rest| !rest.is_empty()) {
                let bytes = rest.iter().map(|scope| scope.process.totals.alloc_bytes).sum();
                let rest = counted(rest.len() as u64, "further process", "further processes");
                writeln!(
                    out,
                    "# {rest} not shown: {} bytes allocated (--format json has them)\n",
                    thousands(bytes)
                )?;
            }
        }
    }
    writeln!(out, "# Coverage:")?;
    for line in footer::lines(profile, stat.verbose) {
        writeln!(out, "#   {line}")?;
    }
    Ok(())
}

/// The line of an interval, and a heading above the first.
pub(super) fn line(stat: &Stat<'_>, out: &mut dyn Write) -> io::Result<()> {
    let now = Glance::of(stat.profile);
    let before = stat.before.copied().unwrap_or_default();
    let mode = stat.profile.mode;
    if !mode.has_blocks() {
        return growth_line(stat, &now, &before, out);
    }
    let (bytes, blocks) =
        if mode.has_frees() { ("live bytes", "live blocks") } else { ("live, at most", "in blocks") };
    if stat.before.is_none() {
        writeln!(
            out,
            "{:>11} {:>12} {:>14} {:>12} {:>16} {:>12}",
            "traced", "allocs/s", "bytes/s", "frees/s", bytes, blocks
        )?;
    }
    let passed = now.duration_ns.saturating_sub(before.duration_ns);
    let rate = |now: u64, before: u64| thousands(per_second(now.saturating_sub(before), passed));
    writeln!(
        out,
        "{:>11} {:>12} {:>14} {:>12} {:>16} {:>12}",
        seconds_cell(now.duration_ns),
        rate(now.alloc_count, before.alloc_count),
        rate(now.alloc_bytes, before.alloc_bytes),
        // What is not counted is not 0.
        if mode.has_frees() { rate(now.free_count, before.free_count) } else { "-".to_owned() },
        thousands(now.live_bytes),
        thousands(now.live_count)
    )
}

/// The same where only calls that map memory are counted.
fn growth_line(stat: &Stat<'_>, now: &Glance, before: &Glance, out: &mut dyn Write) -> io::Result<()> {
    if stat.before.is_none() {
        writeln!(out, "{:>11} {:>16} {:>16} {:>16}", "traced", "mapped/s", "unmapped/s", "brk bytes")?;
    }
    let passed = now.duration_ns.saturating_sub(before.duration_ns);
    let rate = |now: u64, before: u64| thousands(per_second(now.saturating_sub(before), passed));
    let sign = if now.brk_bytes < 0 { "-" } else { "" };
    writeln!(
        out,
        "{:>11} {:>16} {:>16} {:>16}",
        seconds_cell(now.duration_ns),
        rate(now.mmap_bytes, before.mmap_bytes),
        rate(now.munmap_bytes, before.munmap_bytes),
        format!("{sign}{}", thousands(now.brk_bytes.unsigned_abs()))
    )
}

pub(super) fn per_second(count: u64, ns: u64) -> u64 {
    u64::try_from(u128::from(count) * 1_000_000_000 / u128::from(ns.max(1))).unwrap_or(u64::MAX)
}

fn title(scope: &Scope) -> String {
    let exited = if scope.process.exited { ", exited" } else { "" };
    format!("{}{exited}", process_name(&scope.process))
}

fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| format!("{}{}", first.to_uppercase(), rest.as_str()))
}

fn write_scope(
    title: &str,
    scope: &Scope,
    sum: bool,
    profile: &Profile,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "== {title}\n")?;
    if profile.mode.has_blocks() {
        functions(scope, profile.mode.has_frees(), out)?;
        threads(scope, profile, out)?;
        blocks(scope, sum, profile, out)?;
    }
    growth(scope, out)?;
    writeln!(out)?;
    if profile.mode.has_blocks() {
        histogram("Sizes of allocated blocks", &scope.sizes, out)?;
    }
    if profile.mode.has_frees() {
        bars("Lifetimes of freed blocks", "Lived", &scope.lifetimes, lifetime, out)?;
    }
    Ok(())
}

/// What became of a process's blocks.
fn blocks(scope: &Scope, sum: bool, profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let process = &scope.process;
    let totals = &process.totals;
    let bounded = if profile.mode.has_frees() { "" } else { ", at most" };
    let mut line = |name: &str, value: String| writeln!(out, "  {name:<24} {value}");
    let blocks = |count| counted(count, "block", "blocks");
    let amount = |bytes, count| format!("{} in {}", sized(bytes), blocks(count));
    let when = match (sum, process.exited) {
        (true, _) => "live at the end, or exit",
        (false, true) => "live at its exit",
        (false, false) => "live at the end",
    };
    line(&format!("{when}{bounded}"), amount(totals.live_bytes(), totals.live_count()))?;
    let peak = sized(process.peak_live_bytes);
    if sum {
        line(
            "peak live, at most",
            format!("{peak}: the sum of the processes' own, which need not coincide"),
        )?;
    } else {
        line(&format!("peak live{bounded}"), peak)?;
    }
    let rate = |count| thousands(per_second(count, profile.duration_ns));
    line(
        "rate",
        format!("{} allocations/s, {} bytes/s", rate(totals.alloc_count), rate(totals.alloc_bytes)),
    )?;
    line("failed calls", thousands(process.failed_count))?;
    if profile.mode.has_frees() {
        line("frees of unknown blocks", thousands(process.unknown_frees))?;
    }
    for (name, bytes, count) in [
        ("inherited at fork", process.inherited_bytes, process.inherited_count),
        ("released by exec", totals.released_bytes, totals.released_count),
        ("ended without a free", totals.gone_bytes, totals.gone_count),
        ("filtered by size", process.filtered_bytes, process.filtered_count),
        ("found no room", process.lost_bytes, process.lost_count),
    ] {
        if count > 0 {
            line(name, amount(bytes, count))?;
        }
    }
    if process.inherited_free_count > 0 {
        line("frees of inherited", thousands(process.inherited_free_count))?;
    }
    if process.missed_frees > 0 {
        line("frees never seen", thousands(process.missed_frees))?;
    }
    Ok(())
}

/// What calls that map memory came to.
fn growth(scope: &Scope, out: &mut dyn Write) -> io::Result<()> {
    let process = &scope.process;
    let mut line = |name: &str, value: String| writeln!(out, "  {name:<24} {value}");
    let grown = |function| scope.growth.get(&function).copied().unwrap_or_default().alloc_count;
    let sign = if process.brk_bytes < 0 { "-" } else { "" };
    line(
        "brk",
        format!(
            "{sign}{} bytes net, grown by {}",
            thousands(process.brk_bytes.unsigned_abs()),
            counted(grown(Function::Brk), "call", "calls")
        ),
    )?;
    line(
        "mmap",
        format!(
            "{} bytes by {}, {} bytes unmapped",
            thousands(process.mmap_bytes),
            counted(grown(Function::Mmap) + grown(Function::Mremap), "call", "calls"),
            thousands(process.munmap_bytes)
        ),
    )
}

fn lifetime(class: usize) -> String {
    match Statistics::lifetime_range(class) {
        (0, Some(below)) => format!("below {}", duration(below)),
        (from, Some(below)) => format!("{} - {}", duration(from), duration(below)),
        (from, None) => format!("{} and longer", duration(from)),
    }
}

fn functions(scope: &Scope, frees: bool, out: &mut dyn Write) -> io::Result<()> {
    let mut titles = vec!["Allocations", "Bytes", "Average"];
    titles.extend(frees.then_some(["Frees", "Bytes freed"]).into_iter().flatten());
    titles.push("Failed");
    let mut all = Calls::default();
    let mut rows: Vec<(&str, Vec<String>)> = Vec::new();
    for (function, calls) in &scope.functions {
        all.alloc_count += calls.alloc_count;
        all.alloc_bytes = all.alloc_bytes.saturating_add(calls.alloc_bytes);
        all.free_count += calls.free_count;
        all.free_bytes = all.free_bytes.saturating_add(calls.free_bytes);
        all.failed_count += calls.failed_count;
        rows.push((function.name(), cells(calls, frees)));
    }
    rows.push(("all", cells(&all, frees)));
    table("Function", &titles, &rows, out)
}

/// Rows below their titles, with a name before the numbers.
fn table<N: AsRef<str>>(
    title: &str,
    titles: &[&str],
    rows: &[(N, Vec<String>)],
    out: &mut dyn Write,
) -> io::Result<()> {
    let width = |name: &str| name.chars().count();
    let names = rows.iter().map(|(name, _)| width(name.as_ref())).max().unwrap_or_default().max(title.len());
    let widths: Vec<usize> = titles
        .iter()
        .enumerate()
        .map(|(at, title)| rows.iter().map(|(_, cells)| cells[at].len()).max().unwrap_or(0).max(title.len()))
        .collect();
    let mut write = |name: &str, cells: &[&str]| {
        let mut line = format!("  {name:<names$}");
        for (cell, width) in cells.iter().zip(&widths) {
            line += &format!("  {cell:>width$}");
        }
        writeln!(out, "{line}")
    };
    write(title, titles)?;
    for (name, cells) in rows {
        write(name.as_ref(), &cells.iter().map(String::as_str).collect::<Vec<_>>())?;
    }
    writeln!(out)
}

/// What each thread allocated, where they are told apart.
fn threads(scope: &Scope, profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    if scope.threads.is_empty() {
        return Ok(());
    }
    let frees = profile.mode.has_frees();
    let mut titles = vec!["TID", "Allocations", "Bytes"];
    titles.extend(frees.then_some(["Freed", "Bytes freed", "Live", "Live bytes"]).into_iter().flatten());
    let row = |(thread, totals): &(Option<ThreadId>, Totals)| {
        let (tid, name) = thread_cells(profile, *thread);
        let mut cells = vec![tid, thousands(totals.alloc_count), thousands(totals.alloc_bytes)];
        if frees {
            cells.extend(
                [totals.free_count, totals.free_bytes, totals.live_count(), totals.live_bytes()]
                    .map(thousands),
            );
        }
        (name, cells)
    };
    let is_known = |(thread, _): &&(Option<ThreadId>, Totals)| thread.is_some();
    let known: Vec<_> = scope.threads.iter().filter(is_known).collect();
    let unknown = scope.threads.iter().filter(|of| !is_known(of));
    let (shown, rest) = known.split_at(known.len().min(SHOWN));
    let rows: Vec<_> = shown.iter().copied().chain(unknown).map(row).collect();
    table("Thread", &titles, &rows, out)?;
    if !rest.is_empty() {
        let bytes = rest.iter().fold(0_u64, |sum, (_, totals)| sum.saturating_add(totals.alloc_bytes));
        let rest = counted(rest.len() as u64, "further thread", "further threads");
        writeln!(
            out,
            "  # {rest} not shown: {} bytes allocated (--format json has them)\n",
            thousands(bytes)
        )?;
    }
    Ok(())
}

fn cells(calls: &Calls, frees: bool) -> Vec<String> {
    let Calls { alloc_count, alloc_bytes, free_count, free_bytes, failed_count } = *calls;
    let average = alloc_bytes.checked_div(alloc_count).map_or_else(|| "-".to_owned(), thousands);
    let mut cells = vec![thousands(alloc_count), thousands(alloc_bytes), average];
    if frees {
        cells.extend([thousands(free_count), thousands(free_bytes)]);
    }
    cells.push(thousands(failed_count));
    cells
}
