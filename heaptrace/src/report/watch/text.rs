//! `watch` for people: a line has room for a terminal's width, and its stack comes last.

use super::{GrowthCall, GrowthTotals, WatchEnd};
use crate::{
    model::{Profile, StackId},
    report::{
        footer,
        labels::{Label, Labels},
        number::{base_name, counted, human, printable, seconds, thousands},
    },
};
use heaptrace_common::stack::StackEnd;
use std::io::{self, Write};

/// Frames of a line.
const FRAMES: usize = 3;

/// Processes that have a row of their own at the end.
const ROWS: usize = 40;

/// What the C library is called: its inner frames say what the call's name says already.
const LIBC: [&str; 5] = ["libc.so", "libc-", "libc.musl", "ld-linux", "ld-musl"];

/// The innermost ones, wherever they are, without their underscores.
const WRAPPERS: [&str; 7] = ["brk", "sbrk", "mmap", "mmap64", "munmap", "mremap", "syscall"];

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
    let labels = stacks.then(|| Labels::new(profile));
    for GrowthCall { time_ns, pid, tid, comm, call, delta, total, address: _, kind, stack } in calls {
        let time = jiff::Timestamp::from_nanosecond((*time_ns).into()).unwrap_or_default();
        let line = format!(
            "{:15} {:22} {tid:>7} {call:7} {:>11} {:>10} {:9}",
            time.strftime("%T%.6f").to_string(),
            format!("{}:{pid}", printable(comm)),
            signed(*delta),
            total.map_or("-".into(), human),
            kind.name(),
        );
        match &labels {
            Some(labels) => writeln!(out, "{line} {}", frames(profile, labels, *stack))?,
            None => writeln!(out, "{}", line.trim_end())?,
        }
    }
    Ok(())
}

fn signed(delta: i64) -> String {
    format!("{}{}", if delta < 0 { "-" } else { "+" }, human(delta.unsigned_abs()))
}

/// The innermost frames outside of the C library, or within it if there are no others. By their names alone, so that
/// three fit a terminal; source lines are in the JSON.
fn frames(profile: &Profile, labels: &Labels<'_>, stack: Option<StackId>) -> String {
    let mut all = Vec::new();
    if stack.is_none() {
        return "[no stack]".into();
    }
    labels.of_stack(stack, &mut all);
    let all: Vec<&Label> = all.into_iter().map(|id| labels.get(id)).collect();
    let skip = |is_inner: &dyn Fn(&Label) -> bool| {
        let inner = all.iter().take_while(|label| is_inner(label)).count();
        all.get(inner..).filter(|rest| !rest.is_empty())
    };
    let outside = skip(&|label| is_wrapper(label) || is_libc(profile, label));
    let useful = outside.or_else(|| skip(&is_wrapper)).unwrap_or(&all);
    let mut names: Vec<&str> = useful.iter().map(|label| label.name.as_str()).collect();
    // A part of a function that was inlined into it has its name, too.
    names.dedup();
    names.truncate(FRAMES);
    names.join(" < ")
}

fn is_libc(profile: &Profile, label: &Label) -> bool {
    let module = label.module.and_then(|module| profile.modules.get(module.index()));
    let name = module.map_or("", |module| base_name(&module.path));
    LIBC.iter().any(|libc| name.starts_with(libc))
}

fn is_wrapper(label: &Label) -> bool {
    let name = label.name.strip_prefix("__GI_").unwrap_or(&label.name);
    WRAPPERS.contains(&name.trim_start_matches('_'))
}

pub(super) fn render_end(end: &WatchEnd<'_>, out: &mut dyn Write) -> io::Result<()> {
    let WatchEnd { profile, min_bytes, shown, ends, totals } = *end;
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
    let losses = footer::losses(profile);
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
    for process in &profile.coverage.untraceable {
        let (comm, reason) = (printable(&process.comm), printable(&process.reason));
        writeln!(out, "#   not traced: {comm}:{}: {reason}", process.pid)?;
    }
    profile.coverage.notes.iter().try_for_each(|note| writeln!(out, "#   {}", printable(note)))
}

fn row(name: &str, process: &GrowthTotals, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "# {name:22} {:>9} {:>10} {:>10} {:>11} {:>11} {:>10} {:>10}",
        process.calls,
        human(process.grown_bytes),
        human(process.given_back_bytes),
        signed(process.net()),
        process.other().map_or("-".into(), signed),
        process.last.map_or("-".into(), human),
        human(process.madvised_bytes)
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
