//! The line that says how a recording goes; on a terminal only.

use crate::units;
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
            "[{:>6}] {live}{} events/s, {} lost{cost}{paused}",
            time(elapsed),
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

/// To the second, or to the minute where it is hours.
fn time(elapsed: Duration) -> String {
    units::duration(elapsed.as_secs().saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_told_in_minutes_and_hours() {
        let texts = [0.9, 59.9, 60.0, 3599.0, 3600.0, 90_000.0].map(|s| time(Duration::from_secs_f64(s)));
        assert_eq!(texts, ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "25 h 0 min"]);
    }
}
