//! Following a session: kept up with its targets, its maps read, and its command's work done, until there is a reason to
//! end.

use super::{
    signals::Signals,
    work::{Ended, Work},
};
use crate::{
    bpf::{EventRing, LogRing, Told},
    printable::say,
    session::Session,
};
use std::time::{Duration, Instant};
use tokio::{
    io::unix::AsyncFd,
    task::yield_now,
    time::{Interval, MissedTickBehavior, interval, interval_at, sleep_until},
};

/// Events that nobody is woken for are looked at for so long at one time.
const LOOK_FOR: Duration = Duration::from_millis(100);

/// The most rounds in which events are read in the end: targets that run on can see to it that there are always some.
const ROUNDS: u32 = 1 << 10;

/// What was not read when tracing ended is looked at for so long; the rest is counted.
const REST_WITHIN: Duration = Duration::from_millis(1500);

/// How often the maps are read.
const DRAIN_EVERY: Duration = Duration::from_secs(1);

/// How often it is looked for what cannot wait for a drain.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How many times as long as a print takes is the least time from one to the next: a map of millions of blocks takes
/// part of a second to read, and the targets want the processor, too.
const REST: u32 = 10;

/// What is followed.
pub(super) struct Following<'a> {
    pub session: &'a mut Session,
    pub duration: Option<Duration>,
    /// New targets can come when all have exited.
    pub endless: bool,
}

impl Following<'_> {
    /// Until there is a reason to end.
    pub async fn run<W: Work>(
        self,
        events: EventRing,
        signals: &mut Signals,
        every: Option<Duration>,
        work: &mut W,
    ) -> anyhow::Result<Ended> {
        let Self { session, duration, endless } = self;
        let mut tick = interval(DRAIN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut prints = every.map(|every| {
            let mut prints = interval_at(tokio::time::Instant::now() + every, every);
            prints.set_missed_tick_behavior(MissedTickBehavior::Delay);
            prints
        });
        // SAFETY: the ring owns its descriptor and keeps it until it is dropped, after the registration.
        let mut ring = unsafe { AsyncFd::register(events) }?;
        let mut log = match session.take_log() {
            // SAFETY: as above.
            Some(log) => Some(unsafe { AsyncFd::register(log) }?),
            None => None,
        };
        let mut looks = W::LOOK_EVERY.map(interval);
        let mut often = Some(interval(LOOK_EVERY));
        let tables = session.tables_ready().unwrap_or_default();
        let started = Instant::now();
        let deadline =
            tokio::time::Instant::now() + duration.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
        let why = 'following: loop {
            tokio::select! {
                biased;
                () = signals.come() => break Ended::Asked,
                () = sleep_until(deadline) => break Ended::TimeUp,
                () = tables.notified() => session.take_tables(),
                () = next(&mut often) => session.look_often(),
                () = next(&mut prints) => {
                    let before = Instant::now();
                    session.drain();
                    if work.print(session, started.elapsed())?.is_break() {
                        break Ended::NoReader;
                    }
                    if let (Some(prints), Some(every)) = (&mut prints, every) {
                        let took = before.elapsed();
                        prints.reset_after(every.max(took * REST).saturating_sub(took));
                    }
                }
                _ = tick.tick() => {
                    let before = Instant::now();
                    session.drain();
                    work.tick(session, started.elapsed())?;
                    // Where that takes long, the events have the same time.
                    tick.reset_after(DRAIN_EVERY.max(2 * before.elapsed()).saturating_sub(before.elapsed()));
                    // The exit events of all targets may have been lost.
                    if !endless && session.has_ended() {
                        break Ended::TargetsExited;
                    }
                }
                () = lines(&mut log) => {}
                // Last, as targets can see to it that there are always some.
                guard = ring.readable_mut() => {
                    let mut guard = guard?;
                    let events = guard.get_inner_mut().read();
                    if events.len() < EventRing::AT_ONCE {
                        guard.clear_ready();
                    }
                    if let Some(why) = take(session, &events, endless, work)? {
                        break why;
                    }
                    // Where there are always some, signals would not be seen else.
                    yield_now().await;
                }
                // Of these nobody is woken: all that are there are read.
                () = next(&mut looks) => {
                    let until = Instant::now() + LOOK_FOR;
                    let mut more = true;
                    while more {
                        let events = ring.get_mut().read();
                        more = events.len() == EventRing::AT_ONCE && Instant::now() < until;
                        if let Some(why) = take(session, &events, endless, work)? {
                            break 'following why;
                        }
                    }
                }
            }
        };
        if let Some(log) = &mut log {
            log.get_mut().say_all();
            let left_out = log.get_ref().left_out();
            if left_out > 0 {
                say(format_args!("bpf: {left_out} more lines were not logged (too many a second)"));
            }
        }
        if why != Ended::NoReader {
            // What happened until now and was not read: the records of processes that have ended are ahead of it.
            let until = (why != Ended::TargetsExited).then(|| Instant::now() + REST_WITHIN);
            for _ in 0..ROUNDS {
                let rest = ring.get_mut().read();
                if rest.is_empty() {
                    break;
                }
                if until.is_some_and(|until| Instant::now() > until) {
                    session.left_unread(rest.len());
                    continue;
                }
                session.handle_events(rest.iter().map(|told| *told.event()));
                if work.told(session, &rest)?.is_break() {
                    return Ok(Ended::NoReader);
                }
            }
        }
        Ok(why)
    }
}

/// Deals with what came through the ring; the reason to end, if that is one.
fn take(
    session: &mut Session,
    events: &[Told],
    endless: bool,
    work: &mut impl Work,
) -> anyhow::Result<Option<Ended>> {
    if events.is_empty() {
        return Ok(None);
    }
    session.handle_events(events.iter().map(|told| *told.event()));
    if work.told(session, events)?.is_break() {
        return Ok(Some(Ended::NoReader));
    }
    Ok((!endless && session.has_ended()).then_some(Ended::TargetsExited))
}

/// Says the next lines of the BPF programs, if they log any.
async fn lines(log: &mut Option<AsyncFd<LogRing>>) {
    let Some(log) = log else { return std::future::pending().await };
    if let Ok(mut guard) = log.readable_mut().await {
        guard.get_inner_mut().say_all();
        guard.clear_ready();
    }
}

/// The next tick, or never.
async fn next(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
