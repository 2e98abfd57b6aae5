//! What is in front of a screen: the choice of a column, and the question before a process is traced.

use super::line::{self, BOLD, DIM, PLAIN, SELECTED, TRACED};
use crate::top::{
    amount,
    app::App,
    arm::{Answer, Arming, Offer, ProbeCost},
    columns::Column,
};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    widgets::{Block, Clear, Widget as _},
};

/// An empty box of at most this size in the middle of `area`; what is inside its border.
pub fn window(title: &str, size: (u16, u16), area: Rect, buffer: &mut Buffer) -> Rect {
    let (width, height) = (size.0.min(area.width), size.1.min(area.height));
    let at =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    Clear.render(at, buffer);
    // Of two lines the border would leave nothing.
    if height < 3 || width < 3 {
        return at;
    }
    let block = Block::bordered().title(format!(" {title} ")).border_style(TRACED);
    let inner = block.inner(at);
    block.render(at, buffer);
    inner
}

/// The columns, to choose one.
pub fn draw_sort(app: &App, at: usize, area: Rect, buffer: &mut Buffer) {
    let inner = window("sort by", (76, Column::ALL.len() as u16 + 2), area, buffer);
    let above = (at + 1).saturating_sub(inner.height.into());
    for (line, (index, column)) in (0..inner.height).zip(Column::ALL.iter().enumerate().skip(above)) {
        let style = if index == at { SELECTED } else { PLAIN };
        let now = if *column == app.list.sort { '*' } else { ' ' };
        let text = format!("{now} {:8} {}", column.title(), column.meaning());
        line::write_cut(buffer, inner, line, &text, style);
    }
}

/// What tracing a process would be.
pub fn draw_arming(app: &App, area: Rect, buffer: &mut Buffer) {
    let Some(arming) = &app.arming else { return };
    let lines = wrapped(&lines(arming), usize::from(area.width.saturating_sub(4).min(72)));
    let height = lines.len() as u16 + 2;
    let inner = window("trace malloc calls", (76, height), area, buffer);
    // The last line says which keys there are: it is never what finds no room.
    let room = usize::from(inner.height);
    let split = lines.len().saturating_sub(1);
    let shown = lines[..split.min(room.saturating_sub(1))].iter().chain(&lines[split..]);
    for (line, (text, style)) in (0..).zip(shown) {
        line::write_cut(buffer, inner, line, &format!(" {text}"), *style);
    }
}

fn lines(arming: &Arming) -> Vec<(String, Style)> {
    let Arming { pid, name, answer } = arming;
    let mut lines = vec![(format!("{name} ({pid})"), BOLD)];
    match answer {
        Answer::Wait => {
            lines.push(("Measuring what a probe costs on this machine ...".into(), PLAIN));
            lines.push(("Esc or q: back".into(), DIM));
        }
        Answer::Cannot(why) => {
            lines.push((format!("cannot be traced: {why}"), PLAIN));
            lines.push(("Enter, Esc or q: back".into(), DIM));
        }
        Answer::Can(offer) => {
            lines.extend(of_offer(offer).into_iter().map(|text| (text, PLAIN)));
            lines.push(("Enter: trace   Esc or q: do not".into(), DIM));
        }
    }
    lines
}

fn of_offer(offer: &Offer) -> Vec<String> {
    let Offer { cost, own_samples, allocators, probes, table_bytes, notes } = offer;
    let mut lines = Vec::new();
    if !own_samples {
        lines.push(format!("{probes} probes in {}", allocators.join(" and ")));
    }
    lines.push(match cost {
        _ if *own_samples => "Only samples that its allocator chooses itself are traced, where it tells of any: each takes a \
                              trap, and other calls nothing."
            .into(),
        Some(ProbeCost { alloc_ns: alloc, free_ns: Some(free) }) => {
            let share = (alloc + free) * 100_000.0 / 1e9;
            format!(
                "Each malloc takes at least {alloc:.0} ns longer, each free {free:.0} ns (traps, as measured \
                 here just now): 100,000 of both a second would be {} of one CPU.",
                amount::percent(share)
            )
        }
        Some(ProbeCost { alloc_ns: alloc, free_ns: None }) => format!(
            "Each malloc takes at least {alloc:.0} ns longer (the trap, as measured here just now), a free nothing: 100,000 \
             mallocs a second would be {} of one CPU.",
            amount::percent(alloc * 100_000.0 / 1e9)
        ),
        None => "What a probe costs could not be measured here.".into(),
    });
    lines.push(match table_bytes {
        0 => "The kernel's tables are there already.".into(),
        bytes => {
            format!("Tables in the kernel take {} of memory, until nothing is traced.", amount::bytes(*bytes))
        }
    });
    lines.push(
        "Only blocks from now on are seen. Children are traced, too. The process is not stopped, and nothing of \
         it is written to; T, or the end of top, takes the probes away."
            .into(),
    );
    lines.extend(notes.iter().cloned());
    lines
}

/// Lines broken at blanks so that they fit into `width`.
pub fn wrapped(lines: &[(String, Style)], width: usize) -> Vec<(String, Style)> {
    let mut all = Vec::new();
    for (text, style) in lines {
        let mut line = String::new();
        for word in text.split(' ') {
            let longer = line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && longer > width {
                all.push((std::mem::take(&mut line), *style));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        all.push((line, *style));
    }
    all
}
