//! A comparison for people.

use super::{
    compare::{Changed, Compared, Part, Row, State},
    measured::Measured,
    options::{DiffBy, DiffOptions, Per},
};
use crate::{
    report::View,
    units::{counted, duration, human, thousands},
};
use std::io::{self, Write};

pub(super) fn render(compared: &Compared, options: &DiffOptions, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# heaptrace diff: {}", title(options))?;
    for (number, side) in (1..).zip(&compared.sides) {
        let which = match number {
            1 => "before:".to_owned(),
            _ if number == compared.sides.len() => "after:".to_owned(),
            number => format!("then ({number}):"),
        };
        let (file, started, mode) = (&side.file, &side.started, side.mode.name());
        writeln!(out, "#   {which:8} {file}, {started}, {} in {mode} mode", duration(side.duration_ns))?;
    }
    for remark in compared.remarks(options) {
        writeln!(out, "#   {remark}")?;
    }
    writeln!(out, "#\n# In all: {}", in_words(&compared.total, options))?;
    let parts = compared.parts(options);
    if parts.is_empty() {
        writeln!(out, "Nothing changed{}.", beyond(compared))?;
    }
    for part in &parts {
        part_of(part, compared, options, out)?;
    }
    let same = compared.same();
    if same > 0 {
        writeln!(
            out,
            "\n# {} did not change{}",
            counted(same as u64, one(options), many(options)),
            beyond(compared)
        )?;
    }
    if compared.grew_too_much() {
        writeln!(out, "\n# Too much ({} bytes or more):", number(compared.most.unwrap_or_default()))?;
        for site in compared.too_much() {
            writeln!(out, "#   {site}")?;
        }
    }
    Ok(())
}

/// What is compared.
pub(super) fn title(options: &DiffOptions) -> String {
    let view = match options.view {
        View::Live | View::Leaks | View::Rss => "bytes still allocated at the end",
        View::Churn => "bytes freed again",
        View::Alloc | View::Sizes => "bytes allocated",
        View::Growth => "bytes mapped, given back since or not",
        View::Faults => "bytes touched first",
    };
    let per = match &options.per {
        Per::Recording => "",
        Per::Second => ", by the second",
        Per::Counts(_) => ", by what was done",
    };
    format!("{view}{per}")
}

fn beyond(compared: &Compared) -> &'static str {
    if compared.sides.iter().any(|side| side.none.is_some()) {
        " by more than estimates may be off"
    } else {
        ""
    }
}

pub(super) fn one(options: &DiffOptions) -> &'static str {
    match options.by {
        DiffBy::Stack => "call stack",
        DiffBy::Function => "function",
        DiffBy::Module => "module",
        DiffBy::Process => "process",
    }
}

pub(super) fn many(options: &DiffOptions) -> &'static str {
    match options.by {
        DiffBy::Stack => "call stacks",
        DiffBy::Function => "functions",
        DiffBy::Module => "modules",
        DiffBy::Process => "processes",
    }
}

pub(super) fn heading(state: State) -> &'static str {
    match state {
        State::New => "New",
        State::Grew => "Grew",
        State::Shrank => "Shrank",
        State::Gone => "Gone",
        State::Same => "Same",
    }
}

fn part_of(
    part: &Part<'_>,
    compared: &Compared,
    options: &DiffOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let count = counted(part.count as u64, one(options), many(options));
    writeln!(out, "\n{}: {} bytes in {count}", heading(part.state), signed(part.change))?;
    for (place, row) in (1..).zip(part.shown) {
        row_of(place, row, compared, options, out)?;
    }
    if part.hidden > 0 {
        let smaller = counted(part.hidden as u64, "smaller one", "smaller ones");
        writeln!(out, "# not shown: {smaller}, {} bytes (--top, --min-bytes)", signed(part.hidden_change))?;
    }
    Ok(())
}

fn row_of(
    place: usize,
    row: &Row,
    compared: &Compared,
    options: &DiffOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let names = &compared.names;
    let process = row.process.map(|process| format!("; {}", names.name(process))).unwrap_or_default();
    writeln!(out, "{place:>3}. {}{process}", in_words(&row.changed, options))?;
    for frame in &row.frames {
        let (name, module) = (names.shown(*frame), names.module(*frame));
        match module.is_empty() || name.starts_with(module) {
            true => writeln!(out, "         {name}")?,
            false => writeln!(out, "         {name} ({module})")?,
        }
    }
    Ok(())
}

/// `+1,000 bytes (+50.0%), 2,000 -> 3,000; +2 blocks, 4 -> 6`.
fn in_words(changed: &Changed, options: &DiffOptions) -> String {
    let (one, many) = match options.view {
        View::Growth => ("call", "calls"),
        View::Faults => ("fault", "faults"),
        View::Live | View::Leaks | View::Churn | View::Alloc | View::Sizes | View::Rss => ("block", "blocks"),
    };
    let things = if changed.count_change.value.abs() == 1.0 { one } else { many };
    let percent = changed.percent().map_or_else(String::new, |percent| format!(" ({percent:+.1}%)"));
    let trend = match changed.bytes.len() {
        0..=2 => "",
        _ if changed.grows_always() => "; more each time",
        _ => "",
    };
    format!(
        "{} bytes{percent}{}, {}; {} {things}, {}{trend}",
        signed(changed.bytes_change.value),
        sure(changed.bytes_change),
        series(&changed.bytes),
        signed(changed.count_change.value),
        series(&changed.count),
    )
}

/// How sure a change is, where it is estimated.
pub(super) fn sure(change: Measured) -> String {
    if change.is_exact() {
        return String::new();
    }
    format!(" [{} to {}]", signed(change.low), signed(change.high))
}

fn series(of: &[Measured]) -> String {
    of.iter().map(|of| number(of.value)).collect::<Vec<_>>().join(" -> ")
}

/// A number of people's: whole, but for small parts of one.
pub(super) fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 100.0 {
        thousands(value.abs().round() as u64)
    } else {
        format!("{:.2}", value.abs())
    }
}

pub(super) fn signed(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "+" };
    format!("{sign}{}", number(value))
}

/// `+1.5 MiB`.
pub(super) fn signed_human(value: f64) -> String {
    let sign = if value < 0.0 { "-" } else { "+" };
    format!("{sign}{}", human(value.abs().round() as u64))
}
