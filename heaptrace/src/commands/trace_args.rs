//! What is traced, and so what it costs.

use super::{bytes::parse_bytes, headings::WHAT};
use crate::{
    budget::Growing,
    error::Usage,
    model::{Mode, Sampling},
    session::Limits,
    target::Target,
};
use clap::{Args, ValueEnum};
use heaptrace_common::sampling::{MAX_MEAN, MIN_MEAN};
use std::time::Duration;

/// What is traced, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// Calls that map memory (brk, mmap, munmap, mremap), by stack. Nothing is probed, and no allocation costs anything.
    Growth,
    /// The same, and page faults: who makes memory resident. A page that is touched first costs about a microsecond.
    Faults,
    /// Samples that the allocators choose themselves and tell of by USDT probes (otel_memory, ddheap), and estimates as of
    /// sampled: an allocation costs nothing, a sample a trap.
    Native,
    /// Blocks chosen by chance, the likelier the larger, and estimates with what they may be off. An allocation costs one trap,
    /// a free nothing (see --frees) [default for the whole machine, users and cgroups].
    Sampled,
    /// Every allocation, and no free: exact totals of who allocates. An allocation costs a trap and a walk, a free nothing.
    Allocs,
    /// Every block, from its allocation to its free [default for a command, and for processes that are named, without --budget and
    /// --when-growing].
    Exact,
}

/// `--trace`, and what belongs to it.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = WHAT)]
pub struct TraceArgs {
    /// What to trace: the fewer probes, the less it costs.
    #[arg(long, value_name = "MODE", value_enum)]
    pub trace: Option<Trace>,
    #[command(flatten)]
    pub cost: CostArgs,
    /// Trace only processes whose memory grows so fast, for as long as it does: 10MiB/min, or per s or h. Until then they are
    /// looked at from outside, without a probe (--trace sampled and allocs).
    #[arg(long, value_name = "RATE", value_parser = parse_growing)]
    pub when_growing: Option<Growing>,
}

/// How modes that cost less than every block are to be.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = WHAT)]
pub struct CostArgs {
    /// Sample: one block in so many bytes is taken, on average, 1KiB to 64MiB (--trace sampled) [default: 512KiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub sample: Option<u64>,
    /// Sample frees, too: what is live is estimated rather than bounded, and a free costs a trap (--trace sampled).
    #[arg(long)]
    pub frees: bool,
    /// Sample the allocation functions also of processes whose allocators tell of samples themselves (--trace sampled).
    #[arg(long)]
    pub no_native: bool,
    /// Let tracing take no more than this share of the processor time of what is traced: 0.1% to 50%, or none. Where it takes
    /// more, a process is traced for part of the time, and the report says which part (--trace sampled and allocs)
    /// [default: 10% where users and cgroups are sampled, else none].
    #[arg(long, value_name = "SHARE", value_parser = parse_budget)]
    pub budget: Option<Budget>,
}

/// What tracing may take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Of the processor time.
    Share(f64),
    Unlimited,
}

/// Where nobody says how many.
pub(super) const SAMPLE_BYTES: u64 = 512 << 10;

/// What tracing may take of what many processes do, where nobody says how much.
const SHARE_OF_MANY: f64 = 0.1;

/// What is traced, and within what limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tracing {
    pub mode: Mode,
    pub limits: Limits,
    /// Samples that allocators tell of go before.
    pub own_samples: bool,
    pub besides: Besides,
}

/// What is looked at beside totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Besides {
    /// Threads are told apart.
    pub threads: bool,
    /// Frees are looked into.
    pub frees: bool,
    /// How long blocks lived is counted.
    pub lifetimes: bool,
}

impl Tracing {
    /// Every block, whatever it costs.
    pub const EXACT: Self = Self {
        mode: Mode::Exact,
        limits: Limits { share: None, growing: None },
        own_samples: true,
        besides: Besides { threads: false, frees: false, lifetimes: false },
    };
}

impl TraceArgs {
    /// # Errors
    /// If they contradict each other, or the number of bytes is out of range.
    pub fn of(self, target: &Target) -> Result<Tracing, Usage> {
        let is_many = matches!(target, Target::All | Target::User { .. } | Target::Cgroup(_));
        let Self { cost: CostArgs { budget, no_native, .. }, when_growing, .. } = self;
        let is_limited = when_growing.is_some() || matches!(budget, Some(Budget::Share(_)));
        let mode = self.mode(is_many || is_limited)?;
        let goes_on = mode.has_blocks() && !mode.has_frees();
        if is_limited && !goes_on {
            let option = if when_growing.is_some() { "--when-growing" } else { "--budget" };
            let why = if mode.has_blocks() {
                "takes probes away for a while, in which frees would be missed, and blocks seem live that are not: it goes with \
                 --trace sampled (without --frees) and --trace allocs"
            } else {
                "is about probes, and --trace growth and faults place none"
            };
            return Err(Usage(format!("{option} {why}")));
        }
        // Probes for each process of a whole machine take long to place and to remove, and are not placed without being asked for.
        let by_default = matches!(target, Target::User { .. } | Target::Cgroup(_)) && goes_on;
        let share = match budget {
            Some(Budget::Share(share)) => Some(share),
            None if by_default => Some(SHARE_OF_MANY),
            Some(Budget::Unlimited) | None => None,
        };
        let limits = Limits { share, growing: when_growing };
        Ok(Tracing { mode, limits, own_samples: !no_native, besides: Besides::default() })
    }

    /// `cheap`: not every block, where nobody says what.
    fn mode(self, cheap: bool) -> Result<Mode, Usage> {
        let Self { trace, cost: CostArgs { sample, frees, no_native, .. }, .. } = self;
        let is_sampled = sample.is_some() || frees;
        Ok(match trace {
            Some(Trace::Native) if no_native => {
                return Err(Usage("--no-native leaves out what --trace native traces".to_owned()));
            }
            Some(Trace::Sampled) => Mode::Sampled(sampling(sample, frees)?),
            None if is_sampled || cheap => Mode::Sampled(sampling(sample, frees)?),
            Some(_) if is_sampled => {
                return Err(Usage("--sample and --frees belong to --trace sampled".to_owned()));
            }
            Some(Trace::Native) => Mode::Native,
            Some(Trace::Growth) => Mode::Growth,
            Some(Trace::Faults) => Mode::Faults,
            Some(Trace::Allocs) => Mode::Allocs,
            Some(Trace::Exact) | None => Mode::Exact,
        })
    }
}

/// `5%`, `5`, `0.5%`, or `none`.
fn parse_budget(text: &str) -> Result<Budget, String> {
    const PERCENT: std::ops::RangeInclusive<f64> = 0.1..=50.0;
    if text == "none" {
        return Ok(Budget::Unlimited);
    }
    let number = text.strip_suffix('%').unwrap_or(text).trim_end();
    let percent: f64 = number.parse().map_err(|_| "expected a share, as in 5%, or none".to_owned())?;
    if !PERCENT.contains(&percent) {
        return Err(format!("expected {}% to {}%, or none", PERCENT.start(), PERCENT.end()));
    }
    Ok(Budget::Share(percent / 100.0))
}

/// `10MiB/min`, `1G/h`, `200k/s`, `10MiB`.
fn parse_growing(text: &str) -> Result<Growing, String> {
    let (bytes, unit) = text.split_once('/').unwrap_or((text, "min"));
    let bytes = parse_bytes(bytes)?;
    // A second is too short to look at.
    let (times, seconds) = match unit {
        "s" => (10, 10),
        "m" | "min" => (1, 60),
        "h" => (1, 3600),
        unit => return Err(format!("unknown time {unit}; use s, min or h, as in 10MiB/min")),
    };
    let bytes = bytes.checked_mul(times).filter(|bytes| *bytes > 0);
    let bytes = bytes.ok_or_else(|| "expected a rate above 0, as in 10MiB/min".to_owned())?;
    Ok(Growing { bytes, within: Duration::from_secs(seconds) })
}

fn sampling(sample: Option<u64>, frees: bool) -> Result<Sampling, Usage> {
    let mean = sample.unwrap_or(SAMPLE_BYTES);
    if !(MIN_MEAN..=MAX_MEAN).contains(&mean) {
        return Err(Usage(format!(
            "--sample {mean} is out of range: it takes {} KiB to {} MiB",
            MIN_MEAN >> 10,
            MAX_MEAN >> 20
        )));
    }
    Ok(Sampling { mean, frees })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: TraceArgs,
    }

    fn tracing_of(target: &Target, line: &str) -> Result<Tracing, String> {
        let words = ["x"].into_iter().chain(line.split_whitespace());
        let line = <Line as clap::Parser>::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.of(target).map_err(|Usage(said)| said)
    }

    fn tracing(line: &str) -> Result<Tracing, String> {
        tracing_of(&Target::Pids(vec![1]), line)
    }

    fn mode(line: &str) -> Result<Mode, String> {
        tracing(line).map(|tracing| tracing.mode)
    }

    #[test]
    fn a_rate_means_sampling_and_goes_with_no_other_mode() {
        let sampled = |mean, frees| Ok(Mode::Sampled(Sampling { mean, frees }));
        assert_eq!(tracing(""), Ok(Tracing::EXACT));
        assert_eq!(mode("--trace allocs"), Ok(Mode::Allocs));
        assert_eq!(mode("--trace sampled"), sampled(512 << 10, false));
        assert_eq!(mode("--sample 64k"), sampled(64 << 10, false));
        assert_eq!(mode("--frees"), sampled(512 << 10, true));
        for line in ["--trace allocs --sample 1m", "--trace exact --frees", "--sample 1", "--sample 1g"] {
            assert!(mode(line).is_err(), "{line}");
        }
    }

    #[test]
    fn many_processes_are_sampled_if_nobody_says_otherwise() {
        let of_user = Target::User { name: "x".to_owned(), id: 1 };
        let sampled = |frees| Mode::Sampled(Sampling { mean: SAMPLE_BYTES, frees });
        let of = |mode, share| Tracing { mode, limits: Limits { share, growing: None }, ..Tracing::EXACT };
        for (target, share) in [(Target::All, None), (of_user, Some(0.1))] {
            let many = |line| tracing_of(&target, line).expect("a good line");
            assert_eq!(many(""), of(sampled(false), share));
            assert_eq!(many("--budget 5%"), of(sampled(false), Some(0.05)));
            assert_eq!(many("--budget none"), of(sampled(false), None));
            assert_eq!(many("--trace allocs"), of(Mode::Allocs, share));
            assert_eq!(many("--frees"), of(sampled(true), None));
            assert_eq!(many("--trace exact"), Tracing::EXACT);
            assert_eq!(many("--trace growth"), of(Mode::Growth, None));
        }
    }

    #[test]
    fn limits_go_with_modes_that_miss_no_frees() {
        let growing = |bytes, seconds| Some(Growing { bytes, within: Duration::from_secs(seconds) });
        let limits = |line| tracing(line).map(|tracing| (tracing.limits.share, tracing.limits.growing));
        assert_eq!(limits("--budget 0.5%"), Ok((Some(0.005), None)));
        assert_eq!(limits("--budget 50 --when-growing 1k"), Ok((Some(0.5), growing(1024, 60))));
        assert_eq!(limits("--when-growing 10MiB/min"), Ok((None, growing(10 << 20, 60))));
        assert_eq!(limits("--when-growing 1G/h --trace allocs"), Ok((None, growing(1 << 30, 3600))));
        assert_eq!(limits("--when-growing 100k/s"), Ok((None, growing(1_024_000, 10))));
        assert!(matches!(mode("--when-growing 1m"), Ok(Mode::Sampled(Sampling { frees: false, .. }))));
        for (line, said) in [
            ("--budget 5% --trace exact", "frees would be missed"),
            ("--when-growing 1m --frees", "frees would be missed"),
            ("--budget 5% --trace growth", "place none"),
            ("--budget 0", "expected 0.1% to 50%"),
            ("--budget 51%", "expected 0.1% to 50%"),
            ("--budget x", "as in 5%"),
            ("--when-growing 0/s", "above 0"),
            ("--when-growing 1m/d", "unknown time d"),
        ] {
            let error = tracing(line).expect_err(line);
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
