//! What is on a terminal as text with escape sequences, and as a picture.

use crate::terminal::Terminal;
use anstyle_svg::Term;
use std::fmt::Write as _;
use vt100::{Cell, Color};

/// The screen as a picture (SVG).
pub fn svg(terminal: &Terminal) -> String {
    Term::new().min_width_px(0).render_svg(&ansi(terminal))
}

/// The screen, a line each, with nothing but the sequences for colours and brightness.
pub fn ansi(terminal: &Terminal) -> String {
    terminal.with_screen(|screen| {
        let (lines, columns) = screen.size();
        let mut text = String::new();
        let mut style = String::new();
        for line in 0..lines.get() {
            let cells: Vec<&Cell> =
                (0..columns.get()).filter_map(|column| screen.cell(line, column)).collect();
            let used = cells.iter().rposition(|cell| is_seen(cell)).map_or(0, |last| last + 1);
            for cell in cells[..used].iter().filter(|cell| !cell.is_wide_continuation()) {
                let next = sequence(cell);
                if next != style {
                    text.push_str(&next);
                    style = next;
                }
                text.push_str(if cell.has_contents() { cell.contents() } else { " " });
            }
            // A colour ends with its line: else the rest of the line would have it.
            if !style.is_empty() {
                text.push_str("\x1b[0m");
                style.clear();
            }
            text.push('\n');
        }
        text
    })
}

fn is_seen(cell: &Cell) -> bool {
    cell.has_contents() && cell.contents() != " " || cell.bgcolor() != Color::Default || cell.inverse()
}

fn sequence(cell: &Cell) -> String {
    let mut codes = String::from("\x1b[0");
    // What reversed looks like depends on the terminal's own colours: here a dark one's.
    let or = |color, other| if color == Color::Default { Color::Idx(other) } else { color };
    let (front, back) = match cell.inverse() {
        true => (or(cell.bgcolor(), 0), or(cell.fgcolor(), 7)),
        false => (cell.fgcolor(), cell.bgcolor()),
    };
    for (set, code) in [(cell.bold(), 1), (cell.dim(), 2), (cell.italic(), 3), (cell.underline(), 4)] {
        if set {
            let _ = write!(codes, ";{code}");
        }
    }
    for (color, base) in [(front, 30), (back, 40)] {
        let _ = match color {
            Color::Default => Ok(()),
            Color::Idx(index @ 0..=7) => write!(codes, ";{}", base + u32::from(index)),
            Color::Idx(index @ 8..=15) => write!(codes, ";{}", base + 60 + u32::from(index - 8)),
            Color::Idx(index) => write!(codes, ";{};5;{index}", base + 8),
            Color::Rgb(r, g, b) => write!(codes, ";{};2;{r};{g};{b}", base + 8),
        };
    }
    codes.push('m');
    codes
}
