//! The help: keys, columns, filters, and what the numbers do not cover.

use super::list;
use crate::{
    top::{app::App, columns::Column},
    widgets::{
        line::{self, BOLD, LOSS, PLAIN},
        window::{window, wrapped},
    },
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

const KEYS: [(&str, &str); 16] = [
    ("Up Down j k", "one line; PgUp PgDn a page; Home End g G the ends"),
    ("Enter", "open a process; there, show a site's stack"),
    ("t", "trace the process's allocations; says first what that costs"),
    ("T", "stop tracing it and its traced children"),
    ("/", "filter by words, or by columns: res>100M growth>0 user=root"),
    ("< >", "sort by the column to the left or right"),
    ("F6", "choose the column to sort by"),
    ("r I", "reverse the order"),
    ("F5 V", "tree of parents and children"),
    ("c", "cgroup column"),
    ("s", "in a process: order sites by live bytes, growth or rate"),
    ("m", "in a process: what its resident memory consists of"),
    ("f", "write a flame graph of the process to this folder"),
    ("Space", "pause the screen; measuring goes on"),
    ("Esc q", "back; on the first screen q quits and Esc clears the filter"),
    ("Ctrl-L Z C", "redraw, suspend, quit"),
];

const ABOUT: [&str; 7] = [
    "- means not measured (not zero).",
    "MAP and the columns of tracing aside, all is read from /proc once per interval and costs the processes nothing. \
     Processes that live for less than an interval may not be seen.",
    "RES, HEAP and what comes of them may be off by some dozen pages a CPU (the kernel keeps them so since 6.2). Memory \
     that was swapped out is in neither.",
    "GROW/m of a process seen for less than a minute is that of the time it was seen, by the minute.",
    "COST is a lower bound: the probe traps only, as measured in top's own process. The BPF programs take a third more \
     where we measured (docs/performance.md).",
    "LIVE counts blocks allocated after t was pressed. Frees of older blocks are in no column. Where frees are not traced \
     (--trace=sampled, allocs), LIVE is an upper bound; where blocks are sampled, all numbers of tracing are estimates.",
    "Kernel threads have no memory of their own and are left out.",
];

fn lines(app: Option<&App>) -> Vec<(String, Style)> {
    let mut lines: Vec<(String, Style)> = Vec::new();
    if let Some(app) = app {
        lines.extend(app.header.notes.iter().map(|note| (note.clone(), LOSS)));
        lines.push((list::growth(&app.header.sources), PLAIN));
        lines.push((list::tracing(&app.header.sources), PLAIN));
        lines.push((String::new(), PLAIN));
    }
    lines.push(("Keys".into(), BOLD));
    lines.extend(KEYS.map(|(key, meaning)| (format!("{key:12}{meaning}"), PLAIN)));
    lines.push((String::new(), PLAIN));
    lines.push(("Columns, and what they are called in filters".into(), BOLD));
    lines.extend(
        Column::ALL
            .map(|column| (format!("{:9}{:11}{}", column.title(), column.name(), column.meaning()), PLAIN)),
    );
    lines.push((String::new(), PLAIN));
    lines.push(("What the numbers cover".into(), BOLD));
    lines.extend(ABOUT.map(|text| (text.to_owned(), PLAIN)));
    lines
}

fn width(area: Rect) -> usize {
    usize::from(area.width.min(100).saturating_sub(4))
}

/// How many lines are not seen at once.
pub fn hidden_lines(area: Rect) -> usize {
    // With some lines of notes, whose number may change while one reads.
    const NOTES: usize = 6;
    let all = wrapped(&lines(None), width(area)).len() + NOTES;
    all.saturating_sub(usize::from(area.height.saturating_sub(2)))
}

/// Draws it from the line after `above` others.
pub fn draw(above: usize, app: &App, area: Rect, buffer: &mut Buffer) {
    let inner = window("help: Up and Down scroll, Esc ends", (100, u16::MAX), area, buffer);
    let all = wrapped(&lines(Some(app)), width(area));
    for (line, (text, style)) in (0..inner.height).zip(all.iter().skip(above)) {
        line::write_cut(buffer, inner, line, &format!(" {text}"), *style);
    }
}
