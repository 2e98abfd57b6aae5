//! What each process was like at the last refreshes: growth, rates and trends come of it.

use super::{
    detail::Instant,
    sample::{Mapped, Sample, Seen, Traced},
};
use crate::process::procfs::Identity;
use std::collections::{HashMap, VecDeque};

/// Refreshes that are kept: three minutes at one a second, 90 bytes each.
const KEPT: usize = 180;

/// Growth is that of the last minute.
const WINDOW_NS: u64 = 60_000_000_000;

/// What is less than a second is too little to say anything of a minute; timers are not exact.
const LEAST_NS: u64 = 900_000_000;

const MINUTE_NS: f64 = 60e9;

/// One process at one refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    pub at_ns: u64,
    pub res: u64,
    pub heap: u64,
    pub faults: u64,
    pub cpu_ns: u64,
    /// More or less mapped than when top began.
    pub mapped: Option<i64>,
    pub traced: Option<TracedPoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedPoint {
    pub live: u64,
    pub allocs: u64,
    pub trapped_allocs: u64,
    /// `None` where they are not traced.
    pub frees: Option<u64>,
    /// Of blocks from before.
    pub unknown_frees: u64,
    /// How long calls have counted.
    pub attached_ns: u64,
}

/// The refreshes of one process, the last one last.
#[derive(Clone, Debug, Default)]
pub struct Track(VecDeque<Point>);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct History {
    tracks: HashMap<Identity, Track>,
}

impl History {
    /// Adds a refresh, and forgets processes that are not in it.
    pub fn add(&mut self, sample: &Sample) {
        for seen in &sample.seen {
            let track = self.tracks.entry(seen.identity).or_default();
            let pid = seen.identity.pid;
            track.add(point(sample.at_ns, seen, sample.mapped.get(&pid), sample.traced.get(&pid)));
        }
        self.tracks.retain(|_, track| track.0.back().is_some_and(|last| last.at_ns == sample.at_ns));
    }

    /// The refreshes of a process for its screen; none if it is not there.
    pub fn timeline(&self, identity: Identity) -> Vec<Instant> {
        let Some(track) = self.of(identity) else { return Vec::new() };
        let now = track.0.back().map_or(0, |last| last.at_ns);
        let instant = |point: &Point| Instant {
            ago: (now - point.at_ns) as f64 / 1e9,
            res: point.res,
            live: point.traced.map(|traced| traced.live),
        };
        track.points().map(instant).collect()
    }

    /// The refreshes of a process, if it is there.
    pub fn of(&self, identity: Identity) -> Option<&Track> {
        self.tracks.get(&identity)
    }
}

fn point(at_ns: u64, seen: &Seen, mapped: Option<&Mapped>, traced: Option<&Traced>) -> Point {
    Point {
        at_ns,
        res: seen.res,
        heap: seen.heap,
        faults: seen.faults,
        cpu_ns: seen.cpu_ns,
        mapped: mapped.map(Mapped::net),
        traced: traced.map(|traced| TracedPoint {
            live: traced.live_bytes,
            allocs: traced.allocs,
            trapped_allocs: traced.trapped_allocs,
            frees: traced.frees,
            unknown_frees: traced.unknown_frees,
            attached_ns: traced.attached_ns,
        }),
    }
}

impl Track {
    fn add(&mut self, mut point: Point) {
        // Counters that begin again are another tracing.
        let before = self.0.back().and_then(|last| last.traced);
        if let (Some(before), Some(now)) = (before, point.traced)
            && (now.allocs < before.allocs || now.frees < before.frees)
        {
            self.0.iter_mut().for_each(|point| point.traced = None);
        }
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        // A clock that stands still would make rates of it infinite.
        if let Some(last) = self.0.back() {
            point.at_ns = point.at_ns.max(last.at_ns + 1);
        }
        self.0.push_back(point);
    }

    /// The refreshes, the last one last.
    pub fn points(&self) -> impl DoubleEndedIterator<Item = &Point> + ExactSizeIterator {
        self.0.iter()
    }

    /// How much a number grew over the last minute, or since it is known, by the minute. `None` if that is no second.
    pub fn per_minute(&self, of: impl Fn(&Point) -> Option<i64>) -> Option<f64> {
        let last = self.0.back()?;
        let now = of(last)?;
        let recent = self.0.iter().rev().take_while(|point| last.at_ns - point.at_ns <= WINDOW_NS);
        let first = recent.take_while(|point| of(point).is_some()).last()?;
        let elapsed = last.at_ns.checked_sub(first.at_ns).filter(|elapsed| *elapsed >= LEAST_NS)?;
        Some(now.saturating_sub(of(first)?) as f64 * MINUTE_NS / elapsed as f64)
    }

    /// How fast a counter rose since the refresh before, by the second; or since an earlier one, if that was just now: what
    /// is counted in ticks of the clock would be nothing, or much.
    pub fn per_second(&self, of: impl Fn(&Point) -> Option<u64>) -> Option<f64> {
        self.per_second_of(of, |point| Some(point.at_ns))
    }

    /// The same by the second in which calls counted: where probes are away at times, the others have no rate.
    pub fn per_second_attached(&self, of: impl Fn(TracedPoint) -> Option<u64>) -> Option<f64> {
        self.per_second_of(|point| of(point.traced?), |point| Some(point.traced?.attached_ns))
    }

    fn per_second_of(
        &self,
        of: impl Fn(&Point) -> Option<u64>,
        clock_ns: impl Fn(&Point) -> Option<u64>,
    ) -> Option<f64> {
        const JUST_NOW_NS: u64 = 200_000_000;
        let mut last = self.0.iter().rev();
        let now = last.next()?;
        let long_ago = |point: &&Point| now.at_ns - point.at_ns >= JUST_NOW_NS && of(point).is_some();
        let before = last.clone().find(long_ago).or_else(|| last.next())?;
        let elapsed = clock_ns(now)?.checked_sub(clock_ns(before)?).filter(|elapsed| *elapsed > 0)?;
        Some(of(now)?.checked_sub(of(before)?)? as f64 * 1e9 / elapsed as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn track(heaps: &[u64], every_ns: u64) -> Track {
        let mut track = Track::default();
        for (index, heap) in heaps.iter().enumerate() {
            track.add(Point {
                at_ns: (index as u64 + 1) * every_ns,
                res: 0,
                heap: *heap,
                faults: *heap,
                cpu_ns: 0,
                mapped: None,
                traced: None,
            });
        }
        track
    }

    fn heap(point: &Point) -> Option<i64> {
        Some(point.heap as i64)
    }

    #[test]
    fn growth_is_of_the_last_minute_by_the_minute() {
        // 10 bytes in a second, 600 in a minute.
        assert_eq!(track(&[100, 110], 1_000_000_000).per_minute(heap), Some(600.0));
        assert_eq!(track(&[110, 100], 1_000_000_000).per_minute(heap), Some(-600.0));
        assert_eq!(track(&[100], 1_000_000_000).per_minute(heap), None);
        assert_eq!(track(&[100, 110], 100_000_000).per_minute(heap), None);
        // What grew before the last minute does not count.
        let mut heaps: Vec<u64> = (0..100).map(|second| second * 1000).collect();
        heaps.extend([99_000; 61]);
        assert_eq!(track(&heaps, 1_000_000_000).per_minute(heap), Some(0.0));
    }

    #[test]
    fn rates_are_of_the_last_interval_by_the_second() {
        let faults = |point: &Point| Some(point.faults);
        assert_eq!(track(&[0, 100, 300], 2_000_000_000).per_second(faults), Some(100.0));
        assert_eq!(track(&[300, 100], 2_000_000_000).per_second(faults), None, "a counter that fell");
    }

    #[test]
    fn probes_that_are_placed_again_begin_anew() {
        let mut track = track(&[], 1);
        let traced = |at_ns, allocs| Point {
            at_ns,
            res: 0,
            heap: 0,
            faults: 0,
            cpu_ns: 0,
            mapped: None,
            traced: Some(TracedPoint {
                live: allocs,
                allocs,
                trapped_allocs: allocs,
                frees: Some(0),
                unknown_frees: 0,
                attached_ns: at_ns,
            }),
        };
        track.add(traced(1_000_000_000, 500));
        track.add(traced(2_000_000_000, 3));
        assert_eq!(track.per_second(|point| point.traced.map(|traced| traced.allocs)), None);
        track.add(traced(3_000_000_000, 8));
        assert_eq!(track.per_second(|point| point.traced.map(|traced| traced.allocs)), Some(5.0));
    }

    proptest! {
        #[test]
        fn any_numbers_make_finite_rates(heaps: Vec<u64>, every in 0..u64::MAX / 1000) {
            let track = track(&heaps[..heaps.len().min(900)], every);
            prop_assert!(track.per_minute(heap).is_none_or(f64::is_finite));
            prop_assert!(track.per_second(|point| Some(point.faults)).is_none_or(f64::is_finite));
            prop_assert!(track.points().len() <= KEPT);
        }
    }
}
