//! Stacks as comma-separated values, for spreadsheets and databases: a line for each process and stack, with a heading.

use super::{
    Options,
    export::{Content, Export, Past, Untold},
    labels::{LabelId, Labels},
    stacks::{Measure, Stacks},
};
use crate::{model::Profile, printable::printable, units::base_name};
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "csv",
    help: "One line per stack, with a heading, for spreadsheets and databases.",
    files: &["*.csv"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::None,
    tells_losses: false,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    stacks.hide_below(options.min_bytes);
    // The most of what the report is about first; equal ones as they came.
    let mut rows = stacks.rows.clone();
    rows.sort_by_key(|row| std::cmp::Reverse(stacks.bytes(row)));
    let labels = Labels::new(profile);
    let mut lines = csv::Writer::from_writer(out);
    let mut heading: Vec<&str> = vec!["pid", "comm", "function", "file", "line", "module"];
    heading.extend(stacks.measures.iter().flat_map(|measure| columns(*measure)));
    heading.push("stack");
    lines.write_record(heading)?;
    let mut stack: Vec<LabelId> = Vec::new();
    for row in &rows {
        labels.of_stack(row.stack, &mut stack);
        let innermost = stack.first().map(|label| labels.get(*label));
        let source = innermost.and_then(|label| label.source.as_ref());
        let module = innermost.and_then(|label| profile.modules.get(label.module?.index()));
        let process = stacks.process(row);
        let mut cells = vec![
            process.pid.to_string(),
            text(&printable(&process.comm)),
            innermost.map_or_else(String::new, |label| text(&label.name)),
            source.map_or_else(String::new, |(file, _)| text(file)),
            source.and_then(|(_, line)| *line).map_or_else(String::new, |line| line.to_string()),
            module.map_or_else(String::new, |module| text(&printable(base_name(&module.path)))),
        ];
        let amounts = row.amounts.iter().take(stacks.measures.len());
        cells.extend(amounts.flat_map(|amount| [amount.bytes.to_string(), amount.count.to_string()]));
        // As folded stacks have it: outermost first.
        cells.push(text(&joined(stack.iter().rev().map(|label| labels.get(*label).name.as_ref()))));
        lines.write_record(cells)?;
    }
    lines.flush()?;
    Ok(stacks.not_shown())
}

/// Frames in one line; what parts them is in none.
pub(super) fn joined<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.map(|name| name.replace(';', ":")).collect::<Vec<_>>().join(";")
}

/// A text that others chose, as one to spreadsheets: what begins like a formula would be calculated there.
pub(super) fn text(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// What a measure's bytes and counts are called, as in the JSON where that has them.
fn columns(measure: Measure) -> [&'static str; 2] {
    match measure {
        Measure::Allocated => ["alloc_bytes", "alloc_count"],
        Measure::Live => ["live_bytes", "live_count"],
        Measure::Mapped => ["mapped_bytes", "mapped_count"],
        Measure::Touched => ["touched_bytes", "fault_count"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, report::View};

    #[test]
    fn names_are_no_formulas() {
        assert_eq!(["=1+1", "@x", "-y", "a=b", ""].map(text), ["'=1+1", "'@x", "'-y", "a=b", ""]);
    }

    #[test]
    fn a_line_a_stack_with_sums_that_are_those_of_the_recording() {
        let profile = full();
        let of = |view| {
            let mut bytes = Vec::new();
            render(&profile, &Options { view, ..Options::default() }, &mut bytes).expect("memory");
            String::from_utf8(bytes).expect("text")
        };
        let text = of(View::Live);
        insta::assert_snapshot!(text);
        let mut lines = csv::Reader::from_reader(text.as_bytes());
        let at = lines.headers().expect("a heading").iter().position(|name| name == "alloc_bytes");
        let sum: u64 = lines
            .records()
            .map(|line| line.expect("a line")[at.expect("a column")].parse::<u64>().expect("a number"))
            .sum();
        assert_eq!(sum, profile.processes.iter().map(|process| process.totals.alloc_bytes).sum::<u64>());
        assert!(
            of(View::Growth)
                .starts_with("pid,comm,function,file,line,module,mapped_bytes,mapped_count,stack\n")
        );
    }
}
