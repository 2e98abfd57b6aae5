//! A differential flame graph: inferno's, of what the first and the last recording have of each stack.

use super::{compare::Compared, measured::Measured, options::DiffOptions, text::title};
use crate::report::csv::joined;
use inferno::flamegraph;
use std::io::{self, Write};

pub(super) fn render(compared: &Compared, options: &DiffOptions, out: &mut dyn Write) -> io::Result<()> {
    let names = &compared.names;
    let mut lines: Vec<String> = Vec::new();
    for row in &compared.rows {
        let at = |of: Option<&Measured>| of.map_or(0.0, |of| of.value).round() as u64;
        let (before, after) = (at(row.changed.bytes.first()), at(row.changed.bytes.last()));
        if before == 0 && after == 0 {
            continue;
        }
        let process = row.process.map(|process| names.name(process));
        let frames = process.into_iter().chain(row.frames.iter().rev().map(|frame| names.name(*frame)));
        lines.push(format!("{} {before} {after}", joined(frames)));
    }
    lines.sort_unstable();
    if lines.is_empty() {
        return super::super::svg::message(&["Nothing to compare.".to_owned()], out);
    }
    let mut graph = flamegraph::Options::default();
    graph.title = format!("heaptrace diff: {}", title(options));
    let files: Vec<&str> = compared.sides.iter().map(|side| side.file.as_str()).collect();
    graph.subtitle = Some(format!(
        "{}: as wide as after; red has more than before, blue less; what is gone has no width",
        files.join(" -> ")
    ));
    graph.count_name = "bytes".into();
    graph.deterministic = true;
    flamegraph::from_lines(&mut graph, lines.iter().map(String::as_str), out)?;
    Ok(())
}
