//! Poisson sampling by bytes: how many bytes pass until the next sample, and what a sample stands for.
//!
//! A countdown of bytes falls by the size of every allocation, at least by 1. The one that brings it to 0 or below is taken,
//! and the countdown starts again with a fresh [`gap`], whatever was left over. Gaps are exponential and so know nothing of
//! what came before: each allocation is taken with `p = 1 - exp(-size / mean)`, independently of all others, and a program
//! that repeats itself cannot fall into step with it. A taken one stands for `1 / p` (Horvitz and Thompson, 1952).
//!
//! Integers only, as BPF has no floats. The tables are made when the crate is compiled.

/// The smallest mean.
pub const MIN_MEAN: u64 = 1 << 10;

/// The largest mean. A larger one overflows [`gap`] and [`weights`], which therefore take it for this one.
pub const MAX_MEAN: u64 = 64 << 20;

/// Fraction bits of [`Weights::count`]: 4 * 10^15 allocations fit a sum.
pub const COUNT_BITS: u32 = 12;

/// [`Weights::bytes_variance`] is in units of `mean^2 / 2^22`. A sample has 2^22 of them or fewer (the tables'
/// errors add 200 at most): 4 * 10^12 samples fit a sum.
pub const BYTES_VARIANCE_BITS: u32 = 22;

/// [`Weights::count_variance`] is in units of `mean / 2^28`. What an allocation adds to a sum is `2^28 / size` of them on
/// average, whatever the mean: `2^36 * size` allocations of one size fit, a million a second of 16 bytes for 12 days. The
/// price is coarse units under a large mean: with 64 MiB one is 1/4, and a block of 192 MiB (exact: 1/18) has none.
///
/// Whether a sum has overflowed can be seen: of `n` samples with counts that come to `c` it is at least `c^2 / n - c`, and
/// no more than that if they are of one size.
pub const COUNT_VARIANCE_BITS: u32 = 28;

/// From so many means on an allocation is taken for certain: one in 9 million of these is not.
pub const CERTAIN_MEANS_BITS: u32 = 4;

/// Steps of the table of logarithms. Interpolated between, they are right to 1 in 2,000 where it matters most, just below 1.
const LOG_STEPS: usize = 1 << 10;
const LOG_BITS: u32 = 32;

/// `ln(1 + step / LOG_STEPS)`, the end included. [`LOG_BITS`] fraction bits.
static LOG: [u32; LOG_STEPS + 1] = log_table();

/// Steps of [`UNSEEN`] to a mean, and in all.
const UNSEEN_STEPS_BITS: u32 = 5;
const UNSEEN_STEPS: usize = 1 << (UNSEEN_STEPS_BITS + CERTAIN_MEANS_BITS);
const UNSEEN_BITS: u32 = 31;

/// Means that a sample of `x` means stands for besides itself, `x / (exp(x) - 1)`, the end included. [`UNSEEN_BITS`] fraction
/// bits.
static UNSEEN: [u32; UNSEEN_STEPS + 1] = unseen_table();

/// What a sample stands for. The same size and mean always give the same, so what an allocation has added to a sum can be
/// taken out again when it is freed.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// `size / p`, in bytes; never less than the size.
    pub bytes: u64,
    /// `1 / p`, with [`COUNT_BITS`] fraction bits; never less than 1.
    pub count: u64,
    /// `size^2 * (1 - p) / p^2`: sums of it estimate the variance of sums of `bytes` without bias. For the unit see
    /// [`BYTES_VARIANCE_BITS`].
    pub bytes_variance: u64,
    /// `(1 - p) / p^2`, the same of `count`; see [`COUNT_VARIANCE_BITS`].
    pub count_variance: u64,
}

/// Bytes until the next sample: an exponential draw rounded up, so 1 at least. `random` is uniform over all its 64 bits; 32
/// would not do, as with 64 MiB just 64 of all 2^32 numbers would take an allocation of one byte. The larger `random`, the
/// smaller the gap.
#[inline(always)]
pub const fn gap(random: u64, mean: u64) -> u64 {
    const MANTISSA_BITS: u32 = u64::BITS - 1;
    /// Of the place between two steps of the table: the product with their difference, 22 bits, fits 64.
    const PART_BITS: u32 = 40;
    /// Of the logarithm. An allocation of one byte under the largest mean is 2^18 of these.
    const NATS_BITS: u32 = 44;
    /// What does not fit 64 bits when multiplied by the mean is multiplied in two parts.
    const LOW_BITS: u32 = 20;
    const BYTES_BITS: u32 = NATS_BITS - LOW_BITS;

    let mean = within(mean);
    // 0 has no logarithm.
    let (mantissa, zeros) = normalized(random | 1);
    let step_shift = MANTISSA_BITS - LOG_STEPS.ilog2();
    let step = (mantissa >> step_shift) as usize & (LOG_STEPS - 1);
    let part = mantissa >> (step_shift - PART_BITS) & ((1 << PART_BITS) - 1);
    let log = LOG[step] as u64;
    let rise = (LOG[step + 1] as u64).wrapping_sub(log);
    let log = (log << (NATS_BITS - LOG_BITS))
        .wrapping_add(rise.wrapping_mul(part) >> (PART_BITS + LOG_BITS - NATS_BITS));
    // The table's end: so that octaves meet, and numbers just below 1 lose nothing.
    let octave = (LOG[LOG_STEPS] as u64) << (NATS_BITS - LOG_BITS);
    let nats = octave.wrapping_mul(zeros + 1).wrapping_sub(log);

    let low = (nats & ((1 << LOW_BITS) - 1)).wrapping_mul(mean) >> LOW_BITS;
    let bytes = (nats >> LOW_BITS).wrapping_mul(mean).wrapping_add(low);
    if bytes == 0 { 1 } else { (bytes.wrapping_sub(1) >> BYTES_BITS) + 1 }
}

/// What a sample of `size` stands for, where `mean` bytes lie between samples.
#[inline(always)]
pub const fn weights(size: u64, mean: u64) -> Weights {
    /// Of the size in means.
    const MEANS_BITS: u32 = 32;
    const PART_BITS: u32 = MEANS_BITS - UNSEEN_STEPS_BITS;
    /// Of a variance in `mean^2`, which is at most 1, when multiplied by the mean.
    const SHARE_BITS: u32 = 32;

    let mean = within(mean);
    let counted = if size == 0 { 1 } else { size };
    if counted >= mean << CERTAIN_MEANS_BITS {
        return Weights { bytes: size, count: 1 << COUNT_BITS, bytes_variance: 0, count_variance: 0 };
    }
    let means = (counted << MEANS_BITS) / mean;
    let step = (means >> PART_BITS) as usize & (UNSEEN_STEPS - 1);
    let part = means & ((1 << PART_BITS) - 1);
    let unseen = UNSEEN[step] as u64;
    let fall = unseen.wrapping_sub(UNSEEN[step + 1] as u64);
    let unseen = unseen.wrapping_sub(fall.wrapping_mul(part) >> PART_BITS);
    let unseen_bytes = mean.wrapping_mul(unseen);

    let count = (unseen_bytes >> (UNSEEN_BITS - COUNT_BITS)).wrapping_add(counted / 2) / counted;
    // With x the size in means and d what is unseen: p = x / (x + d) and 1 - p = d / (x + d), so size^2 * (1 - p) / p^2 is
    // mean^2 * (x + d) * d. As exp(x) - 1 >= x * exp(x / 2), (x + d) * d is at most 1.
    let variance = (means >> (MEANS_BITS - UNSEEN_BITS)).wrapping_add(unseen).wrapping_mul(unseen);
    let share = variance >> (2 * UNSEEN_BITS - SHARE_BITS);
    let square = counted.wrapping_mul(counted);
    let count_variance =
        (mean.wrapping_mul(share) >> (SHARE_BITS - COUNT_VARIANCE_BITS)).wrapping_add(square / 2);
    // Not /, which would panic at 0: that there is none is not seen by every compiler.
    let count_variance = match count_variance.checked_div(square) {
        Some(variance) => variance,
        None => 0,
    };
    let (bytes, bytes_variance) = if size == 0 {
        (0, 0)
    } else {
        (
            size.wrapping_add(rounded(unseen_bytes, UNSEEN_BITS)),
            rounded(variance, 2 * UNSEEN_BITS - BYTES_VARIANCE_BITS),
        )
    };
    Weights { bytes, count: (1_u64 << COUNT_BITS).wrapping_add(count), bytes_variance, count_variance }
}

/// What a sample of `size` stands for that an allocator chose itself, which says that it is `bytes`: as often as a boundary lay in
/// the block, of which there is one in `mean` bytes on average, so many bytes.
///
/// Boundaries are a Poisson process, so the sum of `bytes` has the variance `mean` times what it estimates. Where boundaries lie
/// further apart, all variances are larger by as much, see [`given_scale`].
#[inline(always)]
pub const fn given_weights(size: u64, bytes: u64, mean: u64) -> Weights {
    /// Of a quotient.
    const BITS: u32 = 20;
    const MOST: u64 = (1 << (u64::BITS - BYTES_VARIANCE_BITS)) - 1;

    let mean = within(mean);
    let counted = if size == 0 { 1 } else { size };
    let bytes = if bytes > MOST { MOST } else { bytes };
    let bytes_variance = (bytes << BYTES_VARIANCE_BITS) / mean;
    // In bytes / size^2, as mean / 2^28 is the unit.
    const MOST_BLOCKS: u64 = (1 << (u64::BITS - (COUNT_VARIANCE_BITS - BITS))) - 1;
    let blocks = (bytes << BITS) / counted;
    let blocks = if blocks > MOST_BLOCKS { MOST_BLOCKS } else { blocks };
    let count_variance = (blocks << (COUNT_VARIANCE_BITS - BITS)) / counted;
    Weights { bytes, count: blocks >> (BITS - COUNT_BITS), bytes_variance, count_variance }
}

/// By what the variances of [`given_weights`] are to be multiplied where boundaries lie `interval` bytes apart.
pub fn given_scale(interval: u64, mean: u64) -> f64 {
    interval as f64 / within(mean) as f64
}

#[inline(always)]
const fn within(mean: u64) -> u64 {
    if mean < MIN_MEAN {
        MIN_MEAN
    } else if mean > MAX_MEAN {
        MAX_MEAN
    } else {
        mean
    }
}

#[inline(always)]
const fn rounded(value: u64, bits: u32) -> u64 {
    value.wrapping_add(1 << (bits - 1)) >> bits
}

/// A number other than 0 shifted up to the highest bit, and by how much.
#[inline(always)]
const fn normalized(number: u64) -> (u64, u64) {
    // A binary search: BPF has no count-leading-zeros instruction.
    let mut mantissa = number;
    let mut zeros = 0;
    if mantissa >> 32 == 0 {
        mantissa <<= 32;
        zeros += 32;
    }
    if mantissa >> 48 == 0 {
        mantissa <<= 16;
        zeros += 16;
    }
    if mantissa >> 56 == 0 {
        mantissa <<= 8;
        zeros += 8;
    }
    if mantissa >> 60 == 0 {
        mantissa <<= 4;
        zeros += 4;
    }
    if mantissa >> 62 == 0 {
        mantissa <<= 2;
        zeros += 2;
    }
    if mantissa >> 63 == 0 {
        mantissa <<= 1;
        zeros += 1;
    }
    (mantissa, zeros)
}

/// Only for [`LOG`]: floats are computed by the compiler.
const fn log_table() -> [u32; LOG_STEPS + 1] {
    let mut table = [0; LOG_STEPS + 1];
    let mut step = 0;
    while step <= LOG_STEPS {
        // ln((1 + y) / (1 - y)) = 2 * (y + y^3 / 3 + y^5 / 5 ...), with y up to 1/3.
        let y = step as f64 / (2 * LOG_STEPS + step) as f64;
        let (mut sum, mut power, mut n) = (0.0, y, 1);
        while n < 40 {
            sum += power / n as f64;
            power *= y * y;
            n += 2;
        }
        table[step] = (2.0 * sum * (1_u64 << LOG_BITS) as f64 + 0.5) as u32;
        step += 1;
    }
    table
}

/// Only for [`UNSEEN`].
const fn unseen_table() -> [u32; UNSEEN_STEPS + 1] {
    const STEP: f64 = 1.0 / (1_u64 << UNSEEN_STEPS_BITS) as f64;
    let (mut of_step, mut term, mut n) = (1.0, 1.0, 1);
    while n < 12 {
        term *= STEP / n as f64;
        of_step += term;
        n += 1;
    }
    let mut table = [1 << UNSEEN_BITS; UNSEEN_STEPS + 1];
    let (mut exponential, mut step) = (1.0, 1);
    while step <= UNSEEN_STEPS {
        exponential *= of_step;
        let unseen = step as f64 * STEP / (exponential - 1.0);
        table[step] = (unseen * (1_u64 << UNSEEN_BITS) as f64 + 0.5) as u32;
        step += 1;
    }
    table
}

const _: () = assert!(LOG_STEPS.is_power_of_two() && UNSEEN_STEPS.is_power_of_two());

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    const MEANS: [u64; 11] =
        [MIN_MEAN, 1_025, 1_999, 4_096, 10_007, 65_536, 524_288, 777_777, 1 << 20, MAX_MEAN - 1, MAX_MEAN];

    /// All up to 300, then denser than the tables.
    fn sizes(end: u64) -> impl Iterator<Item = u64> {
        let grown = std::iter::successors(Some(300_u64), |size| Some(size + size / 150 + 1));
        (1..300).chain(grown.take_while(move |size| *size < end)).chain([end])
    }

    fn chance(size: u64, mean: u64) -> f64 {
        -(-(size.max(1) as f64) / mean as f64).exp_m1()
    }

    /// How many of all 2^64 numbers give a gap of more than `size`.
    fn numbers_beyond(size: u64, mean: u64) -> u64 {
        let (mut beyond, mut within) = (0_u64, u64::MAX);
        while beyond < within {
            let middle = beyond + (within - beyond) / 2;
            if gap(middle, mean) > size { beyond = middle + 1 } else { within = middle }
        }
        beyond
    }

    /// Exactly, as the larger number gives the smaller gap.
    fn counted_chance(size: u64, mean: u64) -> f64 {
        (u64::MAX - numbers_beyond(size, mean)) as f64 / u64::MAX as f64
    }

    fn off(value: f64, exact: f64) -> f64 {
        (value / exact - 1.0).abs()
    }

    #[test]
    fn the_tables_are_the_functions() {
        for (step, log) in LOG.iter().enumerate() {
            let exact = (step as f64 / LOG_STEPS as f64).ln_1p() * 2_f64.powi(LOG_BITS as i32);
            assert!((f64::from(*log) - exact).abs() < 0.51, "{step}");
        }
        for (step, unseen) in UNSEEN.iter().enumerate().skip(1) {
            let means = step as f64 / f64::from(1 << UNSEEN_STEPS_BITS);
            let exact = means / means.exp_m1() * 2_f64.powi(UNSEEN_BITS as i32);
            assert!((f64::from(*unseen) - exact).abs() < 0.51, "{step}");
        }
    }

    #[test]
    fn a_larger_number_never_gives_a_larger_gap() {
        for mean in MEANS {
            let mut last = gap(0, mean);
            assert!(last < 45 * mean);
            // Around every power of two and every step of the table in its octave, and between.
            for octave in 0..u64::BITS {
                for step in 0..LOG_STEPS as u64 {
                    let start = (1 << octave) + (u128::from(step) << octave >> LOG_STEPS.ilog2()) as u64;
                    for number in [start.saturating_sub(1), start, start + (1_u64 << octave >> 11)] {
                        let gap = gap(number, mean);
                        assert!(gap <= last || number < start, "{number} {mean}");
                        last = gap;
                    }
                }
            }
            assert_eq!(gap(u64::MAX, mean), 1);
        }
    }

    #[test]
    fn the_chance_of_being_taken_is_exponential_in_the_size() {
        for mean in MEANS {
            for size in sizes(20 * mean) {
                let off = off(counted_chance(size, mean), chance(size, mean));
                assert!(off < 0.0005, "{size} {mean}: {off}");
            }
        }
    }

    /// Or else what came before would matter.
    #[test]
    fn the_chance_is_the_same_however_far_the_countdown_has_come() {
        for mean in MEANS {
            for passed in sizes(10 * mean).step_by(17) {
                let beyond = numbers_beyond(passed, mean);
                for size in [1, 7, 16, 100, mean / 100, mean / 3, mean, 5 * mean] {
                    let taken = beyond - numbers_beyond(passed + size, mean);
                    let off = off(taken as f64 / beyond as f64, chance(size, mean));
                    assert!(off < 0.0005, "{size} after {passed} {mean}: {off}");
                }
            }
        }
    }

    #[test]
    fn gaps_have_the_mean_and_the_variance_asked_for() {
        for mean in MEANS {
            let steps = 1 << 18;
            let gaps: Vec<f64> =
                (0..steps).map(|n: u64| gap((2 * n + 1) << (u64::BITS - 19), mean) as f64).collect();
            let average = gaps.iter().sum::<f64>() / steps as f64;
            let variance = gaps.iter().map(|gap| (gap - average).powi(2)).sum::<f64>() / steps as f64;
            // Rounded up by half a byte on average.
            assert!(off(average - 0.5, mean as f64) < 0.001, "{mean}: {average}");
            assert!(off(variance.sqrt(), mean as f64) < 0.001, "{mean}: {variance}");
        }
    }

    #[test]
    fn samples_stand_for_all_allocations() {
        for mean in MEANS {
            for size in sizes(1 << 30) {
                let weights = weights(size, mean);
                let count = weights.count as f64 / f64::from(1 << COUNT_BITS);
                let by_formula = chance(size, mean);
                let as_taken = if size < 40 * mean { counted_chance(size, mean) } else { 1.0 };
                let offs = [
                    off(by_formula * weights.bytes as f64, size as f64),
                    off(by_formula * count, 1.0),
                    off(as_taken * weights.bytes as f64, size as f64),
                    off(as_taken * count, 1.0),
                ];
                assert!(offs[0] < 0.0006 && offs[1] < 0.0006, "{size} {mean}: {offs:?}");
                assert!(offs[2] < 0.001 && offs[3] < 0.001, "{size} {mean}: {offs:?}");
                assert!(weights.bytes >= size && weights.count >= 1 << COUNT_BITS);
            }
        }
    }

    #[test]
    fn variances_are_right_to_1_percent_or_to_half_a_unit() {
        for mean in MEANS {
            for size in sizes(16 * mean - 1) {
                let weights = weights(size, mean);
                let unseen = (-(size as f64) / mean as f64).exp();
                let exact = unseen / chance(size, mean).powi(2);
                let bytes = exact * (size as f64 / mean as f64).powi(2) * f64::from(1 << BYTES_VARIANCE_BITS);
                let count = exact * f64::from(1 << COUNT_VARIANCE_BITS) / mean as f64;
                assert!(off(weights.bytes_variance as f64, bytes) < 0.01, "{size} {mean}");
                let off_count = (weights.count_variance as f64 - count).abs();
                assert!(off_count < 0.51 + 0.001 * count, "{size} {mean}: {count}");
            }
        }
    }

    #[test]
    fn blocks_of_no_bytes_count_as_such() {
        let weights = weights(0, 4096);
        assert_eq!(weights, Weights { bytes: 0, bytes_variance: 0, ..super::weights(1, 4096) });
        assert_eq!(weights.count >> COUNT_BITS, 4096);
    }

    #[test]
    fn what_is_large_stands_for_itself_alone() {
        for mean in MEANS {
            for size in [16 * mean, 1 << 40, u64::MAX] {
                let alone = Weights { bytes: size, count: 1 << COUNT_BITS, ..Weights::default() };
                assert_eq!(weights(size, mean), alone);
            }
        }
    }

    #[test]
    fn a_mean_out_of_range_is_the_nearest_within() {
        for (mean, nearest) in [(0, MIN_MEAN), (u64::MAX, MAX_MEAN)] {
            assert_eq!(weights(100, mean), weights(100, nearest));
            assert_eq!(gap(1 << 60, mean), gap(1 << 60, nearest));
        }
    }

    /// What the units promise, of what adds most to a sum.
    #[test]
    fn sums_have_room() {
        for mean in MEANS {
            for size in [1, 2, 16, mean / 2] {
                let weights = weights(size, mean);
                let allocations = (u64::MAX as f64 / weights.count_variance as f64) / chance(size, mean);
                assert!(allocations > 0.999 * 2_f64.powi(36) * size as f64, "{size} {mean}: {allocations}");
                assert!(weights.bytes_variance <= (1 << BYTES_VARIANCE_BITS) + 200);
            }
        }
    }

    /// Blocks among which boundaries lie as in a Poisson process: what their samples come to is right on average, and as far off
    /// as the variances say.
    #[test]
    fn what_an_allocator_says_is_right_on_average() {
        const INTERVAL: u64 = 1 << 16;
        let mut random = 1_u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mixed = (random ^ random >> 29).wrapping_mul(0xD6E8_FEB8_6659_FD93);
            ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
        };
        for mean in [MIN_MEAN, 1 << 16, 512 << 10] {
            for size in [24_u64, 4_000, 200_000] {
                let (runs, blocks) = (400, 40_000_000 / size);
                let truth = [(blocks * size) as f64, blocks as f64];
                let mut off = [0.0; 2];
                let mut squares = [0.0; 2];
                let mut variances = [0.0; 2];
                for _ in 0..runs {
                    let mut next = 0.0;
                    let mut sums = [0_u64; 4];
                    next -= uniform().ln() * INTERVAL as f64;
                    while next < truth[0] {
                        // The block that the boundary lies in, and all others in it.
                        let end = ((next / size as f64).floor() + 1.0) * size as f64;
                        let mut samples = 0;
                        while next < end {
                            samples += 1;
                            next -= uniform().ln() * INTERVAL as f64;
                        }
                        let weights = given_weights(size, samples * INTERVAL, mean);
                        sums[0] += weights.bytes;
                        sums[1] += weights.count;
                        sums[2] += weights.bytes_variance;
                        sums[3] += weights.count_variance;
                    }
                    let scale = given_scale(INTERVAL, mean);
                    let mean = mean as f64;
                    let estimates = [sums[0] as f64, sums[1] as f64 / (1 << COUNT_BITS) as f64];
                    let of_run = [
                        sums[2] as f64 * mean * mean / (1 << BYTES_VARIANCE_BITS) as f64,
                        sums[3] as f64 * mean / (1 << COUNT_VARIANCE_BITS) as f64,
                    ];
                    let of_run = of_run.map(|variance| variance * scale);
                    for n in 0..2 {
                        off[n] += (estimates[n] - truth[n]) / f64::from(runs);
                        squares[n] += (estimates[n] - truth[n]).powi(2) / f64::from(runs);
                        variances[n] += of_run[n] / f64::from(runs);
                    }
                }
                for n in 0..2 {
                    let sure = 4.0 * (squares[n] / f64::from(runs)).sqrt();
                    assert!(off[n].abs() < sure, "{mean}, {size}: off by {} of {}", off[n], truth[n]);
                    let ratio = variances[n] / squares[n];
                    assert!(
                        (0.7..1.4).contains(&ratio),
                        "{mean}, {size}: variance is {ratio} of what it was"
                    );
                }
            }
        }
    }
}
