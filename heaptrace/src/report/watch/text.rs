//! `watch` for people: a line has room for a terminal's width, and its stack comes last.

use super::{GrowthCall, GrowthTotals, WatchEnd};
use crate::printable::printable;
use crate::{
    model::{Profile, StackId},
    report::{footer, names::StackNames, notes, particulars},
    units::{bytes_cell, counted, human, seconds, thousands},
};
use heaptrace_common::stack::StackEnd;
use std::io::{self, Write};

/// Frames of a line.
const FRAMES: usize = 3;

/// Processes that have a row of their own at the end.
const ROWS: usize = 40;

pub(super) fn render_calls(
    profile: &Profile,
    calls: &[GrowthCall],
    first: bool,
    stacks: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    if first {
        writeln!(
            out,
            "{:15} {:22} {:>7} {:7} {:>11} {:>10} {:9}{}",
            "time (UTC)",
            "process:pid",
            "tid",
            "call",
            "delta",
            "total",
            "kind",
            if stacks { " called from" } else { "" }
        )?;
    }
    let names = stacks.then(|| StackNames::new(profile));
    for GrowthCall { time_ns, pid, tid, comm, call, delta, total, address: _, kind, stack } in calls {
        let time = jiff::Timestamp::from_nanosecond((*time_ns).into()).unwrap_or_default();
        let line = format!(
            "{:15} {:22} {tid:>7} {call:7} {:>11} {:>10} {:9}",
            time.strftime("%T%.6f").to_string(),
            format!("{}:{pid}", printable(comm)),
            signed(*delta),
            total.map_or("-".into(), bytes_cell),
            kind.name(),
        );
        match &names {
            Some(names) => writeln!(out, "{line} {}", frames(names, *stack))?,
            None => writeln!(out, "{}", line.trim_end())?,
        }
    }
    Ok(())
}

fn signed(delta: i64) -> String {
    format!("{}{}", if delta < 0 { "-" } else { "+" }, bytes_cell(delta.unsigned_abs()))
}

/// The innermost frames outside of the C library, or within it if there are no others. By their names alone, so that
/// three fit a terminal; source lines are in the JSON.
fn frames(names: &StackNames<'_>, stack: Option<StackId>) -> String {
    let Some(stack) = stack else { return "[no stack]".into() };
    let mut names = names.outside(stack);
    names.truncate(FRAMES);
    names.join(" < ")
}

pub(super) fn render_end(end: &WatchEnd<'_>, out: &mut dyn Write) -> io::Result<()> {
    let WatchEnd { profile, min_bytes, shown, ends, totals, verbose } = *end;
    let calls: u64 = totals.iter().map(|process| process.calls).sum();
    writeln!(out, "\n# Totals of all calls, shown or not:")?;
    writeln!(
        out,
        "# {:22} {:>9} {:>10} {:>10} {:>11} {:>11} {:>10} {:>10}",
        "process:pid", "calls", "grown", "given back", "net", "other", "total", "advised"
    )?;
    let (rows, others) = totals.split_at(ROWS.min(totals.len()));
    for process in rows {
        row(&format!("{}:{}", printable(&process.comm), process.pid), process, out)?;
    }
    if !others.is_empty() {
        let name = counted(others.len() as u64, "other process", "other processes");
        row(&name, &sum(others), out)?;
    }
    writeln!(
        out,
        "#   net: by these calls. other: by what is not watched: stacks that grow, shmat, exec, 32-bit calls"
    )?;
    writeln!(
        out,
        "#   advised: by madvise, to be given back: at most so much was in memory; it stays mapped"
    )?;
    writeln!(out, "# Coverage:")?;
    let at_least =
        if min_bytes == 0 { String::new() } else { format!(", those of {} or more", human(min_bytes)) };
    let calls = counted(calls, "call", "calls");
    writeln!(out, "#   {calls} in {}, {shown} shown{at_least}", seconds(profile.duration_ns))?;
    let losses = footer::all_losses(profile, verbose);
    if losses.is_empty() {
        writeln!(out, "#   no losses")?;
    } else {
        losses.iter().try_for_each(|loss| writeln!(out, "#   {loss}"))?;
        writeln!(out, "#   what calls that were lost changed is in other and in total, not in net")?;
    }
    let stacks: u64 = ends.values().sum();
    if stacks > 0 {
        let complete = ends.get(&StackEnd::Complete).copied().unwrap_or_default();
        let why: Vec<String> = ends
            .iter()
            .filter(|(end, count)| **end != StackEnd::Complete && **count > 0)
            .map(|(end, count)| format!("{} {}", thousands(*count), end.name()))
            .collect();
        let why = if why.is_empty() { String::new() } else { format!("; ended early: {}", why.join(", ")) };
        writeln!(out, "#   stacks: {} of {} complete{why}", thousands(complete), thousands(stacks))?;
    }
    let untraceable = particulars::untraceable(&profile.coverage.untraceable, verbose);
    let notes = notes::lines(&profile.coverage.notes, false, verbose);
    untraceable.iter().chain(&notes).try_for_each(|line| writeln!(out, "#   {line}"))
}

fn row(name: &str, process: &GrowthTotals, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# {name:22} {:>9} {:>10} {:>10} {:>11} {:>11} {:>10} {:>10}",
        process.calls,
        bytes_cell(process.grown_bytes),
        bytes_cell(process.given_back_bytes),
        signed(process.net()),
        process.other().map_or("-".into(), signed),
        process.last.map_or("-".into(), bytes_cell),
        bytes_cell(process.madvised_bytes)
    )
}

fn sum(of: &[GrowthTotals]) -> GrowthTotals {
    let mut sum = GrowthTotals { first: Some(0), last: Some(0), ..GrowthTotals::default() };
    for process in of {
        sum.calls += process.calls;
        sum.grown_bytes = sum.grown_bytes.saturating_add(process.grown_bytes);
        sum.given_back_bytes = sum.given_back_bytes.saturating_add(process.given_back_bytes);
        sum.madvised_bytes = sum.madvised_bytes.saturating_add(process.madvised_bytes);
        sum.first = sum.first.zip(process.first).map(|(sum, bytes)| sum.saturating_add(bytes));
        sum.last = sum.last.zip(process.last).map(|(sum, bytes)| sum.saturating_add(bytes));
    }
    sum
}
