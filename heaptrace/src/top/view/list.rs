//! The table of processes, with what is above and below it.

use crate::top::{
    app::App,
    columns::{self, Column, Fit, Value},
    order::Place,
    row::Row,
    sample::{Header, Sources},
    state::Mode,
};
use crate::units::counted;
use crate::widgets::{
    amount,
    line::{self, BOLD, DIM, GROWS, HEADING, LOSS, PLAIN, SELECTED, SORTED, TRACED, fitted},
};
use ratatui::{
    buffer::Buffer,
    layout::{Layout, Rect},
    style::Style,
};

/// Where things are. What finds no room is empty.
pub struct Areas {
    pub header: Rect,
    pub heading: Rect,
    pub rows: Rect,
    pub notes: Rect,
    pub keys: Rect,
}

impl Areas {
    pub fn of(area: Rect) -> Self {
        let height = area.height;
        // Rows come first: of few lines, they get all but the heading.
        let (header, notes, keys) = match height {
            0..=3 => (0, 0, 0),
            4..=8 => (0, 1, 1),
            9..=14 => (2, 1, 1),
            _ => (3, 1, 1),
        };
        let heading = u16::from(height > 1);
        let rows = height - header - heading - notes - keys;
        let [header, heading, rows, notes, keys] =
            Layout::vertical([header, heading, rows, notes, keys]).areas(area);
        Self { header, heading, rows, notes, keys }
    }
}

/// Draws it.
pub fn draw(app: &App, area: Rect, buffer: &mut Buffer) {
    let areas = Areas::of(area);
    let fit = columns::fit(area.width, app.traced(), app.list.cgroup);
    draw_header(&app.header, app.paused, areas.header, buffer);
    draw_heading(app, &fit, areas.heading, buffer);
    let selected = app.selected_line();
    let shown = app.places.iter().enumerate().skip(app.list.offset).take(areas.rows.height.into());
    for (line, (index, place)) in (0..).zip(shown) {
        draw_row(&app.rows[place.row], place, &fit, index == selected, areas.rows, line, buffer);
    }
    if app.places.is_empty() && areas.rows.height > 0 {
        let why = if app.rows.is_empty() {
            "No process that was asked for is there.".to_owned()
        } else {
            format!("No process is found by {}; Esc shows all.", app.list.filter_text)
        };
        line::write_cut(buffer, areas.rows, 0, &why, DIM);
    }
    draw_notes(app, &fit, areas.notes, buffer);
    draw_keys(app, areas.keys, buffer);
}

/// The first lines: the machine, what is known of it, and what that costs.
fn draw_header(header: &Header, paused: bool, area: Rect, buffer: &mut Buffer) {
    let memory = header.memory;
    let used = memory.total.saturating_sub(memory.available);
    let mut first = format!(
        "heaptrace top {}  {}  mem {} of {} used",
        header.clock,
        counted(header.processes as u64, "process", "processes"),
        amount::bytes(used),
        amount::bytes(memory.total)
    );
    if memory.swap_total > 0 {
        let swapped = memory.swap_total - memory.swap_free.min(memory.swap_total);
        first += &format!("  swap {}", amount::bytes(swapped));
    }
    if let Some(chosen) = &header.chosen {
        first += &format!("  only {chosen}");
    }
    let state = if paused { "PAUSED  " } else { "" };
    line::write(buffer, area, 0, &[(state, TRACED), (&first, BOLD)]);
    let tracing = tracing(&header.sources);
    if area.height > 2 {
        line::write_cut(buffer, area, 1, &growth(&header.sources), PLAIN);
    }
    let style = if header.sources.traced > 0 { TRACED } else { PLAIN };
    line::write_cut(buffer, area, area.height.saturating_sub(1).max(1), &tracing, style);
}

/// What the growth tracepoints do, in words.
pub fn growth(sources: &Sources) -> String {
    // Less is what the measurement itself varies by; and where somebody else traces system calls, they are slow already.
    const LEAST_NS: f64 = 5.0;
    let what = match (&sources.no_growth, sources.syscall_ns) {
        (Some(why), _) => {
            return format!("growth: by /proc alone; brk and mmap are not counted ({why})");
        }
        (None, Some(ns)) if ns >= LEAST_NS => format!("add {ns:.0} ns to every system call"),
        (None, _) => "made no system call measurably slower".into(),
    };
    let tables = amount::bytes(sources.growth_bytes);
    format!("growth: /proc and brk/mmap tracepoints, which {what}; {tables} of kernel memory")
}

/// What the probes do, in words.
pub fn tracing(sources: &Sources) -> String {
    if sources.traced == 0 {
        let what = if sources.all { "tracing: no process is there that can be" } else { "tracing: none" };
        return format!("{what}; t traces the malloc calls of the selected process");
    }
    let processes = if sources.traced == 1 { "process" } else { "processes" };
    let cost = sources.processors.map_or_else(
        || "cost not measured".to_owned(),
        |share| format!("at least {} of one CPU", amount::percent(share)),
    );
    let shown = match sources.traced_shown {
        shown if shown == sources.traced => String::new(),
        shown => format!(" ({shown} shown)"),
    };
    let how = sources.how.as_ref().map_or_else(String::new, |how| format!(" ({how})"));
    format!(
        "tracing{how}: {} {processes}{shown}, {} calls/s, {cost}, {} of kernel memory",
        sources.traced,
        amount::count(sources.events_per_s),
        amount::bytes(sources.table_bytes)
    )
}

fn draw_heading(app: &App, fit: &Fit, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    buffer.set_style(area, HEADING);
    let mut x = area.x;
    for (column, width) in &fit.columns {
        let sorted = *column == app.list.sort;
        let mut title = column.title().to_owned();
        // Where the sorted column finds no room for a mark, its colour has to do.
        if sorted && title.len() < usize::from(*width) {
            title.push(if app.list.reverse { '↑' } else { '↓' });
        }
        let text = fitted(&title, usize::from(*width), column.is_number());
        let style = if sorted { SORTED } else { HEADING };
        buffer.set_stringn(x, area.y, text, area.right().saturating_sub(x).into(), style);
        x = x.saturating_add(width + 1).min(area.right());
    }
}

fn draw_row(row: &Row, place: &Place, fit: &Fit, selected: bool, area: Rect, line: u16, buffer: &mut Buffer) {
    let (mut x, y) = (area.x, area.y + line);
    let whole = match (selected, place.context, row.traced.is_some()) {
        (true, ..) => SELECTED,
        (_, true, _) => DIM,
        (_, _, true) => TRACED,
        _ => PLAIN,
    };
    if selected {
        buffer.set_style(Rect { y, height: 1, ..area }, SELECTED);
    }
    for (column, width) in &fit.columns {
        let cell = column.cell(row);
        let text = match column {
            Column::Command => fitted(&format!("{}{cell}", place.branch), usize::from(*width), false),
            _ => fitted(&cell, usize::from(*width), column.is_number()),
        };
        let style =
            if whole == PLAIN || whole == TRACED { cell_style(*column, row).unwrap_or(whole) } else { whole };
        buffer.set_stringn(x, y, text, area.right().saturating_sub(x).into(), style);
        x = x.saturating_add(width + 1).min(area.right());
    }
}

fn cell_style(column: Column, row: &Row) -> Option<Style> {
    match (column, column.value(row)) {
        (_, Value::Missing) => Some(DIM),
        (Column::Growth | Column::LiveGrowth | Column::Mapped, Value::Number(amount)) => {
            Some(line::growth(amount)).filter(|style| *style != PLAIN)
        }
        (Column::Trend, Value::Number(amount)) if amount >= 1024.0 => Some(GROWS),
        _ => None,
    }
}

/// The last line but one: what happened, or what the numbers lack.
fn draw_notes(app: &App, fit: &Fit, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    // Whatever else there is to say: who does not see some process wants to know why.
    let filter = match app.list.filter.is_empty() {
        true => String::new(),
        false => format!("{} of {} found by {}  ", app.places.len(), app.rows.len(), app.list.filter_text),
    };
    let (text, style) = note(app, fit);
    line::write_cut_after(buffer, area, &filter, (&text, style));
}

fn note(app: &App, fit: &Fit) -> (String, Style) {
    if let Some(status) = &app.status {
        return (status.clone(), BOLD);
    }
    let mut notes = app.header.notes.iter();
    if let Some(first) = notes.next() {
        let more = notes.len();
        return (if more > 0 { format!("{first}; {more} more: ?") } else { first.clone() }, LOSS);
    }
    if fit.left_out.is_empty() {
        return (String::new(), DIM);
    }
    let titles: Vec<&str> = fit.left_out.iter().map(|column| column.title()).collect();
    (format!("no room for {}", titles.join(" ")), DIM)
}

fn draw_keys(app: &App, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    if let Mode::Filter(text) = &app.mode {
        let hint = if text.is_empty() { "  words, or res>100M growth>0 user=root" } else { "" };
        return line::write_typed(buffer, area, "Filter: ", text, hint);
    }
    let space = if app.paused { "go on" } else { "pause" };
    line::keys(
        buffer,
        area,
        &[
            ("?", "help"),
            ("q", "quit"),
            ("Enter", "open"),
            ("t", "trace"),
            ("T", "end"),
            ("/", "filter"),
            ("<>", "sort"),
            ("r", "reverse"),
            ("F5", "tree"),
            ("c", "cgroup"),
            ("f", "flame"),
            ("Space", space),
        ],
    );
}
