//! What a sample of blocks says about all of them: an estimate, how sure it is, and what is certain.
//!
//! The sums come from the BPF programs; see [`heaptrace_common::sampling`] for how blocks are taken and weighed.

use heaptrace_common::sampling::{
    BYTES_VARIANCE_BITS, COUNT_BITS, COUNT_VARIANCE_BITS, Weights, given_scale, given_weights, weights,
};
use std::ops::{Add, Sub};

/// Of the normal distribution: 95 in 100 lie within so many standard deviations.
const Z: f64 = 1.959_964;

/// What the taken blocks of a site come to. What has come to be freed is taken out of a copy with [`Sums::without`], which
/// leaves nothing behind, as a size always weighs the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Blocks taken.
    pub samples: u64,
    /// Their sizes.
    pub seen_bytes: u64,
    pub weights: Weights,
}

impl Sums {
    /// Of one block that was taken.
    pub fn of(size: u64, mean: u64) -> Self {
        Self { samples: 1, seen_bytes: size, weights: weights(size, mean) }
    }

    /// Of one that its allocator took, which says that it stands for `bytes`, as [`given_weights`].
    pub fn given(size: u64, bytes: u64, mean: u64) -> Self {
        Self { samples: 1, seen_bytes: size, weights: given_weights(size, bytes, mean) }
    }

    pub fn with(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    /// `other` is part of `self`, though of sums that are read while they change it may be more for a moment.
    pub fn without(self, other: Self) -> Self {
        self.each(other, u64::saturating_sub)
    }

    fn each(self, other: Self, by: impl Fn(u64, u64) -> u64) -> Self {
        let Self { samples, seen_bytes, weights } = other;
        let Weights { bytes, count, bytes_variance, count_variance } = weights;
        Self {
            samples: by(self.samples, samples),
            seen_bytes: by(self.seen_bytes, seen_bytes),
            weights: Weights {
                bytes: by(self.weights.bytes, bytes),
                count: by(self.weights.count, count),
                bytes_variance: by(self.weights.bytes_variance, bytes_variance),
                count_variance: by(self.weights.count_variance, count_variance),
            },
        }
    }
}

/// How far samples lie apart, on average.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Apart {
    /// Bytes that variances are in units of; and from one sample to the next, where heaptrace chose them.
    pub unit: u64,
    /// The same where an allocator did.
    pub own: Option<u64>,
}

impl Apart {
    /// Where heaptrace chose them.
    pub fn chosen(mean: u64) -> Self {
        Self { unit: mean, own: None }
    }

    fn scale(self) -> f64 {
        self.own.map_or(1.0, |interval| given_scale(interval, self.unit))
    }
}

/// An estimated number of bytes or of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// Right on average.
    pub value: f64,
    pub variance: f64,
    /// Blocks taken.
    pub samples: u64,
    /// What these are themselves: there is no less.
    pub seen: u64,
    /// How fast the variance grows with the value, times the variance: so parts add up by how unsure they are.
    skew: f64,
    /// The same where the truth is higher.
    skew_up: f64,
    /// What a sample of small blocks stands for: so much may have been missed wherever there are none.
    step: f64,
    /// It is more than the truth by nobody knows how much.
    is_bound: bool,
}

impl Estimate {
    /// Of what is more than the truth: of live blocks where frees are not seen.
    #[must_use]
    pub fn as_bound(self) -> Self {
        Self { is_bound: true, ..self }
    }

    /// Of what was counted: part of an estimate that is right.
    pub fn certain(number: u64) -> Self {
        Self { value: number as f64, seen: number, ..Self::default() }
    }

    /// Bytes.
    pub fn bytes(sums: &Sums, apart: Apart) -> Self {
        let (mean, scale) = (apart.unit as f64, apart.scale());
        let value = sums.weights.bytes as f64;
        let variance = sums.weights.bytes_variance as f64 * mean * mean / units(BYTES_VARIANCE_BITS) * scale;
        if apart.own.is_some() {
            // A large block's weight may be less than its size.
            let seen = sums.seen_bytes.min(sums.weights.bytes);
            return Self::given(value, variance, sums.samples, seen, mean * scale);
        }
        let missed = value - sums.seen_bytes as f64;
        // With blocks of one size s, of x means, the quotient is s / p, in means x / (1 - exp(-x)), and a further byte adds
        // s / p - s to the variance. With several sizes it is what they have on average.
        let growth = if missed > 0.0 { mean * beyond_itself(variance / missed / mean) } else { 0.0 };
        Self {
            value,
            variance,
            samples: sums.samples,
            seen: sums.seen_bytes,
            skew: variance * growth,
            skew_up: variance * growth,
            step: mean,
            is_bound: false,
        }
    }

    /// Blocks. Of a part without samples, take the whole's minus the other part's: what is left may then have had the sizes
    /// of the whole, and not one byte each.
    pub fn count(sums: &Sums, apart: Apart) -> Self {
        let (mean, scale) = (apart.unit as f64, apart.scale());
        let samples = sums.samples as f64;
        let value = sums.weights.count as f64 / units(COUNT_BITS);
        let summed = sums.weights.count_variance as f64 * mean / units(COUNT_VARIANCE_BITS) * scale;
        // Cauchy and Schwarz: a sum below has overflowed, or its unit was too coarse.
        let least = if sums.samples > 0 { value * value / samples - value } else { 0.0 };
        let variance = summed.max(least);
        let missed = value - samples;
        // As of bytes, with 1 / p and 1 / p - 1. Unlike bytes, a sample stands for the more blocks the smaller it is, and of
        // the smallest there are the fewest samples, perhaps none. So what these blocks have on average grows where they
        // differ; the cube root was found by simulation (see the tests).
        let (growth, spread) = if missed > 0.0 {
            let growth = (variance / missed - 1.0).max(0.0);
            (growth, (growth / (missed / samples)).max(1.0).cbrt())
        } else {
            (0.0, 1.0)
        };
        let size = if sums.samples > 0 { (sums.seen_bytes as f64 / samples).max(1.0) } else { 1.0 };
        Self {
            value,
            variance,
            samples: sums.samples,
            seen: sums.samples,
            skew: variance * growth,
            skew_up: variance * growth * spread,
            step: mean * scale / size,
            is_bound: false,
        }
    }

    /// Of samples that an allocator took: the variance grows as fast as the value.
    fn given(value: f64, variance: f64, samples: u64, seen: u64, step: f64) -> Self {
        let skew = if value > 0.0 { variance * variance / value } else { 0.0 };
        Self { value, variance, samples, seen, skew, skew_up: skew, step, is_bound: false }
    }

    /// See [`Self::as_bound`].
    pub fn is_bound(&self) -> bool {
        self.is_bound
    }

    /// From and up to and with what the truth lies in 95 cases of 100.
    ///
    /// A score interval (Wilson, 1927): all values that would be no more than [`Z`] of *their* standard deviations away from
    /// the estimate, with a variance that grows with the value. Upwards it grows at least as with small blocks, as nobody
    /// knows that there are none. With no samples at all there are up to `Z^2` = 3.84 means. (That alone, "95 in 100 have
    /// less", would be 3.0 means. But who sees an interval after every outcome is then wrong in 9 cases of 100 where the
    /// truth is 3.3.)
    ///
    /// Of few samples, and of counts of blocks whose sizes differ much, it cannot be right: see the tests.
    pub fn interval95(&self) -> (u64, u64) {
        let (down, _) = score(self.value, self.variance, self.growth(self.skew));
        let (_, up) = score(self.value, self.variance, self.growth(self.skew_up).max(self.step));
        // `as` saturates.
        let from = if self.is_bound { 0 } else { (down.floor() as u64).max(self.seen) };
        (from, (up.ceil() as u64).max(from))
    }

    fn growth(&self, skew: f64) -> f64 {
        if self.variance > 0.0 { skew / self.variance } else { 0.0 }
    }
}

/// Where the distance to `value` is [`Z`] standard deviations, with a variance that grows by `growth`.
fn score(value: f64, variance: f64, growth: f64) -> (f64, f64) {
    let shift = growth * Z * Z / 2.0;
    let reach = (Z * Z * variance + shift * shift).sqrt();
    (value + shift - reach, value + shift + reach)
}

/// `x / (exp(x) - 1)` of the x whose `x / (1 - exp(-x))` is `whole`: they differ by x.
fn beyond_itself(whole: f64) -> f64 {
    // x lies between these, and `whole` grows with it.
    let (mut low, mut high) = (0.0, whole.max(1.0));
    for _ in 0..40 {
        let x = (low + high) / 2.0;
        if x > -whole * (-x).exp_m1() { high = x } else { low = x }
    }
    (whole - low).clamp(0.0, 1.0)
}

fn units(bits: u32) -> f64 {
    (1_u64 << bits) as f64
}

/// Of independent parts, such as sites.
impl Add for Estimate {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        // A part without samples has nothing to say about what is missed elsewhere.
        let step = match (self.samples, other.samples) {
            (0, 1..) => other.step,
            (1.., 0) => self.step,
            _ => self.step.max(other.step),
        };
        Self {
            value: self.value + other.value,
            variance: self.variance + other.variance,
            samples: self.samples.saturating_add(other.samples),
            seen: self.seen.saturating_add(other.seen),
            skew: self.skew + other.skew,
            skew_up: self.skew_up + other.skew_up,
            step,
            is_bound: self.is_bound || other.is_bound,
        }
    }
}

/// Of a part from its whole, such as what was freed from what was allocated: blocks are taken independently, so variances
/// subtract. Sums taken out of sums ([`Sums::without`]) tell more, as the sizes of what is left are then known.
impl Sub for Estimate {
    type Output = Self;

    fn sub(self, part: Self) -> Self {
        let variance = (self.variance - part.variance).max(0.0);
        Self {
            value: (self.value - part.value).max(0.0),
            variance,
            samples: self.samples.saturating_sub(part.samples),
            seen: self.seen.saturating_sub(part.seen),
            skew: self.growth(self.skew) * variance,
            skew_up: self.growth(self.skew_up) * variance,
            step: self.step,
            is_bound: self.is_bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use heaptrace_common::sampling::gap;

    const KIB: u64 = 1 << 10;
    const RUNS: u64 = 2000;

    /// SplitMix64.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            mixed ^ (mixed >> 31)
        }
    }

    /// As the BPF side does it, on two CPUs that the program changes between.
    struct Sampler {
        random: Random,
        mean: u64,
        countdowns: [i64; 2],
        allocations: usize,
    }

    impl Sampler {
        fn new(mean: u64, seed: u64) -> Self {
            let mut random = Random(seed.wrapping_mul(0xD6E8_FEB8_6659_FD93));
            let countdowns = std::array::from_fn(|_| gap(random.next(), mean) as i64);
            Self { random, mean, countdowns, allocations: 0 }
        }

        fn takes(&mut self, size: u64) -> bool {
            self.allocations += 1;
            let countdown = &mut self.countdowns[self.allocations / 50 % 2];
            *countdown -= size.max(1) as i64;
            let taken = *countdown <= 0;
            if taken {
                *countdown = gap(self.random.next(), self.mean) as i64;
            }
            taken
        }
    }

    fn chance(size: u64, mean: u64) -> f64 {
        -(-(size as f64) / mean as f64).exp_m1()
    }

    /// How many of 100 intervals hold the truth.
    #[derive(Default)]
    struct Coverage {
        held: u64,
        of: u64,
    }

    impl Coverage {
        fn note(&mut self, estimate: &Estimate, truth: u64) {
            let (from, to) = estimate.interval95();
            assert!(from >= estimate.seen && from <= to);
            self.held += u64::from((from..=to).contains(&truth));
            self.of += 1;
        }

        fn percent(&self) -> f64 {
            100.0 * self.held as f64 / self.of as f64
        }

        fn is_nominal(&self) -> bool {
            (93.0..=97.0).contains(&self.percent())
        }
    }

    /// Bytes and blocks of a site that makes these sizes in turn, until so many samples are to be expected.
    fn covered(mean: u64, sizes: &[u64], expected: f64) -> [Coverage; 2] {
        let of_turn: f64 = sizes.iter().map(|size| chance(*size, mean)).sum();
        let blocks = (expected * sizes.len() as f64 / of_turn).round() as usize;
        let mut covered = [Coverage::default(), Coverage::default()];
        // As many as are quickly made.
        let runs = (10_000_000 / blocks as u64).clamp(1000, 4000);
        for run in 0..runs {
            let mut sampler = Sampler::new(mean, run);
            let phase = sampler.random.next() as usize % sizes.len();
            let (mut sums, mut bytes) = (Sums::default(), 0);
            for size in sizes.iter().cycle().skip(phase).take(blocks) {
                bytes += size;
                if sampler.takes(*size) {
                    sums = sums.with(Sums::of(*size, mean));
                }
            }
            covered[0].note(&Estimate::bytes(&sums, Apart::chosen(mean)), bytes);
            covered[1].note(&Estimate::count(&sums, Apart::chosen(mean)), blocks as u64);
        }
        covered
    }

    /// The same of samples that an allocator takes, one for each boundary in a block, of which there is one in `interval` bytes.
    fn covered_by_own(unit: u64, interval: u64, sizes: &[u64], expected: f64) -> [Coverage; 2] {
        let of_turn: u64 = sizes.iter().sum();
        let turns = (expected * interval as f64 / of_turn as f64).ceil() as u64;
        let (bytes, blocks) = (turns * of_turn, turns * sizes.len() as u64);
        let apart = Apart { unit, own: Some(interval) };
        let mut covered = [Coverage::default(), Coverage::default()];
        for run in 0..RUNS {
            let mut random = Random(run.wrapping_mul(0xD6E8_FEB8_6659_FD93) ^ interval);
            let mut sums = Sums::default();
            let (mut at, mut next) = (0_u64, gap(random.next(), interval));
            while next <= bytes {
                // Turns without a boundary are passed over.
                at += (next - 1 - at) / of_turn * of_turn;
                for size in sizes {
                    let mut samples = 0;
                    while next <= at + size {
                        samples += 1;
                        next += gap(random.next(), interval);
                    }
                    if samples > 0 {
                        sums = sums.with(Sums::given(*size, samples * interval, unit));
                    }
                    at += size;
                }
            }
            covered[0].note(&Estimate::bytes(&sums, apart), bytes);
            covered[1].note(&Estimate::count(&sums, apart), blocks);
        }
        covered
    }

    #[test]
    fn intervals_of_samples_that_allocators_take_hold_wherever_they_lie() {
        for (unit, interval) in [(512 * KIB, 64 * KIB), (512 * KIB, 512 * KIB), (32 * KIB, 512 * KIB)] {
            for sizes in [&[64][..], &[1000, 3000, 200], &[100 * KIB]] {
                let [bytes, count] = covered_by_own(unit, interval, sizes, 200.0);
                for (what, of) in [("bytes", &bytes), ("blocks", &count)] {
                    let percent = of.percent();
                    assert!(
                        (92.0..=98.5).contains(&percent),
                        "{what} of {sizes:?}, one in {interval} in units of {unit}: {percent} of 100"
                    );
                }
            }
        }
    }

    /// What is to be expected of the intervals of a case.
    #[derive(Clone, Copy)]
    enum Holds {
        /// 93 to 97 of 100.
        Nominal,
        /// More: of the few outcomes that are possible one or two make up most, and an interval allows for small blocks where
        /// there are none.
        More,
        /// At least so many: samples of the smallest blocks, which most of the count is, are too few or none.
        Fewer(f64),
    }
    use Holds::{Fewer, More, Nominal};

    type Case = (&'static str, u64, &'static [u64], [(f64, Holds, Holds); 5]);

    const CASES: [Case; 10] = [
        (
            "small, of one size",
            KIB,
            &[48],
            [
                (3.0, More, More),
                (10.0, Nominal, Nominal),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "small",
            KIB,
            &[16, 24, 33, 48, 64, 100, 200],
            [
                (3.0, More, Fewer(85.0)),
                (10.0, Nominal, Fewer(90.0)),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "around the mean",
            4 * KIB,
            &[2 * KIB, 4 * KIB, 6 * KIB, 8 * KIB],
            [
                (3.0, More, More),
                (10.0, More, More),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "4 means",
            4 * KIB,
            &[16 * KIB],
            [
                (3.0, More, More),
                (10.0, More, More),
                (30.0, More, More),
                (100.0, Nominal, More),
                (1000.0, Nominal, More),
            ],
        ),
        (
            "above 4 means",
            4 * KIB,
            &[18 * KIB, 24 * KIB, 36 * KIB],
            [
                (3.0, More, More),
                (10.0, More, More),
                (30.0, More, More),
                (100.0, More, More),
                (1000.0, Nominal, More),
            ],
        ),
        (
            "every seventh large",
            16 * KIB,
            &[1100, 1500, 2000, 2500, 3000, 2000, 64 * KIB],
            [
                (3.0, Nominal, Fewer(65.0)),
                (10.0, More, Nominal),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "every seventh large, the mean half a turn",
            (64 * KIB + 12_100) / 2,
            &[1100, 1500, 2000, 2500, 3000, 2000, 64 * KIB],
            [
                (3.0, Nominal, Fewer(50.0)),
                (10.0, Nominal, Fewer(89.0)),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "every seventh large, the mean a turn",
            64 * KIB + 12_100,
            &[1100, 1500, 2000, 2500, 3000, 2000, 64 * KIB],
            [
                (3.0, Nominal, Fewer(40.0)),
                (10.0, Nominal, Fewer(83.0)),
                (30.0, Nominal, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "every seventh far larger",
            4 * KIB,
            &[64, 100, 200, 300, 64, 100, 64 * KIB],
            [
                (3.0, Fewer(88.0), Fewer(35.0)),
                (10.0, More, Fewer(75.0)),
                (30.0, More, Nominal),
                (100.0, Nominal, Nominal),
                (1000.0, Nominal, Nominal),
            ],
        ),
        (
            "every seventh far larger, and as large as the mean",
            64 * KIB,
            &[64, 100, 200, 300, 64, 100, 64 * KIB],
            [
                (3.0, More, Fewer(0.0)),
                (10.0, More, Fewer(8.0)),
                (30.0, Nominal, Fewer(35.0)),
                (100.0, Nominal, Fewer(78.0)),
                (1000.0, Nominal, More),
            ],
        ),
    ];

    #[test]
    fn intervals_hold_the_truth_in_95_cases_of_100() {
        let mut wrong = Vec::new();
        for (name, mean, sizes, cases) in CASES {
            for (expected, bytes, count) in cases {
                let covered = covered(mean, sizes, expected);
                for (what, holds, covered) in [("bytes", bytes, &covered[0]), ("count", count, &covered[1])] {
                    let right = match holds {
                        Nominal => covered.is_nominal(),
                        More => covered.percent() >= 95.0,
                        Fewer(least) => (least..97.0).contains(&covered.percent()),
                    };
                    if !right {
                        wrong.push(format!("{name} {expected} {what}: {}", covered.percent()));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// Of ten sites that free two of three blocks: what each has left, and all.
    #[test]
    fn intervals_of_what_is_left_and_of_totals_hold_the_truth() {
        const MEAN: u64 = 4 * KIB;
        let (mut left, mut subtracted, mut all) =
            (<[Coverage; 2]>::default(), <[Coverage; 2]>::default(), <[Coverage; 2]>::default());
        for run in 0..RUNS {
            let mut sampler = Sampler::new(MEAN, run);
            let mut sites = [(Sums::default(), Sums::default(), 0, 0); 10];
            for n in 0..9000 {
                let (site, size) = (n % 10, 40 + 97 * (n as u64 % 10));
                let (allocated, freed, bytes, blocks) = &mut sites[site];
                let taken = if sampler.takes(size) { Sums::of(size, MEAN) } else { Sums::default() };
                *allocated = allocated.with(taken);
                if n / 10 % 3 == 0 {
                    *bytes += size;
                    *blocks += 1;
                } else {
                    *freed = freed.with(taken);
                }
            }
            for (what, of) in [Estimate::bytes, Estimate::count].iter().enumerate() {
                let truth = |(_, _, bytes, blocks): &(Sums, Sums, u64, u64)| [*bytes, *blocks][what];
                let (allocated, freed, ..) = &sites[9];
                left[what].note(&of(&allocated.without(*freed), Apart::chosen(MEAN)), truth(&sites[9]));
                subtracted[what].note(
                    &(of(allocated, Apart::chosen(MEAN)) - of(freed, Apart::chosen(MEAN))),
                    truth(&sites[9]),
                );
                let total: Estimate = sites
                    .iter()
                    .map(|(allocated, freed, ..)| of(&allocated.without(*freed), Apart::chosen(MEAN)))
                    .fold(Estimate::default(), Estimate::add);
                all[what].note(&total, sites.iter().map(truth).sum());
            }
        }
        for coverage in left.iter().chain(&subtracted).chain(&all) {
            assert!(coverage.is_nominal(), "{}", coverage.percent());
        }
    }

    /// A loop that makes seven blocks at one site and one at another, 6.9 times the bytes. With a fixed step of 24,150 bytes
    /// the fourth of the seven is taken, then the other site's, and so on for ever.
    #[test]
    fn a_program_in_step_is_told_right_where_a_fixed_step_is_wrong() {
        const STEP: u64 = 24_150;
        const TURNS: u64 = 400;
        let sizes = [6900, 6900, 6900, 6900, 6900, 6900, 6900, 7000];
        let site = |place: usize| usize::from(place == 7);

        let (mut countdown, mut fixed) = (STEP as i64, [0_u64; 2]);
        let (mut covered, mut ratios) = (<[Coverage; 2]>::default(), Vec::new());
        for _ in 0..TURNS {
            for (place, size) in sizes.iter().enumerate() {
                countdown -= *size;
                if countdown <= 0 {
                    countdown = STEP as i64;
                    fixed[site(place)] += STEP;
                }
            }
        }
        for run in 0..RUNS {
            let mut sampler = Sampler::new(STEP, run);
            let mut sums = [Sums::default(); 2];
            for _ in 0..TURNS {
                for (place, size) in sizes.iter().enumerate() {
                    if sampler.takes(*size as u64) {
                        sums[site(place)] = sums[site(place)].with(Sums::of(*size as u64, STEP));
                    }
                }
            }
            let estimates = sums.map(|sums| Estimate::bytes(&sums, Apart::chosen(STEP)));
            covered[0].note(&estimates[0], TURNS * 7 * 6900);
            covered[1].note(&estimates[1], TURNS * 7000);
            ratios.push(estimates[0].value / estimates[1].value);
        }
        assert!(covered.iter().all(Coverage::is_nominal), "{:?}", covered.map(|of| of.percent()));
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2];
        assert!((6.7..7.1).contains(&median), "{median}");

        let ratio = fixed[0] as f64 / fixed[1] as f64;
        assert!((0.9..1.2).contains(&ratio), "{ratio}");
        let is_within = |ratio: &&f64| **ratio < 1.2;
        assert_eq!(ratios.iter().filter(is_within).count(), 0);
    }

    #[test]
    fn without_samples_there_may_be_almost_4_means() {
        let none = Sums::default();
        assert_eq!(Estimate::bytes(&none, Apart::chosen(10_000)).interval95(), (0, 38_415));
        let site = Sums::of(1000, 10_000);
        let left =
            Estimate::count(&site, Apart::chosen(10_000)) - Estimate::count(&site, Apart::chosen(10_000));
        assert_eq!((left.value, left.variance, left.interval95()), (0.0, 0.0, (0, 39)));
    }

    #[test]
    fn a_bound_says_nothing_of_how_little_there_is() {
        let sums = Sums::of(9001, 4096);
        let (exact, bound) = (
            Estimate::bytes(&sums, Apart::chosen(4096)),
            Estimate::bytes(&sums, Apart::chosen(4096)).as_bound(),
        );
        assert_eq!(bound.interval95(), (0, exact.interval95().1));
        assert_eq!((exact + bound).interval95().0, 0);
    }

    #[test]
    fn what_was_seen_is_there() {
        let sums = (0..3).fold(Sums::default(), |sums, _| sums.with(Sums::of(9001, 4096)));
        assert_eq!(Estimate::bytes(&sums, Apart::chosen(4096)).interval95().0, 3 * 9001);
        assert_eq!(Estimate::count(&sums, Apart::chosen(4096)).interval95().0, 3);
    }

    #[test]
    fn a_variance_that_has_overflowed_is_replaced() {
        let one = Sums::of(16, 1 << 20);
        let mut sums = (0..1000).fold(Sums::default(), |sums, _| sums.with(one));
        let right = Estimate::count(&sums, Apart::chosen(1 << 20));
        sums.weights.count_variance = 7;
        let replaced = Estimate::count(&sums, Apart::chosen(1 << 20));
        assert!((replaced.variance / right.variance - 1.0).abs() < 0.001);
    }
}
