//! What is traced, and so what it costs.

use super::{headings::WHAT, report::parse_bytes};
use crate::{
    error::Usage,
    model::{Mode, Sampling},
};
use clap::{Args, ValueEnum};
use heaptrace_common::sampling::{MAX_MEAN, MIN_MEAN};

/// What is traced, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trace {
    /// Calls that map memory (brk, mmap, munmap, mremap), by stack. Nothing is probed, and no allocation costs anything.
    Growth,
    /// The same, and page faults: who makes memory resident. A page that is touched first costs about a microsecond.
    Faults,
    /// Blocks chosen by chance, the likelier the larger, and estimates with what they may be off. An allocation costs one trap,
    /// a free nothing (see --frees).
    Sampled,
    /// Every allocation, and no free: exact totals of who allocates. An allocation costs a trap and a walk, a free nothing.
    Allocs,
    /// Every block, from its allocation to its free [default].
    Exact,
}

/// `--trace`, and what belongs to it.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = WHAT)]
pub struct TraceArgs {
    /// What to trace: the fewer probes, the less it costs.
    #[arg(long, value_name = "MODE", value_enum)]
    pub trace: Option<Trace>,
    /// Sample: one block in so many bytes is taken, on average, 1KiB to 64MiB (--trace sampled) [default: 512KiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub sample: Option<u64>,
    /// Sample frees, too: what is live is estimated rather than bounded, and a free costs a trap (--trace sampled).
    #[arg(long)]
    pub frees: bool,
}

/// Where nobody says how many.
pub(super) const SAMPLE_BYTES: u64 = 512 << 10;

impl TraceArgs {
    /// # Errors
    /// If they contradict each other, or the number of bytes is out of range.
    pub fn mode(self) -> Result<Mode, Usage> {
        let Self { trace, sample, frees } = self;
        let is_sampled = sample.is_some() || frees;
        Ok(match trace {
            Some(Trace::Sampled) => Mode::Sampled(sampling(sample, frees)?),
            None if is_sampled => Mode::Sampled(sampling(sample, frees)?),
            Some(_) if is_sampled => {
                return Err(Usage("--sample and --frees belong to --trace sampled".to_owned()));
            }
            Some(Trace::Growth) => Mode::Growth,
            Some(Trace::Faults) => Mode::Faults,
            Some(Trace::Allocs) => Mode::Allocs,
            Some(Trace::Exact) | None => Mode::Exact,
        })
    }
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

    fn mode(line: &str) -> Result<Mode, String> {
        let words = ["x"].into_iter().chain(line.split_whitespace());
        let Line { args } = <Line as clap::Parser>::try_parse_from(words).expect("a good line");
        args.mode().map_err(|Usage(said)| said)
    }

    #[test]
    fn a_rate_means_sampling_and_goes_with_no_other_mode() {
        let sampled = |mean, frees| Ok(Mode::Sampled(Sampling { mean, frees }));
        assert_eq!(mode(""), Ok(Mode::Exact));
        assert_eq!(mode("--trace allocs"), Ok(Mode::Allocs));
        assert_eq!(mode("--trace sampled"), sampled(512 << 10, false));
        assert_eq!(mode("--sample 64k"), sampled(64 << 10, false));
        assert_eq!(mode("--frees"), sampled(512 << 10, true));
        for line in ["--trace allocs --sample 1m", "--trace exact --frees", "--sample 1", "--sample 1g"] {
            assert!(mode(line).is_err(), "{line}");
        }
    }
}
