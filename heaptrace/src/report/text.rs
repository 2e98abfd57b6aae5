//! The text report: header, table with call trees, footer.

use super::export::{Content, Export, Past, Untold};
use super::select::{Estimated, Selection, chosen};
use super::table::process_name;
use super::{
    By, Options, View, arenas, churn, footer, frees, hints, notes, part, rss, sizes, suspects, table,
    unnamed, verdicts,
};
use crate::model::{Estimate, Profile};
use crate::printable::printable;
use crate::units::{counted, seconds, sized, thousands};
use std::io::{self, Write};

/// Processes named in the header; the rest is counted.
const NAMED: usize = 8;

pub(super) const EXPORT: Export = Export {
    name: "text",
    help: "Table with call trees, as `perf report --stdio`.",
    files: &["*.txt"],
    content: Content::Views,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let selection = Selection::new(profile, options);
    header(profile, &selection, options, out)?;
    if options.view == View::Rss && profile.processes.iter().any(|process| chosen(process, options)) {
        rss::write(profile, options, out)?;
    } else if selection.entries.is_empty() {
        for line in why_empty(profile, options) {
            writeln!(out, "{line}")?;
        }
    } else if options.view == View::Leaks {
        suspects::write(profile, selection.total.bytes(), options, out)?;
    } else if options.view == View::Churn {
        churn::write(profile, selection.total.bytes(), options, out)?;
    } else if options.view == View::Sizes {
        sizes::write(profile, selection.total.count(), options, out)?;
    } else {
        let hidden = table::write(profile, &selection, options, out)?;
        if hidden.rows > 0 {
            let rows = counted(hidden.rows, "row", "rows");
            let (bytes, blocks) =
                (thousands(hidden.weight.bytes()), counted_in(options.view, hidden.weight.count()));
            let least = thousands(options.least(selection.total.bytes()));
            match options.by {
                // A block is in many of them.
                By::Function => writeln!(out, "#\n# {rows} below {least} bytes not shown")?,
                _ => {
                    writeln!(out, "#\n# {rows} below {least} bytes not shown: {bytes} bytes in {blocks}")?;
                }
            }
        }
        if hidden.folded > 0 && has_code(options.by) {
            let stacks = counted(hidden.folded, "stack", "stacks");
            writeln!(
                out,
                "#\n# of {stacks} the inner frames are left out, as they are of allocators, libraries or interpreters \
                 (--raw-frames)"
            )?;
        }
    }
    if options.view == View::Live {
        verdicts::write_leaks(profile, options, out)?;
    }
    if options.view.is_of_blocks() && options.view != View::Rss {
        frees::write(profile, options, out)?;
    }
    let stacks = has_code(options.by) && !matches!(options.view, View::Rss | View::Sizes);
    if options.hints {
        let hints = hints::lines(profile, options);
        let none = hints.is_empty().then(|| "nothing stands out".to_owned());
        writeln!(out, "#\n# Hints:")?;
        hints.iter().chain(&none).try_for_each(|line| writeln!(out, "#   {line}"))?;
    }
    if options.view != View::Rss {
        let arenas = arenas::lines(profile, options);
        arenas.iter().try_for_each(|line| writeln!(out, "#\n# {line}"))?;
    }
    let unnamed = if stacks {
        unnamed::lines(profile, &selection, &options.frames, options.verbose)
    } else {
        Vec::new()
    };
    if !unnamed.is_empty() {
        writeln!(out, "#")?;
    }
    unnamed.iter().try_for_each(|line| writeln!(out, "# {line}"))?;
    if let Some(ignored) = &options.ignored {
        writeln!(out, "#")?;
        for line in ignored.lines(units(options.view), options.verbose) {
            writeln!(out, "# {line}")?;
        }
    }
    writeln!(out, "#\n# Coverage:")?;
    for line in footer::lines(profile, options.verbose) {
        writeln!(out, "#   {line}")?;
    }
    Ok(None)
}

/// Whether rows are about code.
fn has_code(by: By) -> bool {
    !matches!(by, By::Process | By::Thread)
}

fn header(
    profile: &Profile,
    selection: &Selection,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (kernel, arch) = (printable(&profile.host.kernel), printable(&profile.host.arch));
    writeln!(out, "# heaptrace {} on Linux {kernel} {arch}", printable(&profile.heaptrace))?;
    let duration = seconds(profile.duration_ns);
    writeln!(out, "# Recorded: {} for {duration}, {}", started(profile), footer::mode(profile.mode))?;
    for line in part::part(profile) {
        writeln!(out, "# Part: {line}")?;
    }
    let view = match options.view {
        View::Live if profile.part.is_some_and(|part| part.is_span()) => "live: more live blocks than before",
        View::Live | View::Leaks if !profile.mode.has_frees() => {
            "live, at most: blocks not known to be over by the end, as frees were not traced"
        }
        View::Live => "live: blocks not freed by the end",
        View::Leaks => "leaks: blocks not freed by the end, what looks most like a leak first",
        View::Churn => "churn: blocks allocated and freed again",
        View::Alloc => "alloc: all blocks allocated",
        View::Sizes => "sizes: how large the allocated blocks were",
        View::Growth => "growth: bytes mapped by brk, mmap and mremap, given back since or not",
        View::Faults => "faults: page faults, each counted as one page",
        View::Rss => "rss: what resident memory is made of; each process's parts sum to its RSS",
    };
    let by = match (options.view, options.by) {
        (View::Sizes | View::Rss | View::Leaks | View::Churn, _) => "",
        (_, By::Stack) => ", by calling function, with callers",
        (_, By::Site) => ", by line of code",
        (_, By::Function) => ", by function, with all that it calls",
        (_, By::Module) => ", by module",
        (_, By::Process) => ", by process",
        (_, By::Thread) => ", by thread that allocated",
    };
    let processes: Vec<_> = profile.processes.iter().filter(|process| chosen(process, options)).collect();
    let is_about_blocks = options.view.is_of_blocks() && options.view != View::Rss;
    let is_part = is_about_blocks && processes.iter().any(|process| process.paused_ns > 0);
    let part = if is_part { "; of the time that each was traced, see the coverage" } else { "" };
    writeln!(out, "# View: {view}{by}{part}")?;
    let mut names: Vec<String> = processes
        .iter()
        .take(NAMED)
        .map(|process| {
            let kinds: Vec<_> = process.allocators.iter().map(|a| printable(&a.kind)).collect();
            let kinds = if kinds.is_empty() { "no allocator found".into() } else { kinds.join(", ") };
            format!("{} ({kinds})", process_name(process))
        })
        .collect();
    if processes.len() > NAMED {
        names.push(format!("{} more", thousands((processes.len() - NAMED) as u64)));
    }
    writeln!(out, "# Processes: {}", if names.is_empty() { "none".into() } else { names.join(", ") })?;
    for line in notes::hidden(&profile.coverage.notes) {
        writeln!(out, "# Not in it: {line}")?;
    }
    if options.view == View::Rss {
        let (bytes, count) = rss::total(profile, options);
        let of = counted(count, "process", "processes");
        return writeln!(out, "# Total: {} resident in {of}, shared memory in each\n#", sized(bytes));
    }
    let (bytes, count) = (selection.total.bytes(), selection.total.count());
    let blocks = counted_in(options.view, count);
    writeln!(out, "# Total: {} in {blocks}", sized(bytes))?;
    if let Some(Estimated { bytes, count }) = selection.total.quantity.estimated() {
        let samples = counted(bytes.samples, "sample", "samples");
        let between = |of: &Estimate| match of.interval95() {
            (_, high) if of.is_bound() => format!("at most {}", thousands(high)),
            (low, high) => format!("{} to {}", thousands(low), thousands(high)),
        };
        let (bytes, count) = (between(bytes), between(count));
        writeln!(out, "# Estimated from {samples}; 95 times in 100 it is {bytes} bytes in {count} blocks")?;
    }
    writeln!(out, "#")
}

/// What a view counts, one and many.
pub(super) fn units(view: View) -> (&'static str, &'static str) {
    match view {
        View::Growth => ("call", "calls"),
        View::Faults => ("fault", "faults"),
        View::Live | View::Leaks | View::Churn | View::Alloc | View::Sizes | View::Rss => ("block", "blocks"),
    }
}

fn counted_in(view: View, count: u64) -> String {
    let (one, many) = units(view);
    counted(count, one, many)
}

/// When tracing began, in RFC 3339.
pub(super) fn started(profile: &Profile) -> String {
    jiff::Timestamp::from_nanosecond(profile.started_ns.into())
        .map_or_else(|_| format!("{} ns", profile.started_ns), |time| time.to_string())
}

/// Why there is nothing to show: sentences, most likely reason first.
pub(super) fn why_empty(profile: &Profile, options: &Options) -> Vec<String> {
    let coverage = &profile.coverage;
    let mut lines = Vec::new();
    let chosen: Vec<_> = profile.processes.iter().filter(|process| chosen(process, options)).collect();
    let allocated = chosen.iter().fold(0, |sum: u64, p| sum.saturating_add(p.totals.alloc_count));
    let seen = chosen.iter().fold(0, |sum: u64, p| sum.saturating_add(p.seen_count));
    if let (Some(pid), true) = (options.pid, chosen.is_empty()) {
        let mut pids: Vec<_> = profile.processes.iter().map(|process| process.pid.to_string()).collect();
        pids.truncate(NAMED);
        let known = if pids.is_empty() { "no process".into() } else { pids.join(", ") };
        lines.push(format!("Nothing to show: PID {pid} is not in this recording, which has {known}."));
    } else if options.ignored.as_ref().is_some_and(|ignored| ignored.stacks > 0) {
        lines.push("Nothing to show beside what is ignored (--ignore), which is said below.".into());
    } else if profile.part.is_some() && allocated == 0 && options.view != View::Faults {
        let what = match options.view {
            View::Growth => "memory was mapped",
            _ => "block was allocated",
        };
        let when = match profile.part {
            Some(part) if part.is_span() => "in this span of the recording, between two saved states",
            _ => "before this state was saved",
        };
        lines.push(format!("Nothing to show: no {what} {when}."));
    } else if options.view == View::Growth {
        lines.push("Nothing to show: no memory was mapped while tracing.".into());
    } else if options.view == View::Faults {
        lines.push("Nothing to show: no page fault was recorded; `record --faults` traces them.".into());
    } else if allocated > 0 {
        let blocks = counted(allocated, "block", "blocks");
        let (about, over) = match (profile.mode.sample_bytes(), profile.mode.has_frees()) {
            (0, true) => ("", "all freed, released or gone"),
            (0, false) => ("", "none of which is known to be live still"),
            _ => ("about ", "none of whose samples is known to be live still"),
        };
        lines.push(format!("Nothing is live: {about}{blocks} allocated, {over} (--view alloc shows them)."));
    } else if profile.processes.is_empty() {
        lines.push("Nothing to show: no process was traced.".into());
    } else if seen > 0 {
        let seen = counted(seen, "allocation", "allocations");
        lines.push(format!("Nothing to show: of {seen} seen none was sampled."));
    } else if coverage.events == 0 && !coverage.finished {
        lines.push("Nothing to show: the recorder ended before it had saved anything.".into());
    } else if coverage.events == 0 {
        lines.push("Nothing to show: no allocation function was called while tracing.".into());
        for process in chosen.iter().filter(|process| process.allocators.is_empty()) {
            lines.push(format!("{}: no allocator was found in it.", process_name(process)));
        }
    } else {
        lines.push("Nothing to show: no block was allocated while tracing.".into());
    }
    for process in &coverage.untraceable {
        if options.pid.is_none_or(|pid| pid == process.pid) {
            let (comm, reason) = (printable(&process.comm), printable(&process.reason));
            lines.push(format!("{comm}:{} was not traced: {reason}.", process.pid));
        }
    }
    lines
}
