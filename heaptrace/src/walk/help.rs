//! The help: keys, columns, and what the numbers do and do not cover.

use super::table::Table;
use crate::widgets::{
    line::{BOLD, LOSS, PLAIN},
    window::wrapped,
};
use ratatui::style::Style;

const KEYS: [(&str, &str); 15] = [
    ("Up Down j k", "one line; PgUp PgDn a page; Home End g G the ends"),
    ("Enter Space", "open a line, and what is in it alone; close it again"),
    ("Right l +", "open it, or go to the first line in it"),
    ("Left h", "close it, or go to the line that it is in"),
    ("* -", "open all that is below a line; close everything"),
    ("/ F3", "search for a part of a function's, file's or module's name"),
    ("n N", "the next that is found, and the one before, opened or not"),
    ("i F4", "invert: begin with the function that called the allocator"),
    ("b F5", "group by call stack, site, function, module or process"),
    ("m F6", "what shares are of: bytes or blocks, live or allocated"),
    ("a F7", "all frames, or without those of allocators, wrappers, libraries"),
    ("< >", "sort by the column to the left or right"),
    ("r I", "reverse the order"),
    ("Esc q", "Esc lets go of the search; q quits"),
    ("Ctrl-L Z C", "redraw, suspend, quit"),
];

const ABOUT: [&str; 3] = [
    "SHARE is of all that the report is about. Lines are in what called them, or inverted in what they called.",
    "A function is one line in its caller, whatever lines of source the calls are on; its line is shown where all are on one.",
    "By function, each has all stacks that it is in: these shares come to more than 100%.",
];

fn width(columns: u16) -> usize {
    usize::from(columns.min(100).saturating_sub(4))
}

/// All of it, in lines for a screen of so many columns.
pub fn lines(table: &Table, columns: u16) -> Vec<(String, Style)> {
    let mut lines: Vec<(String, Style)> = Vec::new();
    if !table.losses.is_empty() {
        lines.push(("Missing from these numbers".into(), BOLD));
        lines.extend(table.losses.iter().map(|text| (text.clone(), LOSS)));
        lines.push((String::new(), PLAIN));
    }
    lines.push(("Keys".into(), BOLD));
    lines.extend(KEYS.map(|(key, meaning)| (format!("{key:13}{meaning}"), PLAIN)));
    lines.push((String::new(), PLAIN));
    lines.push(("Columns".into(), BOLD));
    lines.extend(
        table.measures.iter().map(|measure| (format!("{:9}{}", measure.title, measure.meaning), PLAIN)),
    );
    lines.extend(ABOUT.map(|text| (text.to_owned(), PLAIN)));
    lines.push((String::new(), PLAIN));
    lines.push(("What the numbers cover".into(), BOLD));
    lines.extend(table.remarks.iter().map(|text| (text.clone(), PLAIN)));
    wrapped(&lines, width(columns))
}
