//! `watch` for people: a line has room for a terminal's width, and its stack comes last.

use super::{GrowthCall, WatchEnd};
use crate::{
    model::{Profile, StackId},
    report::{
        footer,
        labels::{Label, Labels},
        number::{base_name, counted, human, printable, seconds},
    },
};
use std::io::{self, Write};

/// Frames of a line.
const FRAMES: usize = 3;

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
            human(*total),
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
