//! `heaptrace top` on a terminal: keys, refreshes and news from the kernel, until somebody has seen enough.

use super::{job::Done, sources::Sources};
use crate::{
    commands::{terminal::Terminal, work::Ended},
    engine::Pace,
    top::{self, App, Effect, Header, History, action, draw, rows},
};
use futures_util::StreamExt as _;
use ratatui::crossterm::event::{Event, EventStream};
use std::time::{Duration, Instant};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep_until,
};

/// Where a refresh takes long, keys and what is traced have the same time.
pub const SHARE: u32 = 2;

/// How often, how long, and what of.
pub struct Times {
    pub every: Duration,
    pub duration: Option<Duration>,
    pub iterations: Option<u64>,
}

/// Shows `app` until there is a reason to end.
pub async fn run(
    sources: &mut Sources,
    mut app: App,
    mut header: Header,
    times: Times,
) -> anyhow::Result<Ended> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut pace = Pace::now(times.every, SHARE);
    let far = Duration::from_secs(u64::from(u32::MAX));
    let deadline = tokio::time::Instant::now() + times.duration.unwrap_or(far);
    let mut left = times.iterations;
    let mut terminal = Terminal::open()?;
    let mut keys = EventStream::new();
    app.resize(top::screen(terminal.size()?));
    let mut history = History::default();
    loop {
        let mut effect = None;
        tokio::select! {
            biased;
            _ = interrupt.recv() => return Ok(Ended::Asked),
            _ = terminate.recv() => return Ok(Ended::Asked),
            _ = hangup.recv() => return Ok(Ended::NoReader),
            () = sleep_until(deadline) => return Ok(Ended::TimeUp),
            event = keys.next() => match event {
                Some(Ok(Event::Key(key))) => {
                    effect = action(&app.mode, key).and_then(|action| app.apply(action));
                }
                Some(Ok(Event::Resize(width, height))) => app.resize(top::screen((width, height))),
                Some(Ok(_)) => continue,
                // The terminal is gone.
                Some(Err(_)) | None => return Ok(Ended::NoReader),
            },
            // Before news: at the same interval, who has just refreshed spares the engines their own reading.
            () = pace.due() => {
                let before = Instant::now();
                refresh(sources, &mut app, &mut header, &mut history)?;
                pace.rest(before.elapsed());
                left = left.map(|left| left - 1);
            }
            done = sources.news() => match done? {
                // What came of news from the kernel is seen at the next refresh.
                None => continue,
                Some(done) => match sources.take(done)? {
                Some(Done::Flame(said)) => app.status = Some(said),
                Some(Done::Examined { pid, answer }) => {
                    if let Some(arming) = app.arming.as_mut().filter(|arming| arming.pid == pid) {
                        arming.answer = answer;
                    }
                }
                _ => effect = Some(Effect::Detail),
            }},
        }
        match effect {
            Some(Effect::Quit) => return Ok(Ended::Asked),
            Some(Effect::Suspend) => terminal.suspend()?,
            Some(Effect::Redraw) => terminal.redraw()?,
            Some(Effect::Examine(pid)) => sources.examine(pid),
            Some(Effect::Arm(pid)) => {
                app.status = Some(format!("placing probes in process {pid} ..."));
                terminal.draw(|frame| draw(frame, &app))?;
                let before = Instant::now();
                app.status = Some(sources.arm(pid));
                // What is traced now has to be seen.
                app.paused = false;
                pace.rest(before.elapsed());
                refresh(sources, &mut app, &mut header, &mut history)?;
            }
            Some(Effect::Disarm(pid)) => {
                app.status = Some(format!("taking the probes of process {pid} away ..."));
                terminal.draw(|frame| draw(frame, &app))?;
                app.status = Some(sources.disarm(pid));
                app.paused = false;
                refresh(sources, &mut app, &mut header, &mut history)?;
            }
            Some(Effect::Flame(pid)) => {
                app.status = Some(match sources.flame(pid) {
                    Ok(()) => "writing a flame graph ...".into(),
                    Err(why) => why,
                });
            }
            Some(Effect::Detail) => detail(sources, &mut app, &history),
            None => {}
        }
        terminal.draw(|frame| draw(frame, &app))?;
        if left == Some(0) {
            return Ok(Ended::TimeUp);
        }
    }
}

fn refresh(
    sources: &mut Sources,
    app: &mut App,
    header: &mut Header,
    history: &mut History,
) -> anyhow::Result<()> {
    sources.measure(app.process.as_ref().is_some_and(|process| process.residency));
    let sample = sources.refresh(header)?;
    history.add(&sample);
    let rows = rows(&sample, history);
    header.sources.sum(&rows);
    app.refresh(rows, header.clone());
    detail(sources, app, history);
    Ok(())
}

fn detail(sources: &mut Sources, app: &mut App, history: &History) {
    let Some(process) = &app.process else { return };
    let (identity, order) = (process.identity, process.order);
    // Of one that has ended, what was last seen stays.
    if !app.rows.iter().any(|row| row.identity == identity) {
        return;
    }
    let mut detail = sources.detail(identity.pid, order);
    detail.timeline = history.timeline(identity);
    app.set_detail(detail);
}
