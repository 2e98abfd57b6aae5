//! The rule: thresholds and statistics. In words it is in `docs/verdicts.md`; what each constant was tried on is in
//! `simulated_tests.rs` and in the end-to-end suite `verdicts`.

use super::{Judgement, Reason, Verdict};
use crate::model::{COHORTS, Cohort, Cohorts, Mode, SiteId};
use std::collections::BTreeMap;

/// A site that was looked at for less time has no verdict that needs more: where some of its blocks are freed, and where none is.
/// Half a minute is what most caches by time, and most requests, take at most.
const ENOUGH_NS: u64 = 20_000_000_000;
const ENOUGH_WITHOUT_FREES_NS: u64 = 40_000_000_000;

/// In less time nothing is said.
const LEAST_NS: u64 = 5_000_000_000;

/// A site has so many parts of its own at least: one that is younger has just begun.
const LEAST_PARTS: usize = 6;

/// Fewer old blocks say nothing, nor do those that were allocated at fewer times.
const LEAST_OLD: u64 = 5;
const LEAST_TIMES: usize = 4;

/// Standard errors by which one number has to differ from another to be another.
const SURE: f64 = 2.5;

/// Old blocks are freed if of the oldest third this share of what is live of the next third is live, or less.
const DYING: f64 = 0.8;

/// Of fewer old blocks chance alone can have made up for such a difference: then it is enough that there is a larger one.
const FEW: u64 = 12;
const DYING_OF_FEW: f64 = 0.6;

/// So many of the oldest, which should be live, are not: no chance (1 in 3,000 where each lives or dies by itself).
const MISSED: f64 = 8.0;

/// Counters are read once a second, and later where there is much to read.
const UNSURE_NS: f64 = 2e9;

/// Frees that are no exception, of the blocks that are allocated meanwhile.
const NOT_FEW: f64 = 0.1;

/// What fills by chance has this share of its first blocks in its last third at a third of a time constant.
const SLOWING: f64 = 0.75;

/// Growth is so many times as large as what live blocks differ from a straight line; and it goes on, at this share of its rate at
/// least, in the last half, so that what has filled is not taken for it. Live bytes of blocks that do not become more wander farther, where sizes differ.
const BEYOND_NOISE: f64 = 3.0;
const BEYOND_NOISE_STILL: f64 = 1.5;
const STILL: f64 = 0.3;
const BEYOND_WANDERING: f64 = 4.0;

/// Of live bytes that grow while blocks do not, this share is new within the last two thirds.
const LEAST_GROWTH: f64 = 0.3;

/// Allocations have stopped if there are fewer than this share of what there were, where so many were to be expected.
const STOPPED: f64 = 0.1;
const EXPECTED: f64 = 5.0;

/// Blocks of a cache live for so long on average, and there are so many of them.
const CACHED_NS: f64 = 2e9;
const CACHED: u64 = 8;

/// Verdicts on all sites that can be judged, which were traced in this mode.
pub fn judge_all(cohorts: &BTreeMap<SiteId, Cohorts>, mode: Mode) -> BTreeMap<SiteId, Judgement> {
    let judged = |(site, cohorts): (&SiteId, &Cohorts)| Some((*site, judge(cohorts, mode.has_frees())?));
    cohorts.iter().filter_map(judged).collect()
}

/// Judges sites of a process as one: by all of their blocks together, or as the most suspicious of them where they are less so.
pub fn judge_together(sites: &[&Cohorts], knows_frees: bool) -> Option<Judgement> {
    let is_leak = |of: &Judgement| of.verdict == Verdict::LeakLike;
    let judged = judge(&sum(sites)?, knows_frees);
    if sites.len() == 1 {
        return judged;
    }
    // What nobody frees is judged by other rules than the rest: frees of one site say nothing of another.
    let is_freed = |site: &Cohorts| site.parts.iter().any(|part| part.freed > 0);
    let (freed, never): (Vec<&Cohorts>, Vec<&Cohorts>) = sites.iter().partition(|site| is_freed(site));
    let parts = [freed, never].map(|part| judge(&sum(&part)?, knows_frees));
    if parts.iter().flatten().any(is_leak) && judged.as_ref().is_some_and(is_leak) {
        return judged;
    }
    let alone = sites.iter().filter_map(|site| judge(site, knows_frees)).chain(parts.into_iter().flatten());
    let worst = alone.filter(is_leak).min_by_key(Judgement::rank);
    let [freed, never] = parts;
    worst.or_else(|| if judged.as_ref().is_some_and(is_leak) { never.or(freed) } else { judged })
}

/// All of their blocks together; `None` of none.
fn sum(sites: &[&Cohorts]) -> Option<Cohorts> {
    let (first, others) = sites.split_first()?;
    let mut all = (*first).clone();
    others.iter().for_each(|site| all.add(site));
    Some(all)
}

/// Judges a site. `knows_frees`: they are traced. `None` where there is nothing live, or was too little time.
pub fn judge(cohorts: &Cohorts, knows_frees: bool) -> Option<Judgement> {
    let mut cohorts = cohorts.clone();
    settle(&mut cohorts.parts);
    let site = Site::new(&cohorts)?;
    let (verdict, reason) = site.verdict(knows_frees)?;
    let old = site.thirds[0].with(site.thirds[1]);
    let late = site.thirds[2];
    let bytes_per_minute = match reason {
        Reason::LargerAndLarger => (site.held(2) - site.held(1)) / site.third_ns * 60e9,
        Reason::TooEarly { .. } | Reason::NothingFreed | Reason::Slowing { .. } if site.all.freed == 0 => {
            site.all.live_bytes as f64 / site.span_ns * 60e9
        }
        Reason::JustBegun { .. } => site.all.live_bytes as f64 / site.span_ns * 60e9,
        _ => old.live_bytes as f64 / (2.0 * site.third_ns) * 60e9,
    };
    Some(Judgement {
        verdict,
        reason,
        span_ns: site.span_ns as u64,
        old_age_ns: site.third_ns as u64,
        old_allocated: old.allocated,
        old_live: old.live,
        live: site.all.live,
        allocated: site.all.allocated,
        freed: site.all.freed,
        late_ns: site.third_ns as u64,
        late_allocated: late.allocated,
        late_freed: late.freed,
        oldest_ns: site.oldest_ns() as u64,
        bytes_per_minute: bytes_per_minute.max(0.0) as u64,
        knows_frees,
    })
}

/// When blocks were allocated is read off counters once a second, and of a burst some are taken for the part beside; when live ones
/// were is known of each. So a part with more live than allocated blocks has those of its neighbours that are too many there,
/// the nearest first: their sum is right, and of blocks that were never freed each part's.
fn settle(parts: &mut [Cohort]) {
    for at in 0..parts.len() {
        let mut lacks = parts[at].live.saturating_sub(parts[at].allocated);
        for distance in 1..parts.len() {
            for beside in [at.checked_sub(distance), at.checked_add(distance)].into_iter().flatten() {
                let Some(part) = parts.get_mut(beside).filter(|_| lacks > 0) else { continue };
                let taken = part.allocated.saturating_sub(part.live).min(lacks);
                part.allocated -= taken;
                lacks -= taken;
                parts[at].allocated += taken;
            }
        }
    }
}

/// A site's time, from its first block on.
struct Site<'c> {
    parts: &'c [Cohort],
    part_ns: f64,
    span_ns: f64,
    /// How long ago its first block came, if that is less than the least number of parts.
    begun_ns: Option<f64>,
    third_ns: f64,
    /// The earliest first.
    thirds: [Sum; 3],
    all: Sum,
}

#[derive(Clone, Copy, Default)]
struct Sum {
    allocated: u64,
    freed: u64,
    live: u64,
    live_bytes: u64,
}

impl Sum {
    fn of(parts: &[Cohort]) -> Self {
        parts.iter().fold(Self::default(), |sum, part| {
            let Cohort { allocated, freed, live, live_bytes, held_bytes: _ } = *part;
            // What is live was allocated; when, is known less well of all blocks than of those.
            sum.with(Self { allocated: allocated.max(live), freed, live, live_bytes })
        })
    }

    fn with(self, other: Self) -> Self {
        Self {
            allocated: self.allocated.saturating_add(other.allocated),
            freed: self.freed.saturating_add(other.freed),
            live: self.live.saturating_add(other.live),
            live_bytes: self.live_bytes.saturating_add(other.live_bytes),
        }
    }

    /// Which part of what was allocated is live.
    fn survival(self) -> f64 {
        if self.allocated == 0 { 0.0 } else { self.live as f64 / self.allocated as f64 }
    }
}

impl<'c> Site<'c> {
    /// `None` where nothing is live, or there was too little time.
    fn new(cohorts: &'c Cohorts) -> Option<Self> {
        let parts = cohorts.parts.get(..COHORTS)?;
        let first = parts.iter().position(|part| part.allocated > 0 || part.live > 0)?;
        let parts = &parts[first.min(COHORTS - LEAST_PARTS)..];
        let part_ns = cohorts.span_ns as f64 / COHORTS as f64;
        let span_ns = part_ns * parts.len() as f64;
        let all = Sum::of(parts);
        if all.live == 0 || cohorts.span_ns < LEAST_NS {
            return None;
        }
        let cuts = [0, parts.len() / 3, parts.len() * 2 / 3, parts.len()];
        let thirds = [0, 1, 2].map(|third| Sum::of(&parts[cuts[third]..cuts[third + 1]]));
        let own = COHORTS - first;
        let begun_ns = (own < LEAST_PARTS).then_some(own as f64 * part_ns);
        Some(Self { parts, part_ns, span_ns, begun_ns, third_ns: span_ns / 3.0, thirds, all })
    }

    fn verdict(&self, knows_frees: bool) -> Option<(Verdict, Reason)> {
        let nothing_freed = self.all.freed == 0;
        if let Some(begun_ns) = self.begun_ns {
            let needed_ns = self.needed(begun_ns, nothing_freed) as u64;
            let reason = Reason::JustBegun { age_ns: begun_ns as u64, needed_ns };
            return knows_frees.then_some((Verdict::WarmingUp, reason));
        }
        if self.has_stopped() {
            let verdict = if self.all.live > 1 { Verdict::PoolLike } else { Verdict::Steady };
            return Some((verdict, Reason::Stopped));
        }
        if knows_frees && self.grows_by_size() {
            return Some((Verdict::LeakLike, Reason::LargerAndLarger));
        }
        // Without frees only how old blocks are tells that they become more.
        let grows = !knows_frees || self.grows();
        if !grows {
            return Some(self.without_growth());
        }
        let enough_ns = if nothing_freed && knows_frees { ENOUGH_WITHOUT_FREES_NS } else { ENOUGH_NS };
        let stays =
            self.has_old() && (knows_frees && nothing_freed || !self.is_dying() && !self.has_just_filled());
        let slowing = self.slowing(nothing_freed && knows_frees);
        if stays && let Some(percent) = slowing {
            let verdict = if knows_frees { Verdict::WarmingUp } else { Verdict::Steady };
            return Some((verdict, Reason::Slowing { percent }));
        }
        if (self.span_ns as u64) < enough_ns {
            let needed_ns = enough_ns - self.span_ns as u64;
            return knows_frees.then_some((Verdict::WarmingUp, Reason::TooEarly { needed_ns }));
        }
        if stays {
            let reason =
                if nothing_freed && knows_frees { Reason::NothingFreed } else { Reason::NoneOfTheOldFreed };
            return Some((Verdict::LeakLike, reason));
        }
        Some(match (knows_frees, self.has_old()) {
            (true, true) => (Verdict::WarmingUp, Reason::OldFreed),
            // Few blocks, or young ones: what was allocated at once is no growth.
            (true, false) if self.all.live < LEAST_OLD => (Verdict::Steady, Reason::NoGrowth),
            (true, false) => (Verdict::WarmingUp, Reason::OldFreed),
            (false, _) => self.without_growth(),
        })
    }

    /// How much longer a site that began so long ago is to be looked at: until it has parts enough, and what a verdict takes.
    fn needed(&self, begun_ns: f64, nothing_freed: bool) -> f64 {
        let whole_ns = self.part_ns * COHORTS as f64;
        let share = LEAST_PARTS as f64 / COHORTS as f64;
        let parts_ns = (share * whole_ns - begun_ns) / (1.0 - share);
        let enough_ns = if nothing_freed { ENOUGH_WITHOUT_FREES_NS } else { ENOUGH_NS };
        parts_ns.max(enough_ns as f64 - begun_ns)
    }

    fn without_growth(&self) -> (Verdict, Reason) {
        // Little's law.
        let lives_ns = self.all.live as f64 / self.all.allocated.max(1) as f64 * self.span_ns;
        if self.all.live >= CACHED && lives_ns >= CACHED_NS {
            (Verdict::CacheLike, Reason::Balanced)
        } else {
            (Verdict::Steady, Reason::NoGrowth)
        }
    }

    /// Whether no more are allocated, though that was to be expected.
    fn has_stopped(&self) -> bool {
        let lasts = self.parts.len().div_ceil(6);
        let (before, last) = self.parts.split_at(self.parts.len() - lasts);
        let (before, late) = (Sum::of(before).allocated, Sum::of(last).allocated);
        let expected = before as f64 / (self.parts.len() - lasts) as f64 * lasts as f64;
        let has_none = self.thirds[2].allocated == 0;
        has_none || expected >= EXPECTED && (late as f64) < STOPPED * expected
    }

    /// Whether there are enough old blocks, from enough times of both the first and the second third.
    fn has_old(&self) -> bool {
        let old = &self.parts[..self.parts.len() * 2 / 3];
        let times = old.iter().filter(|part| part.live > 0).count();
        let [early, middle, _] = self.thirds;
        early.live > 0 && middle.live > 0 && early.live + middle.live >= LEAST_OLD && times >= LEAST_TIMES
    }

    /// Whether the oldest are freed more than the next.
    fn is_dying(&self) -> bool {
        let [early, middle, _] = self.thirds;
        let old = early.with(middle);
        let p = old.survival();
        let variance =
            p * (1.0 - p) * (1.0 / early.allocated.max(1) as f64 + 1.0 / middle.allocated.max(1) as f64);
        let fewer = middle.survival() - early.survival();
        if early.survival() < DYING * middle.survival() && fewer > SURE * variance.sqrt() {
            return true;
        }
        if old.live < FEW && early.survival() < DYING_OF_FEW * middle.survival() {
            return true;
        }
        // None of the first lives any more. When the very first were allocated is known to some time only.
        let unsure = (UNSURE_NS / self.part_ns).ceil() as usize;
        let first = self.parts.iter().take_while(|part| part.live == 0).skip(unsure);
        let gone: u64 = first.map(|part| part.allocated).sum();
        gone as f64 * p >= MISSED
    }

    /// Whether frees, and not few, have begun in the second half only: something has just become full.
    fn has_just_filled(&self) -> bool {
        let Some(begun) = self.parts.iter().position(|part| part.freed > 0) else { return false };
        let since = Sum::of(&self.parts[begun..]);
        begun >= self.parts.len() / 2 && since.freed as f64 >= NOT_FEW * since.allocated as f64
    }

    /// By how many percent fewer blocks stay than in the beginning, if that is beyond chance.
    fn slowing(&self, nothing_freed: bool) -> Option<u64> {
        let [early, middle, late] = self.thirds;
        // The youngest stay all, unless some are freed soon.
        let (first, last) = (early.live as f64, if nothing_freed { late.live } else { middle.live } as f64);
        if first == 0.0 {
            return None;
        }
        let ratio = last / first;
        let error = ratio * (1.0 / first + 1.0 / last.max(1.0)).sqrt();
        (ratio + SURE * error < SLOWING).then_some(((1.0 - ratio) * 100.0) as u64)
    }

    /// Whether live blocks become more beyond noise, in the last two thirds.
    fn grows(&self) -> bool {
        let mut live = 0.0;
        let held: Vec<f64> = self
            .parts
            .iter()
            .map(|part| {
                live += part.allocated as f64 - part.freed as f64;
                live
            })
            .collect();
        let (recent, last) = (&held[held.len() / 3..], &held[held.len() / 2..]);
        let rise = rises(recent, BEYOND_NOISE);
        let share = last.len() as f64 / recent.len() as f64;
        rise > 0.0 && rises(last, BEYOND_NOISE_STILL) > STILL * share * rise
    }

    /// Whether live bytes become more although live blocks do not.
    fn grows_by_size(&self) -> bool {
        let [_, _, late] = self.thirds;
        let held: Vec<f64> = self.parts.iter().map(|part| part.held_bytes as f64).collect();
        let recent = &held[held.len() / 3..];
        let rise = rises(recent, BEYOND_WANDERING);
        let is_replaced = self.all.freed * 2 >= self.all.allocated && late.allocated > 1 && late.freed > 0;
        let (first, next, last) = (self.held(0), self.held(1), self.held(2));
        let goes_on = last - next >= 0.4 * (next - first) && next > first;
        let steps = recent.windows(2).filter(|pair| pair[1] > pair[0]).count();
        is_replaced
            && goes_on
            && steps >= LEAST_TIMES
            && rise > LEAST_GROWTH * last
            && !self.grows()
            && self.span_ns as u64 >= ENOUGH_WITHOUT_FREES_NS
    }

    /// Mean live bytes in a third.
    fn held(&self, third: usize) -> f64 {
        let cuts = [0, self.parts.len() / 3, self.parts.len() * 2 / 3, self.parts.len()];
        let parts = &self.parts[cuts[third]..cuts[third + 1]];
        parts.iter().map(|part| part.held_bytes as f64).sum::<f64>() / parts.len().max(1) as f64
    }

    fn oldest_ns(&self) -> f64 {
        let younger = self.parts.iter().position(|part| part.live > 0).unwrap_or(self.parts.len());
        (self.parts.len() - younger) as f64 * self.part_ns
    }
}

/// How much these rise along a straight line from the first to the last, if that is `beyond` times what they differ from it; else 0.
fn rises(values: &[f64], beyond: f64) -> f64 {
    let count = values.len() as f64;
    if values.len() < 3 {
        return 0.0;
    }
    let (middle, mean) = ((count - 1.0) / 2.0, values.iter().sum::<f64>() / count);
    let at = |place: usize| place as f64 - middle;
    let square: f64 = (0..values.len()).map(|place| at(place).powi(2)).sum();
    let slope =
        values.iter().enumerate().map(|(place, value)| at(place) * (value - mean)).sum::<f64>() / square;
    let off = |(place, value): (usize, &f64)| (value - mean - slope * at(place)).powi(2);
    let deviation = (values.iter().enumerate().map(off).sum::<f64>() / (count - 2.0)).sqrt();
    let rise = slope * (count - 1.0);
    // Less than a block is none.
    if rise >= 1.0 && rise > beyond * deviation { rise } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters are read once a second, so that half of a burst seems to have come before.
    #[test]
    fn nothing_of_bursts_that_are_never_freed_is_said_to_be_over() {
        let mut parts = vec![Cohort::default(); COHORTS];
        for at in [3, 9, 15, 21] {
            parts[at] = Cohort { allocated: 25, live: 50, live_bytes: 5000, ..Cohort::default() };
            parts[at - 1].allocated = 25;
        }
        let mut settled = parts.clone();
        settle(&mut settled);
        assert!(settled.iter().all(|part| part.allocated == part.live), "{settled:?}");
        let judged = judge(&Cohorts { span_ns: 60_000_000_000, parts }, true).expect("a verdict");
        assert_eq!((judged.allocated, judged.live, judged.old_allocated), (200, 200, judged.old_live));
        assert!(!matches!(judged.verdict, Verdict::CacheLike | Verdict::PoolLike), "{judged:?}");
    }

    #[test]
    fn frees_of_one_site_say_nothing_of_another() {
        let cohorts = |span_s: u64, part: &dyn Fn(usize) -> Cohort| Cohorts {
            span_ns: span_s * 1_000_000_000,
            parts: (0..COHORTS).map(part).collect(),
        };
        let kept = |_| Cohort { allocated: 20, live: 20, live_bytes: 2_000, ..Cohort::default() };
        // The old buffers of a vector that has stopped to grow.
        let buffers = |at| match at {
            0 => Cohort { allocated: 10, freed: 9, live: 1, live_bytes: 4_096, ..Cohort::default() },
            _ => Cohort::default(),
        };
        let all = sum(&[&cohorts(24, &kept), &cohorts(24, &buffers)]).expect("two");
        assert_eq!(judge(&all, true).map(|of| of.verdict), Some(Verdict::LeakLike), "all together would be");
        let judged = |span| judge_together(&[&cohorts(span, &kept), &cohorts(span, &buffers)], true);
        let early = judged(24).expect("a verdict");
        assert!(matches!(early.reason, Reason::TooEarly { .. }), "{early:?}");
        assert_eq!(judged(60).map(|of| of.verdict), Some(Verdict::LeakLike));
        // A few blocks at each of many lines.
        let few = |at| Cohort {
            allocated: 2,
            freed: u64::from(at % 2 == 0),
            live: 1,
            live_bytes: 100,
            ..Cohort::default()
        };
        let some = cohorts(60, &few);
        assert_eq!(
            judge_together(&[&some; 3], true).map(|of| of.verdict),
            judge_together(&[&some; 5], true).map(|of| of.verdict)
        );
    }

    #[test]
    fn a_rise_is_one_beyond_noise() {
        let line: Vec<f64> = (0..16).map(|at| f64::from(at) * 3.0).collect();
        assert!((rises(&line, 3.0) - 45.0).abs() < 1e-6);
        let saw: Vec<f64> = (0..16).map(|at| f64::from(at % 5) * 3.0 + f64::from(at) * 0.1).collect();
        assert_eq!(rises(&saw, 3.0), 0.0);
        assert_eq!(rises(&[7.0; 16], 3.0), 0.0);
        assert_eq!(rises(&[1.0, 2.0], 3.0), 0.0);
    }

    #[test]
    fn what_seems_to_be_allocated_a_moment_too_early_is_no_sign_of_frees() {
        let mut parts =
            vec![Cohort { allocated: 100, freed: 50, live: 50, live_bytes: 50, held_bytes: 0 }; COHORTS];
        parts[0] = Cohort { allocated: 60, ..Cohort::default() };
        let of = |parts: &[Cohort]| {
            let cohorts = Cohorts { span_ns: 60_000_000_000, parts: parts.to_vec() };
            judge(&cohorts, true).map(|judged| judged.verdict)
        };
        assert_eq!(of(&parts), Some(Verdict::LeakLike));
        parts[1] = parts[0];
        assert_ne!(of(&parts), Some(Verdict::LeakLike), "for that it is too much");
    }

    #[test]
    fn what_has_just_begun_is_not_said_to_be_steady() {
        let begun = |parts: usize, span_s: u64| {
            let one = Cohort { allocated: 9, freed: 3, live: 6, live_bytes: 600, held_bytes: 600 };
            let part = |at| if at + parts < COHORTS { Cohort::default() } else { one };
            let parts = (0..COHORTS).map(part).collect();
            judge(&Cohorts { span_ns: span_s * 1_000_000_000, parts }, true).expect("a verdict")
        };
        // Of 60 s the last 2.5, and of 10 minutes the last 50 s.
        for (parts, span_s, age_s, needed_s) in [(1, 60, 2.5, 17.5), (2, 600, 50.0, 133.3)] {
            let of = begun(parts, span_s);
            let Reason::JustBegun { age_ns, needed_ns } = of.reason else { panic!("{of:?}") };
            assert_eq!(of.verdict, Verdict::WarmingUp);
            let [age, needed] = [age_ns, needed_ns].map(|ns| ns as f64 / 1e9);
            assert!((age - age_s).abs() < 0.1 && (needed - needed_s).abs() < 0.1, "{of:?}");
        }
        assert!(!matches!(begun(LEAST_PARTS, 60).reason, Reason::JustBegun { .. }));
    }

    #[test]
    fn nothing_is_said_of_nothing_or_after_a_moment() {
        let parts = vec![Cohort { allocated: 10, live: 10, ..Cohort::default() }; COHORTS];
        let of = |span_ns, parts: &[Cohort]| judge(&Cohorts { span_ns, parts: parts.to_vec() }, true);
        assert_eq!(of(LEAST_NS - 1, &parts), None);
        assert!(of(LEAST_NS, &parts).is_some());
        assert_eq!(of(ENOUGH_NS, &[Cohort { allocated: 1, ..Cohort::default() }; COHORTS]), None);
        assert_eq!(of(ENOUGH_NS, &parts[1..]), None, "a damaged one");
    }
}
