//! A comparison for programs: one object. Keys are only ever added, at the end.

use super::{
    compare::{Changed, Compared, Row},
    measured::Measured,
    options::{DiffOptions, Per},
};
use crate::{printable::write_json, report::json::SCHEMA, units::in_seconds};
use clap::ValueEnum as _;
use serde::Serialize;
use std::io::{self, Write};

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    view: String,
    by: String,
    /// `recording`, `second` or `count`.
    per: &'static str,
    recordings: Vec<Recording<'a>>,
    total: Numbers,
    /// Of all call stacks, whatever `--top` says.
    rows: Vec<RowEntry<'a>>,
    remarks: Vec<String>,
    /// Bytes that nothing may grow by; `null` where nobody said so.
    limit_bytes: Option<f64>,
    /// It grew by that or more.
    failed: bool,
}

#[derive(Serialize)]
struct Recording<'a> {
    file: &'a str,
    started: &'a str,
    duration_s: f64,
    mode: &'static str,
    attached_fraction: f64,
    losses: &'a [String],
}

#[derive(Serialize)]
struct Numbers {
    /// Of each recording, in their order.
    bytes: Vec<f64>,
    count: Vec<f64>,
    /// From the first to the last.
    bytes_change: f64,
    /// Between what that lies 95 times in 100; twice the same where it is exact.
    bytes_change_interval: (f64, f64),
    count_change: f64,
    count_change_interval: (f64, f64),
    grows_always: bool,
}

#[derive(Serialize)]
struct RowEntry<'a> {
    state: &'static str,
    process: Option<&'a str>,
    /// Innermost first.
    frames: Vec<FrameEntry<'a>>,
    #[serde(flatten)]
    numbers: Numbers,
    too_much: bool,
}

#[derive(Serialize)]
struct FrameEntry<'a> {
    name: &'a str,
    module: Option<&'a str>,
}

pub(super) fn render(compared: &Compared, options: &DiffOptions, out: &mut dyn Write) -> io::Result<()> {
    let value =
        |of: Option<clap::builder::PossibleValue>| of.map_or_else(String::new, |of| of.get_name().to_owned());
    let document = Document {
        schema: SCHEMA,
        view: value(options.view.to_possible_value()),
        by: value(options.by.to_possible_value()),
        per: match options.per {
            Per::Recording => "recording",
            Per::Second => "second",
            Per::Counts(_) => "count",
        },
        recordings: compared
            .sides
            .iter()
            .map(|side| Recording {
                file: &side.file,
                started: &side.started,
                duration_s: in_seconds(side.duration_ns),
                mode: side.mode.name(),
                attached_fraction: side.attached_fraction,
                losses: &side.losses,
            })
            .collect(),
        total: numbers(&compared.total),
        rows: compared.rows.iter().map(|row| entry(compared, row)).collect(),
        remarks: compared.remarks(options),
        limit_bytes: compared.most,
        failed: compared.grew_too_much(),
    };
    write_json(&document, out)?;
    writeln!(out)
}

fn numbers(changed: &Changed) -> Numbers {
    let values = |of: &[Measured]| of.iter().map(|of| of.value).collect();
    let ends = |of: Measured| (of.low, of.high);
    Numbers {
        bytes: values(&changed.bytes),
        count: values(&changed.count),
        bytes_change: changed.bytes_change.value,
        bytes_change_interval: ends(changed.bytes_change),
        count_change: changed.count_change.value,
        count_change_interval: ends(changed.count_change),
        grows_always: changed.grows_always(),
    }
}

fn entry<'a>(compared: &'a Compared, row: &'a Row) -> RowEntry<'a> {
    let names = &compared.names;
    let frame = |id: &u32| FrameEntry {
        name: names.name(*id),
        module: Some(names.module(*id)).filter(|module| !module.is_empty()),
    };
    RowEntry {
        state: row.state.name(),
        process: row.process.map(|process| names.name(process)),
        frames: row.frames.iter().map(frame).collect(),
        numbers: numbers(&row.changed),
        too_much: row.is_too_much,
    }
}
