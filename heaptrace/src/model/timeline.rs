//! Makes a [`super::History`] of a recording while it is read.

use super::{Amount, History, Moment, Peak, Process, ProcessId, Profile, RealPeak, Still, Totals};

/// Moments kept at most: more than a picture has columns for, and few to write out.
const MOST: usize = 1 << 10;

/// The moments of a recording. They are bounded, however long it is: where there are too many, of
/// two neighbours the one with more live bytes is kept.
#[derive(Debug)]
pub struct Timeline {
    /// Only processes of this PID.
    pid: Option<u32>,
    /// What each process had, as far as it counts.
    processes: Vec<Had>,
    now: Moment,
    kept: Vec<Moment>,
    /// The best of the moments since the last one that was kept, and how many these are.
    next: Option<Moment>,
    since: usize,
    /// One of so many is kept.
    stride: usize,
    /// Number of the last moment, and of the first one that had most.
    last: usize,
    highest: Option<(usize, u64)>,
    real: Option<RealPeak>,
    /// Numbers of moments that have names.
    marked: Vec<usize>,
}

/// What a process adds to a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Had {
    allocated: Amount,
    live: Amount,
    rss_bytes: u64,
}

impl Had {
    fn of(process: &Process) -> Self {
        // What it had in memory when it was last looked at went with it.
        let rss_bytes = if process.exited { 0 } else { process.rss_bytes };
        Self { allocated: allocated(&process.totals), live: live(&process.totals), rss_bytes }
    }
}

impl Timeline {
    pub fn new(pid: Option<u32>) -> Self {
        Self {
            pid,
            processes: Vec::new(),
            now: Moment::default(),
            kept: Vec::new(),
            next: None,
            since: 0,
            stride: 1,
            last: 0,
            highest: None,
            real: None,
            marked: Vec::new(),
        }
    }

    /// Takes the next moment: the profile as it is then, and the processes that are not as they were.
    pub fn take(&mut self, profile: &Profile, changed: &[ProcessId]) {
        for id in changed {
            let Some(process) = profile.processes.get(id.index()) else { continue };
            let counts = self.pid.is_none_or(|pid| pid == process.pid);
            let bytes = process.peak_live_bytes;
            if counts && bytes > self.real.map_or(0, |real| real.bytes) {
                let (after_ns, by_ns) = (self.now.at_ns, profile.duration_ns);
                self.real = Some(RealPeak { process: *id, bytes, after_ns, by_ns });
            }
            let new = if counts { Had::of(process) } else { Had::default() };
            if self.processes.len() <= id.index() {
                self.processes.resize(id.index() + 1, Had::default());
            }
            let old = std::mem::replace(&mut self.processes[id.index()], new);
            replace(&mut self.now.allocated, old.allocated, new.allocated);
            replace(&mut self.now.live, old.live, new.live);
            self.now.rss_bytes =
                self.now.rss_bytes.saturating_sub(old.rss_bytes).saturating_add(new.rss_bytes);
        }
        self.now.at_ns = profile.duration_ns;
        self.last += 1;
        if profile.coverage.notes.marks().any(|(at_ns, _)| at_ns == profile.duration_ns) {
            self.marked.push(self.last);
        }
        if self.highest.is_none_or(|(_, bytes)| self.now.live.bytes > bytes) {
            self.highest = Some((self.last, self.now.live.bytes));
        }
        self.next = Some(higher(self.next, self.now));
        self.since += 1;
        if self.since == self.stride {
            self.keep();
        }
    }

    fn keep(&mut self) {
        self.since = 0;
        self.kept.extend(self.next.take());
        if self.kept.len() >= MOST {
            self.stride *= 2;
            self.kept = self
                .kept
                .chunks(2)
                .filter_map(|pair| pair.iter().copied().reduce(|a, b| higher(Some(a), b)))
                .collect();
        }
    }

    /// Number of the moment with most live bytes, counted from 1; `None` where that is the last one.
    pub fn peak(&self) -> Option<usize> {
        self.highest.map(|(number, _)| number).filter(|number| *number < self.last)
    }

    /// What the process that had most live ever had, and between which moments.
    pub fn real_peak(&self) -> Option<RealPeak> {
        self.real
    }

    /// Numbers of the moments that have names, from 1. What is marked is saved then, with its mark.
    pub fn marked(&self) -> &[usize] {
        &self.marked
    }

    /// How many moments were taken.
    pub fn saved(&self) -> usize {
        self.last
    }

    /// All of it, with what was live at the peak, or at several moments.
    pub fn history(self, peak: Option<Peak>, stills: Vec<Still>) -> History {
        History { saved: self.last as u64, moments: self.moments(), peak, stills }
    }

    /// The moments, from the beginning to the end.
    fn moments(mut self) -> Vec<Moment> {
        // Nothing was counted before the start.
        let mut moments = vec![Moment::default()];
        self.kept.extend(self.next);
        moments.append(&mut self.kept);
        if moments.last() != Some(&self.now) {
            moments.push(self.now);
        }
        moments
    }
}

impl Peak {
    /// The state of `profile`, which was read as far as its peak.
    pub fn of(profile: &Profile) -> Self {
        Self {
            at_ns: profile.duration_ns,
            processes: profile.processes.iter().map(|process| live(&process.totals)).collect(),
            sites: profile.sites.iter().map(|site| live(&site.totals)).collect(),
        }
    }
}

/// The one with more live bytes; the earlier one of equals.
fn higher(one: Option<Moment>, other: Moment) -> Moment {
    match one {
        Some(one) if one.live.bytes >= other.live.bytes => one,
        _ => other,
    }
}

fn allocated(totals: &Totals) -> Amount {
    Amount { bytes: totals.alloc_bytes, count: totals.alloc_count }
}

fn live(totals: &Totals) -> Amount {
    Amount { bytes: totals.live_bytes(), count: totals.live_count() }
}

/// Puts `new` in the place of `old` in a sum.
fn replace(sum: &mut Amount, old: Amount, new: Amount) {
    sum.bytes = sum.bytes.saturating_sub(old.bytes);
    sum.count = sum.count.saturating_sub(old.count);
    sum.add(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures::profiles::full, model::Note};

    /// A profile in which the first process has this much live, and the second one what it has.
    fn at(at_ns: u64, live: u64) -> Profile {
        let mut profile = full();
        profile.duration_ns = at_ns;
        profile.processes[0].totals = Totals { alloc_bytes: live, alloc_count: 1, ..Totals::default() };
        profile
    }

    const BOTH: [ProcessId; 2] = [ProcessId(0), ProcessId(1)];

    #[test]
    fn moments_are_sums_of_what_changed_and_the_highest_is_the_peak() {
        let others = full().processes[1].totals.live_bytes();
        let mut timeline = Timeline::new(None);
        timeline.take(&at(5, 100), &BOTH);
        timeline.take(&at(10, 300), &BOTH[..1]);
        timeline.take(&at(15, 200), &BOTH[..1]);
        timeline.take(&at(20, 200), &[]);
        assert_eq!(timeline.peak(), Some(2));
        let moments: Vec<_> = timeline.moments().iter().map(|of| (of.at_ns, of.live.bytes)).collect();
        assert_eq!(
            moments,
            [(0, 0), (5, 100 + others), (10, 300 + others), (15, 200 + others), (20, 200 + others)]
        );
    }

    #[test]
    fn the_real_peak_is_between_the_moments_by_which_it_grew() {
        let mut timeline = Timeline::new(Some(42));
        let mut profile = at(5, 100);
        for (at_ns, peak) in [(5, 150), (10, 400), (15, 400)] {
            (profile.duration_ns, profile.processes[0].peak_live_bytes) = (at_ns, peak);
            timeline.take(&profile, &BOTH);
        }
        let real = RealPeak { process: ProcessId(0), bytes: 400, after_ns: 5, by_ns: 10 };
        assert_eq!(timeline.real_peak(), Some(real));
    }

    #[test]
    fn moments_with_names_are_known() {
        let mut timeline = Timeline::new(None);
        let mut profile = at(5, 100);
        timeline.take(&profile, &BOTH);
        profile.duration_ns = 7;
        profile.coverage.notes.take(Note::Marked { at_ns: 7, name: "warm".into() });
        timeline.take(&profile, &BOTH);
        // Later moments know of it, too.
        profile.duration_ns = 10;
        timeline.take(&profile, &BOTH);
        assert_eq!(timeline.marked(), [2]);
    }

    #[test]
    fn rss_is_that_of_processes_that_run() {
        let mut profile = at(5, 100);
        let others = profile.processes[1].rss_bytes;
        let mut timeline = Timeline::new(None);
        timeline.take(&profile, &BOTH);
        (profile.duration_ns, profile.processes[0].rss_bytes) = (10, 5_000_001);
        timeline.take(&profile, &BOTH[..1]);
        (profile.duration_ns, profile.processes[0].exited) = (15, true);
        timeline.take(&profile, &BOTH[..1]);
        assert!(profile.processes[1].exited && others == 0);
        let rss: Vec<_> = timeline.moments().iter().map(|of| of.rss_bytes).collect();
        assert_eq!(rss, [0, 4_096_000, 5_000_001, 0]);
    }

    #[test]
    fn one_process_is_counted_alone_and_a_peak_in_the_end_is_none() {
        let mut timeline = Timeline::new(Some(42));
        timeline.take(&at(5, 100), &BOTH);
        timeline.take(&at(10, 300), &BOTH);
        assert_eq!(timeline.peak(), None);
        assert_eq!(timeline.moments().last().map(|of| of.live.bytes), Some(300));
    }

    #[test]
    fn however_many_there_are_they_are_bounded_and_the_peak_is_kept() {
        let mut timeline = Timeline::new(Some(42));
        let live = |at_ns: u64| if at_ns == 777 { 1_000_000 } else { at_ns };
        let mut profile = full();
        for at_ns in 1..=10_000 {
            profile.duration_ns = at_ns;
            profile.processes[0].totals = Totals { alloc_bytes: live(at_ns), ..Totals::default() };
            timeline.take(&profile, &BOTH[..1]);
        }
        assert_eq!(timeline.peak(), Some(777));
        let History { saved, moments, .. } = timeline.history(None, Vec::new());
        assert_eq!(saved, 10_000);
        assert!((MOST / 2..=MOST + 2).contains(&moments.len()), "{}", moments.len());
        assert!(moments.is_sorted_by_key(|moment| moment.at_ns));
        assert!(moments.iter().any(|moment| moment.live.bytes == 1_000_000));
        assert_eq!(moments.last().map(|of| of.at_ns), Some(10_000));
    }
}
