//! A comparison as comma-separated values, for spreadsheets and databases: all rows, the first and the last recording.

use super::{
    super::csv::{joined, text},
    compare::Compared,
    measured::Measured,
    options::DiffOptions,
};
use std::io::{self, Write};

const HEADING: [&str; 12] = [
    "state",
    "process",
    "site",
    "stack",
    "bytes_before",
    "bytes_after",
    "bytes_change",
    "bytes_change_low",
    "bytes_change_high",
    "count_before",
    "count_after",
    "count_change",
];

pub(super) fn render(compared: &Compared, _: &DiffOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = csv::Writer::from_writer(out);
    lines.write_record(HEADING)?;
    let names = &compared.names;
    for row in &compared.rows {
        let stack = joined(row.frames.iter().rev().map(|frame| names.name(*frame)));
        let changed = &row.changed;
        let ends = |of: &[Measured]| {
            let value = |of: Option<&Measured>| of.map_or(0.0, |of| of.value).to_string();
            [value(of.first()), value(of.last())]
        };
        let [bytes_before, bytes_after] = ends(&changed.bytes);
        let [count_before, count_after] = ends(&changed.count);
        let change = changed.bytes_change;
        lines.write_record([
            row.state.name(),
            &row.process.map_or_else(String::new, |process| text(names.name(process))),
            &row.frames.first().map_or_else(String::new, |frame| text(names.name(*frame))),
            &text(&stack),
            &bytes_before,
            &bytes_after,
            &change.value.to_string(),
            &change.low.to_string(),
            &change.high.to_string(),
            &count_before,
            &count_after,
            &changed.count_change.value.to_string(),
        ])?;
    }
    lines.flush()
}
