//! The line that says how a recording goes; on a terminal only.

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::time::Duration;

/// See the module. Clears its line when dropped.
pub(super) struct Progress {
    bar: ProgressBar,
    last: (Duration, u64),
}

impl Progress {
    pub fn new() -> Self {
        // Draws to standard error, and nothing if that is no terminal.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self { bar, last: (Duration::ZERO, 0) }
    }

    /// What is being done.
    pub fn say(&self, what: &str) {
        self.bar.set_message(what.to_owned());
        self.bar.tick();
    }

    /// `live`: bytes, where blocks are traced. `cost`: of what is traced, the fraction of its processor time. So many processes
    /// are `paused`.
    pub fn show(
        &mut self,
        elapsed: Duration,
        live: Option<u64>,
        (events, lost): (u64, u64),
        cost: Option<f64>,
        paused: usize,
    ) {
        let (before, events_before) = std::mem::replace(&mut self.last, (elapsed, events));
        let seconds = (elapsed - before).as_secs_f64().max(0.001);
        let rate = (events.saturating_sub(events_before)) as f64 / seconds;
        let live = live.map_or_else(String::new, |live| format!("live {}, ", HumanBytes(live)));
        let cost = cost
            .map_or_else(String::new, |cost| format!(", tracing takes {:.1}% of their time", 100.0 * cost));
        let paused = if paused > 0 { format!(", {paused} paused") } else { String::new() };
        self.bar.set_message(format!(
            "[{:>4} s] {live}{} events/s, {} lost{cost}{paused}",
            elapsed.as_secs(),
            HumanCount(rate as u64),
            HumanCount(lost)
        ));
        self.bar.tick();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
