//! The screen: plain data into a frame of any size.

mod columns;
#[cfg(test)]
mod tests;

use super::{
    app::App,
    help,
    shape::Group,
    state::{Mode, Screen},
    tree::What,
};
use crate::{
    units::{counted, human, percent, thousands},
    widgets::{
        line::{self, BOLD, DIM, HEADING, LOSS, PLAIN, SELECTED, SORTED, TRACED, fitted},
        window::window,
    },
};
use columns::Columns;
use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Layout, Rect},
    style::Style,
};

/// Where things are. What finds no room is empty.
struct Areas {
    header: Rect,
    heading: Rect,
    tree: Rect,
    details: Rect,
    notes: Rect,
    keys: Rect,
}

impl Areas {
    fn of(area: Rect) -> Self {
        let height = area.height;
        // The tree comes first: of few lines, it gets all but the heading.
        let (header, details, notes, keys) = match height {
            0..=3 => (0, 0, 0, 0),
            4..=8 => (0, 0, 1, 1),
            9..=14 => (1, 1, 1, 1),
            _ => (2, 1, 1, 1),
        };
        let heading = u16::from(height > 1);
        let tree = height - header - heading - details - notes - keys;
        let [header, heading, tree, details, notes, keys] =
            Layout::vertical([header, heading, tree, details, notes, keys]).areas(area);
        Self { header, heading, tree, details, notes, keys }
    }
}

/// What a terminal of this size, in columns and lines, has room for.
pub fn screen(size: (u16, u16)) -> Screen {
    let area = Rect::new(0, 0, size.0, size.1);
    Screen {
        size,
        page: Areas::of(area).tree.height.into(),
        help_page: usize::from(size.1.saturating_sub(2)).max(1),
    }
}

/// Draws all of `app`.
pub fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let buffer = frame.buffer_mut();
    let areas = Areas::of(area);
    let columns = Columns::fit(area.width, &app.table.measures, app.measure);
    draw_header(app, areas.header, buffer);
    draw_heading(app, &columns, areas.heading, buffer);
    draw_tree(app, &columns, areas.tree, buffer);
    draw_details(app, areas.details, buffer);
    draw_notes(app, areas.notes, buffer);
    draw_keys(app, areas.keys, buffer);
    if let Mode::Help(above) = app.mode {
        draw_help(app, above, area, buffer);
    }
}

fn amount(app: &App, measure: usize, amount: u64) -> String {
    if app.table.measures[measure].is_bytes { human(amount) } else { thousands(amount) }
}

fn draw_header(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(measure) = app.table.measures.get(app.measure) else { return };
    let shape = app.shape;
    let by = match shape.group {
        Group::Calls => String::new(),
        group => format!("by {}, ", group.name()),
    };
    let order = if shape.inverted { "the allocating function first" } else { "the outermost caller first" };
    let frames = if shape.raw { ", all frames" } else { "" };
    line::write_cut(buffer, area, 0, &format!("{}  {by}{order}{frames}", app.table.title), BOLD);
    let total = app.table.total()[app.measure];
    let exactly = if measure.is_bytes { format!(" ({})", human(total)) } else { String::new() };
    line::write_cut(buffer, area, 1, &format!("{} {}{exactly}", thousands(total), measure.meaning), PLAIN);
}

fn draw_heading(app: &App, columns: &Columns, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    buffer.set_style(area, HEADING);
    let mark = if app.order.reverse { '↑' } else { '↓' };
    let mut pieces = vec![(fitted("SHARE", columns::SHARE, true) + " ", HEADING)];
    for measure in &columns.measures {
        let is_sorted = app.order.by == Some(*measure);
        let title = app.table.measures[*measure].title;
        let title = if is_sorted { format!("{title}{mark}") } else { title.to_owned() };
        let style = if is_sorted { SORTED } else { HEADING };
        pieces.push((fitted(&title, columns::AMOUNT, true), style));
        pieces.push((" ".into(), HEADING));
    }
    let (title, style) = match app.order.by {
        None => (format!("FUNCTION{mark}"), SORTED),
        Some(_) => ("FUNCTION".to_owned(), HEADING),
    };
    pieces.push((title, style));
    let pieces: Vec<(&str, Style)> = pieces.iter().map(|(text, style)| (text.as_str(), *style)).collect();
    line::write(buffer, area, 0, &pieces);
}

fn draw_tree(app: &App, columns: &Columns, area: Rect, buffer: &mut Buffer) {
    let total = app.table.total()[app.measure];
    let shown = app.lines.iter().enumerate().skip(app.offset).take(area.height.into());
    for (line, (index, node)) in (0..).zip(shown) {
        let of = app.tree.node(*node);
        let mark = match (of.has_calls, of.is_open) {
            (false, _) => ' ',
            (true, true) => '▾',
            (true, false) => '▸',
        };
        let numbers = columns.cells(app, &of.sums, total);
        let indent = " ".repeat(2 * of.depth.min(usize::from(area.width) / 4));
        let text = app.tree.text(&app.table, *node);
        if index == app.selected {
            let all = fitted(&format!("{numbers}{indent}{mark} {text}"), area.width.into(), false);
            line::write(buffer, area, line, &[(&all, SELECTED)]);
            continue;
        }
        let style = if app.is_found(*node) { TRACED.patch(BOLD) } else { PLAIN };
        let room = usize::from(area.width).saturating_sub(numbers.chars().count() + indent.len() + 2);
        let text = fitted(&text, room, false);
        line::write(
            buffer,
            area,
            line,
            &[(&numbers, PLAIN), (&indent, PLAIN), (&format!("{mark} "), DIM), (&text, style)],
        );
    }
    for (line, why) in (0..area.height).zip(app.table.empty.iter().filter(|_| app.lines.is_empty())) {
        line::write_cut(buffer, area, line, why, PLAIN);
    }
    if app.lines.is_empty() && app.table.empty.is_empty() {
        let meaning = app.table.measures.get(app.measure).map_or("", |measure| measure.meaning.as_str());
        line::write_cut(buffer, area, 0, &format!("There are no {meaning}; m shows others."), DIM);
    }
}

/// What is selected, in full as far as there is room.
fn draw_details(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(node) = app.current() else { return };
    let of = app.tree.node(node);
    let (bytes, all) = (of.sums[app.measure], app.table.total()[app.measure]);
    let above = app.tree.node(of.parent);
    let of_caller = if of.depth > 0 {
        format!(", {:.2}% of what it is in", percent(bytes, above.sums[app.measure]))
    } else {
        String::new()
    };
    let name = match of.what {
        What::Line(name) => Some(name),
        What::Function(same) => Some(of.line.unwrap_or(same)),
        What::All | What::Process(_) | What::Module(_) => None,
    };
    let module = name.and_then(|name| app.table.names[name as usize].module);
    let module = module.map_or("", |module| app.table.modules[module as usize].as_str());
    let text = format!(
        "{}: {}, {:.2}% of all{of_caller}  {module}",
        app.tree.text(&app.table, node),
        amount(app, app.measure, bytes),
        percent(bytes, all),
    );
    line::write_cut(buffer, area, 0, &text, DIM);
}

/// What happened, what is searched for, or what the numbers lack.
fn draw_notes(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    if let Some(status) = &app.status {
        return line::write_cut(buffer, area, 0, status, BOLD);
    }
    if let Some(search) = &app.search {
        let sum = search.sums[app.measure];
        let text = format!(
            "{}: {}, in stacks of {}, {:.2}% of all; n and N go to the next and the one before",
            search.text,
            counted(search.found as u64, "function", "functions"),
            amount(app, app.measure, sum),
            percent(sum, app.table.total()[app.measure]),
        );
        return line::write_cut(buffer, area, 0, &text, TRACED);
    }
    if let Some(first) = app.table.losses.first() {
        let more = app.table.losses.len() - 1;
        let text = if more > 0 { format!("{first}; {more} more: ?") } else { first.clone() };
        line::write_cut(buffer, area, 0, &text, LOSS);
    }
}

fn draw_keys(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    if let Mode::Search(text) = &app.mode {
        let hint = if text.is_empty() { "  a part of a function's, file's or module's name" } else { "" };
        return line::write_typed(buffer, area, "Search: ", text, hint);
    }
    line::keys(
        buffer,
        area,
        &[
            ("?", "help"),
            ("q", "quit"),
            ("Enter", "open"),
            ("/", "search"),
            ("i", "invert"),
            ("b", "group"),
            ("m", "measure"),
            ("<>", "sort"),
            ("r", "reverse"),
            ("a", "frames"),
            ("*", "open all"),
            ("-", "close all"),
        ],
    );
}

/// The help from the line after `above` others.
fn draw_help(app: &App, above: usize, area: Rect, buffer: &mut Buffer) {
    let inner = window("help: Up and Down scroll, Esc ends", (100, u16::MAX), area, buffer);
    let all = help::lines(&app.table, app.screen.size.0);
    for (line, (text, style)) in (0..inner.height).zip(all.iter().skip(above)) {
        line::write_cut(buffer, inner, line, &format!(" {text}"), *style);
    }
}
