//! `watch` for people: a line has room for a terminal's width, and its stack comes last.

use super::{GrowthCall, WatchEnd};
use crate::{
    model::{Profile, StackId},
    report::{
        footer,
        names::StackNames,
        number::{counted, human, printable, seconds},
    },
};
use std::io::{self, Write};

/// StackNames of a line.
const FRAMES: usize = 3;

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
            human(*total),
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
    format!("{}{}", if delta < 0 { "-" } else { "+" }, human(delta.unsigned_abs()))
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
    let WatchEnd { profile, min_bytes, shown, totals } = *end;
    let calls: u64 = totals.iter().map(|process| process.calls).sum();
    writeln!(out, "\n# Totals of all calls, shown or not:")?;
    writeln!(
        out,
        "# {:22} {:>9} {:>10} {:>10} {:>11} {:>10} {:>10}",
        "process:pid", "calls", "grown", "given back", "net", "total", "madvised"
    )?;
    for process in totals {
        let net = process.grown_bytes.cast_signed().wrapping_sub_unsigned(process.given_back_bytes);
        writeln!(
            out,
            "# {:22} {:>9} {:>10} {:>10} {:>11} {:>10} {:>10}",
            format!("{}:{}", printable(&process.comm), process.pid),
            process.calls,
            human(process.grown_bytes),
            human(process.given_back_bytes),
            signed(net),
            human(process.total),
            human(process.madvised_bytes)
        )?;
    }
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
        writeln!(out, "#   where events of mappings were lost, deltas and totals after that may be wrong")?;
    }
    for process in &profile.coverage.untraceable {
        let (comm, reason) = (printable(&process.comm), printable(&process.reason));
        writeln!(out, "#   not traced: {comm}:{}: {reason}", process.pid)?;
    }
    profile.coverage.notes.iter().try_for_each(|note| writeln!(out, "#   {}", printable(note)))
}
