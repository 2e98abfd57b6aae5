//! The flame graph: inferno's, of the folded stacks.

use super::{Options, View, folded, footer, text};
use crate::model::Profile;
use inferno::flamegraph;
use std::io::{self, Write};

pub(super) fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let lines: Vec<String> = folded::lines(profile, options)
        .into_iter()
        .map(|(stack, bytes)| format!("{stack} {bytes}"))
        .collect();
    if lines.is_empty() {
        return empty(profile, options, out);
    }
    let mut graph = flamegraph::Options::default();
    graph.title = match options.view {
        View::Live => "heaptrace: live heap bytes".into(),
        View::Alloc | View::Sizes => "heaptrace: allocated heap bytes".into(),
    };
    graph.subtitle = Some(footer::summary(profile));
    graph.count_name = "bytes".into();
    // A function has its colour in every graph, and the same recording gives the same file.
    graph.hash = true;
    graph.deterministic = true;
    flamegraph::from_lines(&mut graph, lines.iter().map(String::as_str), out)
}

/// inferno makes an error of an empty graph; here it is a graph that says why.
fn empty(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = text::why_empty(profile, options);
    if options.min_bytes > 0 {
        lines.push(format!("Stacks below {} bytes are left out.", options.min_bytes));
    }
    lines.push(footer::summary(profile));
    let height = 20 * lines.len() + 20;
    writeln!(out, r#"<?xml version="1.0" standalone="no"?>"#)?;
    writeln!(
        out,
        r#"<svg version="1.1" width="1200" height="{height}" xmlns="http://www.w3.org/2000/svg">"#
    )?;
    for (index, line) in (1..).zip(lines) {
        let line = line.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        writeln!(
            out,
            r#"<text x="10" y="{}" font-family="monospace" font-size="12">{line}</text>"#,
            20 * index
        )?;
    }
    writeln!(out, "</svg>")
}
