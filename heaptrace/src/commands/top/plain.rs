//! `heaptrace top` where there is no terminal: one table, or one JSON object, an interval.

use super::{
    args::TopFormat,
    screen::{SHARE, Times},
    sources::Sources,
};
use crate::{
    commands::{output::Output, work::Ended},
    engine::Pace,
    process::system::now_ns,
    top::{Arrangement, Column, Filter, Header, History, arrange, render_json, render_text, rows},
    units::Numbers,
};
use std::time::{Duration, Instant};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep_until,
};

/// How tables are arranged.
pub struct Table {
    pub format: TopFormat,
    pub sort: Column,
    pub filter: Filter,
    pub tree: bool,
    /// The most rows of a text; 0 for all.
    pub rows: usize,
    pub numbers: Numbers,
    /// It ends when those who were named have exited.
    pub ends_with_targets: bool,
}

/// Prints until there is a reason to end. Rates take two looks, so the first print comes after one interval.
pub async fn run(
    sources: &mut Sources,
    table: &Table,
    mut header: Header,
    times: Times,
) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut pace = Pace::now(times.every, SHARE);
    let far = Duration::from_secs(u64::from(u32::MAX));
    let deadline = tokio::time::Instant::now() + times.duration.unwrap_or(far);
    let mut out = Output::stdout().with(table.numbers);
    let mut history = History::default();
    let mut printed = None;
    loop {
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(Ended::Asked),
            _ = terminate.recv() => return Ok(Ended::Asked),
            () = sleep_until(deadline) => return Ok(Ended::TimeUp),
            () = pace.due() => {}
            done = sources.news() => {
                // Only the screen asks for what would be left.
                let _ = done?.map(|done| sources.take(done)).transpose()?;
                continue;
            }
        }
        let before_refresh = Instant::now();
        let sample = sources.refresh(&mut header)?;
        pace.rest(before_refresh.elapsed());
        history.add(&sample);
        let Some(before) = printed else {
            printed = Some(0);
            continue;
        };
        if table.ends_with_targets && sample.seen.is_empty() {
            return Ok(Ended::TargetsExited);
        }
        let rows = rows(&sample, &history);
        header.sources.sum(&rows);
        let how = Arrangement { sort: table.sort, reverse: false, filter: &table.filter, tree: table.tree };
        let mut places = arrange(&rows, &how);
        let written = out.print(|out| match table.format {
            TopFormat::Json => render_json(now_ns(), &header, &sample, (&rows, &history, &places), out),
            TopFormat::Text | TopFormat::Auto => {
                let all = places.len();
                if table.rows > 0 {
                    places.truncate(table.rows);
                }
                render_text(&header, &rows, &places, all - places.len(), before == 0, out)
            }
        })?;
        if written.is_break() {
            return Ok(Ended::NoReader);
        }
        printed = Some(before + 1);
        if times.iterations.is_some_and(|most| before + 1 >= most) {
            return Ok(Ended::TimeUp);
        }
    }
}
