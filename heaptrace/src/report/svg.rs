//! The flame graph: inferno's, of the folded stacks.

use super::export::{Content, Export, Past, Untold};
use super::select::Selection;
use super::{Options, View, folded::Folded, footer, part, text};
use crate::model::Profile;
use inferno::flamegraph;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "svg",
    help: "Flame graph, for browsers.",
    files: &["*.svg"],
    content: Content::StacksForSizes,
    is_binary: false,
    past: Past::None,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut folded = Folded::new(profile, options);
    if let Some(memory) = options.memory {
        folded.cut(memory);
    }
    let mut subtitle = footer::summary(profile);
    for line in part::part(profile) {
        subtitle += &format!("; {line}");
    }
    if let Some(hidden) = folded.not_shown() {
        subtitle += &format!("; {hidden}");
    }
    if folded.is_empty() {
        empty(profile, options, subtitle, out)?;
        return Ok(None);
    }
    let mut lines = Vec::new();
    folded.write(&mut lines)?;
    drop(folded);
    let lines = String::from_utf8(lines).map_err(io::Error::other)?;
    let mut graph = flamegraph::Options::default();
    graph.title = match options.view {
        View::Churn => "heaptrace: heap bytes freed again".into(),
        View::Live | View::Leaks | View::Rss => "heaptrace: live heap bytes".into(),
        View::Growth => "heaptrace: memory growth, bytes mapped".into(),
        View::Faults => "heaptrace: page faults, bytes touched first".into(),
        View::Alloc | View::Sizes => "heaptrace: allocated heap bytes".into(),
    };
    if options.inverted {
        graph.title += ", by the function that called the allocator";
        // Its callers hang below it.
        graph.direction = flamegraph::Direction::Inverted;
    }
    graph.subtitle = Some(subtitle);
    graph.count_name = "bytes".into();
    // A function has its colour in every graph, and the same recording gives the same file.
    graph.hash = true;
    graph.deterministic = true;
    flamegraph::from_lines(&mut graph, lines.lines(), out)?;
    Ok(None)
}

/// inferno makes an error of an empty graph; here it is a graph that says why.
fn empty(profile: &Profile, options: &Options, subtitle: String, out: &mut dyn Write) -> io::Result<()> {
    let nothing = Selection::new(profile, options).entries.is_empty();
    let mut lines =
        if nothing { text::why_empty(profile, options) } else { vec!["No stack to show.".into()] };
    lines.push(subtitle);
    message(&lines, out)
}

/// A picture of lines of text.
pub(super) fn message(lines: &[String], out: &mut dyn Write) -> io::Result<()> {
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
