//! The screen of one process: its numbers, how it came here, how large its blocks are, and its sites.

use crate::{
    model::SizeHistogram,
    top::{
        app::App,
        detail::{Detail, SiteKind, SiteRow},
        row::Row,
        state::ProcessState,
    },
    units::counted,
    verdicts::Verdict,
    widgets::{
        amount,
        line::{self, BOLD, DIM, HEADING, LOSS, PLAIN, SELECTED, TRACED, fitted},
    },
};
use ratatui::{
    buffer::Buffer,
    layout::{Layout, Rect},
    style::{Color, Style},
    symbols::Marker,
    widgets::{Axis, Block, Borders, Chart, Dataset, GraphType, Widget as _},
};

/// Where things are. What finds no room is empty.
pub struct Areas {
    pub title: Rect,
    pub timeline: Rect,
    pub sizes: Rect,
    pub heading: Rect,
    pub sites: Rect,
    pub notes: Rect,
    pub keys: Rect,
}

impl Areas {
    pub fn of(area: Rect) -> Self {
        let Rect { x, width, height, .. } = area;
        let (title, charts, notes, keys) = match height {
            0..=3 => (0, 0, 0, 0),
            4..=8 => (1, 0, 1, 1),
            9..=17 => (3, 0, 1, 1),
            18..=30 => (3, 8, 1, 1),
            _ => (3, height / 3, 1, 1),
        };
        let heading = u16::from(height > 1);
        let sites = height - title - charts - heading - notes - keys;
        let [title, charts, heading, sites, notes, keys] =
            Layout::vertical([title, charts, heading, sites, notes, keys]).areas(area);
        // Next to each other, where both can be read.
        let left = if width >= 60 { width * 3 / 5 } else { width };
        Self {
            title,
            timeline: Rect { width: left, ..charts },
            sizes: Rect { x: x + left, width: width - left, ..charts },
            heading,
            sites,
            notes,
            keys,
        }
    }
}

/// Draws it.
pub fn draw(app: &App, process: &ProcessState, area: Rect, buffer: &mut Buffer) {
    let areas = Areas::of(area);
    let row = app.rows.iter().find(|row| row.identity == process.identity);
    draw_title(app, process, row, areas.title, buffer);
    if process.residency {
        draw_residency(&app.detail, areas.timeline.union(areas.sizes), buffer);
    } else {
        draw_timeline(&app.detail, areas.timeline, buffer);
        draw_sizes(&app.detail, areas.sizes, buffer);
    }
    draw_heading(&app.detail, process, areas.heading, buffer);
    draw_sites(app, process, areas.sites, buffer);
    draw_notes(app, row, areas.notes, buffer);
    if areas.keys.height > 0 {
        let mut keys =
            vec![("Esc", "back"), ("Enter", "stack"), ("s", "order"), ("t", "trace"), ("T", "end")];
        keys.push(("m", if process.residency { "charts" } else { "memory" }));
        let space = if app.paused { "go on" } else { "pause" };
        keys.extend([("f", "flame graph"), ("Space", space), ("?", "help")]);
        line::keys(buffer, areas.keys, &keys);
    }
}

fn draw_title(app: &App, process: &ProcessState, row: Option<&Row>, area: Rect, buffer: &mut Buffer) {
    let Some(row) = row else {
        let text = format!("process {} is not there any more", process.identity.pid);
        return line::write_cut(buffer, area, 0, &text, LOSS);
    };
    let state = if app.paused { "  PAUSED" } else { "" };
    let name = format!("{} ({})  ", row.about.comm, row.identity.pid);
    let cgroup = if row.about.cgroup.is_empty() { "-" } else { &row.about.cgroup };
    let rest = format!("user {}  cgroup {cgroup}  {}", row.about.user, row.about.command);
    line::write(buffer, area, 0, &[(&name, BOLD), (state, TRACED), (&rest, PLAIN)]);
    let number = |number: Option<f64>, text: fn(f64) -> String| number.map_or_else(|| "-".to_owned(), text);
    let second = format!(
        "RES {}  HEAP {}, {}/min  VIRT {}  {} faults/s  CPU {}",
        amount::bytes(row.res),
        amount::bytes(row.heap),
        number(row.growth, amount::signed_bytes),
        amount::bytes(row.virt),
        number(row.faults_per_s, amount::count),
        number(row.cpu, amount::percent),
    );
    line::write_cut(buffer, area, 1, &second, PLAIN);
    let third = match (&row.traced, &app.detail.mapped) {
        (Some(traced), _) => format!(
            "live {}{} in {} blocks, {}/min  alloc {}/s  free {}/s  cost ≥{}{}",
            if app.header.sources.live_is_bound { "≤" } else { "" },
            amount::bytes(traced.live_bytes),
            amount::count(traced.live_blocks as f64),
            number(traced.growth, amount::signed_bytes),
            number(traced.allocs_per_s, amount::count),
            number(traced.frees_per_s, amount::count),
            number(traced.cost, amount::percent),
            if traced.attached_fraction < 0.999 {
                format!("  traced {} of its time", amount::percent(traced.attached_fraction))
            } else {
                String::new()
            },
        ),
        (None, Some(mapped)) => format!("not traced: t traces its malloc calls.  {mapped}"),
        (None, None) => "not traced: t traces its malloc calls".into(),
    };
    line::write_cut(buffer, area, 2, &third, if row.traced.is_some() { TRACED } else { DIM });
}

fn draw_residency(detail: &Detail, area: Rect, buffer: &mut Buffer) {
    let block = Block::new().borders(Borders::TOP).title(" resident memory ");
    let inner = block.inner(area);
    block.render(area, buffer);
    if detail.residency.is_empty() {
        line::write_cut(buffer, inner, 0, " being measured ...", DIM);
    }
    for (line, text) in (0..inner.height).zip(&detail.residency) {
        line::write_cut(buffer, inner, line, text, PLAIN);
    }
}

fn draw_timeline(detail: &Detail, area: Rect, buffer: &mut Buffer) {
    if area.height < 4 || area.width < 20 {
        return;
    }
    let res: Vec<(f64, f64)> = detail.timeline.iter().map(|at| (-at.ago, at.res as f64)).collect();
    let live: Vec<(f64, f64)> =
        detail.timeline.iter().filter_map(|at| Some((-at.ago, at.live? as f64))).collect();
    let most = detail.timeline.iter().map(|at| at.res.max(at.live.unwrap_or(0))).max().unwrap_or(0).max(1);
    let oldest = detail.timeline.first().map_or(1.0, |at| at.ago).max(1.0);
    let title = if live.is_empty() { " RES (live bytes are not traced) " } else { " live bytes and RES " };
    let dataset = |name: &'static str, data, color| {
        let lines = Dataset::default().name(name).marker(Marker::Braille).graph_type(GraphType::Line);
        lines.style(Style::new().fg(color)).data(data)
    };
    let mut datasets = vec![dataset("RES", &res, Color::Blue)];
    if !live.is_empty() {
        datasets.push(dataset("live", &live, Color::Yellow));
    }
    let labels = |texts: [String; 2]| texts.map(ratatui::text::Line::from);
    Chart::new(datasets)
        .block(Block::new().borders(Borders::TOP).title(title))
        .x_axis(
            Axis::default()
                .bounds([-oldest, 0.0])
                .labels(labels([format!("{oldest:.0} s ago"), "now".into()])),
        )
        .y_axis(Axis::default().bounds([0.0, most as f64]).labels(labels(["0".into(), amount::bytes(most)])))
        .render(area, buffer);
}

fn draw_sizes(detail: &Detail, area: Rect, buffer: &mut Buffer) {
    if area.height < 3 || area.width < 16 {
        return;
    }
    let block = Block::new().borders(Borders::TOP | Borders::LEFT).title(" sizes of allocated blocks ");
    let inner = block.inner(area);
    block.render(area, buffer);
    if detail.kind != SiteKind::Blocks {
        return line::write_cut(buffer, inner, 0, " not traced", DIM);
    }
    let Some(sizes) = &detail.sizes else {
        return line::write_cut(buffer, inner, 0, " not known where blocks are sampled", DIM);
    };
    let mut classes: Vec<(usize, u64)> =
        sizes.iter().copied().enumerate().filter(|(_, count)| *count > 0).collect();
    let room = usize::from(inner.height);
    let all = classes.len();
    if all > room {
        // The fullest ones, in order of size; the last line counts the others.
        classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        classes.truncate(room.saturating_sub(1));
        classes.sort_unstable();
    }
    let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let bar_room = usize::from(inner.width).saturating_sub(18);
    for (line, (class, count)) in (0..).zip(&classes) {
        let bar = "■".repeat((*count as u128 * bar_room as u128 / u128::from(most)) as usize);
        let text = format!(" {} {:>6} ", class_label(*class), amount::count(*count as f64));
        line::write(buffer, inner, line, &[(&text, PLAIN), (&bar, TRACED)]);
    }
    if all > classes.len() {
        let text = format!(" {} sizes with fewer", all - classes.len());
        line::write_cut(buffer, inner, classes.len() as u16, &text, DIM);
    }
}

/// The largest size of a class, or the least where it has no end.
fn class_label(class: usize) -> String {
    let size = |size: u64| if size < 10_000 { size.to_string() } else { amount::bytes(size) };
    match SizeHistogram::range(class) {
        (_, Some(most)) => format!("≤ {:>6}", size(most)),
        (least, None) => format!("≥ {:>6}", size(least)),
    }
}

const WIDTHS: [usize; 5] = [6, 7, 7, 7, 7];

fn titles(kind: SiteKind) -> [&'static str; 5] {
    match kind {
        SiteKind::Growth => ["MAPPED", "CALLS", "GROW/m", "CALL/s", ""],
        _ => ["LIVE", "BLOCKS", "GROW/m", "ALLOC/s", "FREE/s"],
    }
}

fn draw_heading(detail: &Detail, process: &ProcessState, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    buffer.set_style(area, HEADING);
    let order = process.order.name(detail.kind);
    let text = match detail.kind {
        SiteKind::None => " no sites: neither malloc nor brk and mmap are traced".to_owned(),
        SiteKind::Blocks => format!("{} CALLED BY, most {order} first", cells(titles(detail.kind))),
        SiteKind::Growth => {
            format!("{} MEMORY MAPPED BY, most {order} first", cells(titles(detail.kind)))
        }
    };
    line::write_cut(buffer, area, 0, &text, HEADING);
}

fn cells(texts: [&str; 5]) -> String {
    texts.iter().zip(WIDTHS).map(|(text, width)| fitted(text, width, true)).collect::<Vec<_>>().join(" ")
}

fn draw_sites(app: &App, process: &ProcessState, area: Rect, buffer: &mut Buffer) {
    let by_id = |id: usize| app.detail.sites.iter().find(|site| site.id == id);
    let lines = app.site_lines();
    for (line, at) in (0..area.height).zip(lines.iter().skip(process.offset)) {
        let Some(site) = by_id(at.0) else { continue };
        let selected = process.selected == Some(*at);
        let style = if selected { SELECTED } else { PLAIN };
        let text = if at.1 == 0 {
            site_line(app.detail.kind, site, process.expanded.contains(&site.id))
        } else {
            let frame = site.frames.get(at.1 - 1).map_or("", String::as_str);
            format!("{}{frame}", " ".repeat(8))
        };
        line::write(buffer, area, line, &[(&fitted(&text, area.width.into(), false), style)]);
    }
    if lines.is_empty() && area.height > 0 && app.detail.kind != SiteKind::None {
        line::write_cut(buffer, area, 0, " nothing was seen yet", DIM);
    }
}

fn site_line(kind: SiteKind, site: &SiteRow, expanded: bool) -> String {
    let number = |number: Option<f64>, text: fn(f64) -> String| number.map_or_else(|| "-".to_owned(), text);
    let frees =
        if kind == SiteKind::Growth { String::new() } else { number(site.frees_per_s, amount::count) };
    let cells = cells([
        &amount::bytes(site.bytes),
        &amount::count(site.count as f64),
        &number(site.growth, amount::signed_bytes),
        &number(site.allocs_per_s, amount::count),
        &frees,
    ]);
    let mark = if expanded { "▾" } else { "▸" };
    let callers: Vec<&str> = site.frames.iter().skip(site.inner).take(3).map(String::as_str).collect();
    let callers = if expanded { String::new() } else { callers.join(" < ") };
    let said = site.said.as_deref().filter(|_| expanded).map_or_else(String::new, |said| format!(" {said}"));
    // What there is to look at; of the others it is said where they are opened.
    let suspect = site.judged.filter(|judged| judged.verdict <= Verdict::WarmingUp && !expanded);
    let suspect = suspect.map_or_else(String::new, |judged| format!("{} ", judged.verdict.title()));
    format!("{cells} {mark} {suspect}{} {callers}{said}", site.function)
}

fn draw_notes(app: &App, row: Option<&Row>, area: Rect, buffer: &mut Buffer) {
    if area.height == 0 {
        return;
    }
    if let Some(status) = &app.status {
        return line::write_cut(buffer, area, 0, status, BOLD);
    }
    let mut notes: Vec<String> = app.detail.notes.clone();
    notes.extend(app.header.notes.iter().cloned());
    let unknown = row.and_then(|row| row.traced.as_ref()).map_or(0, |traced| traced.unknown_frees);
    if let Some(first) = notes.first() {
        let more = notes.len() - 1;
        let text = if more > 0 { format!("{first}; {more} more: ?") } else { first.clone() };
        line::write_cut(buffer, area, 0, &text, LOSS);
    } else if unknown > 0 {
        let frees = counted(unknown, "free of a block", "frees of blocks");
        let text = format!("{frees} from before it was traced");
        line::write_cut(buffer, area, 0, &text, DIM);
    }
}
