//! What is in front of a screen: the choice of a column, and the question before a process is traced.

use crate::top::{
    app::App,
    arm::{Answer, Arming, Offer, ProbeCost},
    columns::Column,
};
use crate::widgets::{
    amount,
    line::{self, BOLD, DIM, PLAIN, SELECTED},
    window::{window, wrapped},
};
use ratatui::{buffer::Buffer, layout::Rect, style::Style};

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
