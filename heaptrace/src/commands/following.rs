//! Following an engine: its news are awaited, and its command's work done, until there is a reason to end.

use super::{
    signals::Signals,
    work::{Ended, Work},
};
use crate::{
    engine::{Engine, News, Pace},
    printable::say,
    report,
};
use std::time::{Duration, Instant};
use tokio::time::sleep_until;

/// How many times as long as a print takes is the least time from one to the next: a map of millions of blocks takes
/// part of a second to read, and the targets want the processor, too.
const REST: u32 = 10;

/// Until there is a reason to end; `every` is the interval of the work's prints.
pub(super) async fn follow<W: Work>(
    engine: &mut Engine<W::Form>,
    signals: &mut Signals,
    duration: Option<Duration>,
    every: Option<Duration>,
    work: &mut W,
) -> anyhow::Result<Ended> {
    let mut prints = every.map(|every| Pace::later(every, REST));
    let deadline = tokio::time::Instant::now() + duration.unwrap_or(Duration::from_secs(u64::from(u32::MAX)));
    let why = loop {
        tokio::select! {
            biased;
            () = signals.come() => break Ended::Asked,
            () = sleep_until(deadline) => break Ended::TimeUp,
            names = work.found() => {
                if work.take(engine, names)?.is_break() {
                    break Ended::NoReader;
                }
            }
            () = due(&mut prints), if !work.waits() => {
                let before = Instant::now();
                engine.drain();
                if work.print(engine)?.is_break() {
                    break Ended::NoReader;
                }
                if let Some(prints) = &mut prints {
                    prints.rest(before.elapsed());
                }
            }
            // Last, as targets can see to it that there are always some.
            news = engine.next() => match news? {
                News::Events(told) => {
                    if work.told(engine, &told)?.is_break() {
                        break Ended::NoReader;
                    }
                }
                News::Drained => {
                    for grown in engine.take_grown() {
                        say(format_args!("{}", report::said(&grown)));
                    }
                    work.tick(engine)?;
                }
                News::Looked => work.looked(engine)?,
                News::Ended => break Ended::TargetsExited,
            }
        }
    };
    let mut rest = engine.stop();
    if why != Ended::NoReader {
        while let Some(told) = rest.next(engine) {
            if work.told(engine, &told)?.is_break() {
                return Ok(Ended::NoReader);
            }
        }
    }
    Ok(why)
}

/// Once it is time, or never.
async fn due(pace: &mut Option<Pace>) {
    match pace {
        Some(pace) => pace.due().await,
        None => std::future::pending().await,
    }
}
