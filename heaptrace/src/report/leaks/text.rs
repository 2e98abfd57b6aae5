//! A print of `leaks` for people, who may see one for the first time.

use super::{Leaks, sum, units};
use crate::{
    model::{Change, Estimate, Mode, Trend},
    printable::printable,
    report::{
        footer,
        labels::Labels,
        select::Estimated,
        table::{error, process_name},
        verdicts,
    },
    units::{counted, duration, sized, thousands},
};
use heaptrace_common::function::Function;
use std::io::{self, Write};

pub(super) fn render(leaks: &Leaks<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Leaks { profile, number, last, time_ns, older_than_ns, shown, hidden, stacks: several, .. } = *leaks;
    if number == 1 {
        explain(profile.mode, older_than_ns, out)?;
    }
    let time = jiff::Timestamp::from_nanosecond(time_ns.into()).unwrap_or_default();
    let (bytes, blocks, stacks) = sum(shown.iter().chain(hidden), several);
    let (one, many) = units(profile.mode);
    writeln!(
        out,
        "=== {}, {}traced for {}: {} in {} of {}",
        time.strftime("%FT%TZ"),
        if last { "last print, " } else { "" },
        duration(profile.duration_ns),
        sized(bytes),
        counted(blocks, one, many),
        counted(stacks, "stack", "stacks")
    )?;
    if stacks == 0 {
        let what = match profile.mode {
            Mode::Growth => "mapped since tracing began is mapped",
            Mode::Faults => "touched since tracing began is resident",
            _ => "allocated since tracing began is outstanding",
        };
        writeln!(out, "Nothing that was {what} for that long.")?;
    }
    let labels = Labels::attributed(profile, leaks.frames);
    for (place, trend) in shown.iter().enumerate() {
        row(place + 1, trend, leaks, &labels, out)?;
    }
    if !hidden.is_empty() {
        let (bytes, blocks, stacks) = sum(hidden, several);
        let (blocks, stacks) = (counted(blocks, one, many), counted(stacks, "more stack", "more stacks"));
        writeln!(out, "# not shown, below --top: {} bytes in {blocks} of {stacks}", thousands(bytes))?;
    }
    let ignored = leaks.ignored.map_or_else(Vec::new, |ignored| ignored.lines((one, many), leaks.verbose));
    for (at, line) in ignored.iter().enumerate() {
        writeln!(out, "# {}{line}", if at == 0 { "not shown, " } else { "" })?;
    }
    let age = duration(older_than_ns);
    let is_sampled = profile.mode.sample_bytes() != 0;
    let blocks = (one, many);
    let removed = if is_sampled { ("sample", "samples") } else { blocks };
    for (amount, why, hint, (one, many)) in [
        (leaks.younger, format!("younger than {age}"), " (--older-than)", blocks),
        (leaks.exited, "of processes that have exited".to_owned(), " (the last print shows them)", blocks),
        (
            leaks.gone,
            "ended without a free: unmapped, under a newer block, or free in the heap".to_owned(),
            "",
            blocks,
        ),
        (leaks.removed, "of exited processes, removed to make room for others".to_owned(), "", removed),
    ] {
        if amount.count > 0 {
            let (bytes, blocks) = (thousands(amount.bytes), counted(amount.count, one, many));
            writeln!(out, "# not shown, {why}: {bytes} bytes in {blocks}{hint}")?;
        }
    }
    writeln!(out)?;
    if last {
        writeln!(out, "# Coverage:")?;
        for line in footer::lines(profile, leaks.verbose) {
            writeln!(out, "#   {line}")?;
        }
    }
    Ok(())
}

fn explain(mode: Mode, older_than_ns: u64, out: &mut dyn Write) -> io::Result<()> {
    let age = match older_than_ns {
        0 => "of any age".to_owned(),
        age => format!("for {} or longer", duration(age)),
    };
    if !mode.has_blocks() {
        return explain_memory(mode, &age, out);
    }
    writeln!(
        out,
        "# Blocks that were allocated since tracing began and not freed so far (outstanding), {age}, by call stack, the\n\
         # most suspicious first. That is not yet a leak: caches and buffers in use are outstanding, too. What a stack\n\
         # looks like is said by how its blocks come, go and stay; the longer it is looked at, the surer."
    )?;
    if !mode.has_frees() {
        let what = "# Frees are not traced: a block counts until its address is handed out again, or glibc's heap has it for free; so there may\n\
             # be fewer.";
        writeln!(out, "{what}")?;
    }
    if mode.sample_bytes() != 0 {
        let whose = match mode {
            Mode::Native => "that the allocator chose".to_owned(),
            _ => format!("one in {} bytes", thousands(mode.sample_bytes())),
        };
        writeln!(out, "# Estimated from samples, {whose}; 95 times in 100 a number is off by ± at most.")?;
    }
    writeln!(out)
}

fn explain_memory(mode: Mode, age: &str, out: &mut dyn Write) -> io::Result<()> {
    let what = if mode == Mode::Faults {
        format!(
            "# Memory that page faults made resident since tracing began and that is resident still, {age}, by the stack of\n\
             # each page's last fault, largest first. Not in it is what was there before tracing began, what system calls\n\
             # touched first (read into a new buffer), and what else of a file came with the page that was touched. Of a process\n\
             # that has exited it is what was known when it did: some of it may have been swapped out, or a huge page count as a\n\
             # small one."
        )
    } else {
        format!(
            "# Memory that was mapped since tracing began (brk, mmap, mremap) and not unmapped so far, {age}, by call stack,\n\
             # largest first. What was mapped before is not in it. These are addresses: whose pages are resident is what\n\
             # --trace faults tells."
        )
    };
    writeln!(
        out,
        "{what}\n\
         # That is not yet a leak: heaps and buffers in use are there, too. Suspect what keeps growing from print to print.\n"
    )
}

fn row(
    place: usize,
    trend: &Trend,
    leaks: &Leaks<'_>,
    labels: &Labels<'_>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Trend { old, change, growing: _ } = trend;
    let (profile, judged) = (leaks.profile, leaks.judged.get(&old.site));
    let site = profile.holders().get(old.site.index());
    let (one, many) = units(profile.mode);
    let estimated = old.samples.zip(site);
    let estimated = estimated.map(|(sums, site)| Estimated::of_live(&sums, site, profile));
    let off = |of: fn(Estimated) -> Estimate| {
        estimated.map_or_else(String::new, |estimated| format!(" (±{})", error(of(estimated))))
    };
    let mut line = format!(
        "{place:>3}. {} bytes{} in {}{}, {} old",
        thousands(old.bytes),
        off(|of| of.bytes),
        counted(old.count, one, many),
        off(|of| of.count),
        match (duration(old.youngest_ns), duration(old.oldest_ns)) {
            (youngest, oldest) if youngest == oldest => oldest,
            (youngest, oldest) => format!("{youngest} to {oldest}"),
        }
    );
    if let Some(change) = change {
        line += "; ";
        line += &in_words(*change, (one, many));
    }
    writeln!(out, "{line}")?;
    if let Some(judged) = judged {
        writeln!(out, "     {}", verdicts::in_words(judged, profile.mode.sample_bytes() != 0))?;
    }
    let Some(site) = site else { return Ok(()) };
    let process = profile.processes.get(site.process.index()).map_or_else(String::new, process_name);
    let exited = if old.exited { ", which has exited" } else { "" };
    let from = if site.function == Function::PageFault { "at" } else { "called from" };
    let through = labels.left_out(site.stack, leaks.stacks.get(&old.site).copied().unwrap_or(1));
    let thread = site.thread.and_then(|id| profile.threads.get(id.index()));
    let thread =
        thread.map_or_else(String::new, |of| format!(", thread {} ({})", printable(&of.name), of.tid));
    writeln!(out, "     {} in {process}{exited}{thread}{through}, {from}", site.function.name())?;
    for label in labels.walk_shown(Some(site.stack)) {
        writeln!(out, "         {}", labels.in_line(label))?;
    }
    Ok(())
}

fn in_words(Change { bytes, count }: Change, (one, many): (&str, &str)) -> String {
    if (bytes, count) == (0, 0) {
        return "unchanged".into();
    }
    let signed = |number: i64| {
        let sign = if number < 0 { "-" } else { "+" };
        format!("{sign}{}", thousands(number.unsigned_abs()))
    };
    let blocks = if count.unsigned_abs() == 1 { one } else { many };
    format!("{} bytes, {} {blocks} since the last print", signed(bytes), signed(count))
}
