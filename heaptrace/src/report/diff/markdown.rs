//! A comparison as Markdown, for a comment on a change.

use super::{
    compare::Compared,
    options::DiffOptions,
    text::{heading, many, number, one, signed, signed_human, sure, title},
};
use crate::units::counted;
use std::io::{self, Write};

/// Frames of a stack that a cell has room for.
const FRAMES: usize = 4;

pub(super) fn render(compared: &Compared, options: &DiffOptions, out: &mut dyn Write) -> io::Result<()> {
    let total = &compared.total;
    let percent = total.percent().map_or_else(String::new, |percent| format!(" ({percent:+.1}%)"));
    let verdict = match (compared.most, compared.grew_too_much()) {
        (None, _) => "",
        (Some(_), true) => " **Too much.**",
        (Some(_), false) => " Within the limit.",
    };
    writeln!(
        out,
        "**heaptrace diff**, {}: {} bytes{percent}{}.{verdict}\n",
        title(options),
        signed(total.bytes_change.value),
        sure(total.bytes_change)
    )?;
    let parts = compared.parts(options);
    if parts.is_empty() {
        writeln!(out, "Nothing changed.")?;
    }
    for part in &parts {
        let count = counted(part.count as u64, one(options), many(options));
        writeln!(out, "{}: {} in {count}\n", heading(part.state), signed_human(part.change))?;
        writeln!(out, "| change | before | after | blocks | process | by |\n|---:|---:|---:|---:|---|---|")?;
        for row in part.shown {
            let changed = &row.changed;
            let ends = |of: fn(&super::measured::Measured) -> f64| {
                (changed.bytes.first().map_or(0.0, of), changed.bytes.last().map_or(0.0, of))
            };
            let (before, after) = ends(|of| of.value);
            let process = row.process.map_or("", |process| compared.names.name(process));
            let mut frames: Vec<String> =
                row.frames.iter().take(FRAMES).map(|frame| code(&compared.names.shown(*frame))).collect();
            if row.frames.len() > FRAMES {
                frames.push("…".to_owned());
            }
            let mark = if row.is_too_much { " **!**" } else { "" };
            writeln!(
                out,
                "| {}{}{mark} | {} | {} | {} | {} | {} |",
                signed(changed.bytes_change.value),
                sure(changed.bytes_change),
                number(before),
                number(after),
                signed(changed.count_change.value),
                if process.is_empty() { String::new() } else { code(process) },
                frames.join(" ← ")
            )?;
        }
        if part.hidden > 0 {
            let smaller = counted(part.hidden as u64, "smaller one", "smaller ones");
            writeln!(out, "\n{smaller} not shown: {} bytes", signed(part.hidden_change))?;
        }
        writeln!(out)?;
    }
    for remark in compared.remarks(options) {
        writeln!(out, "- {}", plain(&remark))?;
    }
    Ok(())
}

/// `text` as code in a cell of a table.
fn code(text: &str) -> String {
    // A cell ends at a bar even within code; and backticks inside need longer ones outside.
    let text = text.replace('|', "\\|");
    if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") }
}

/// `text` without meaning to Markdown.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '!') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}
