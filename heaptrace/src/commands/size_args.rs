//! How much memory the kernel's tables may take, and how it is divided.

use super::{
    bytes::parse_bytes, headings::LIMITS, outside::available_memory, stack_args::StackArgs,
    trace_args::Besides,
};
use crate::{
    bpf::{MapSizes, StackMode, UnwindSizes},
    error::Usage,
    model::Mode,
};
use clap::{Args, value_parser};

/// What tables may take where nobody says how much.
const MEMORY: u64 = 256 << 20;

/// Of a table.
const MOST_ENTRIES: u32 = 1 << 28;

/// As few live blocks and sites as samples have, where nobody says how many.
const SAMPLES: u32 = 1 << 16;
const SAMPLED_SITES: u32 = 1 << 17;

/// Sizes of the tables in the kernel. What finds no room is counted and reported.
#[derive(Debug, Args)]
#[command(next_help_heading = LIMITS)]
pub struct SizeArgs {
    /// Most kernel memory for tables, which begin small and grow [default: 256MiB, or half of what is available; more where one of
    /// the next options asks for it].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Most blocks live at once, all processes; more are lost and counted [default: 1048576, and but for stat what --memory leaves].
    #[arg(long, value_name = "N", value_parser = table_size())]
    pub max_live: Option<u32>,
    /// Most allocation sites (process, function and stack) [default: what --memory leaves]. Raise it, or --memory, if the
    /// report says `stack_map_full`.
    #[arg(long, value_name = "N", value_parser = table_size())]
    pub max_sites: Option<u32>,
    /// Processes at one time, and those that have just exited; an exec counts as a new one.
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().processes, value_parser = table_size())]
    pub max_processes: u32,
    /// Threads inside an allocation call at once (rounded up to a power of two).
    #[arg(long, value_name = "N", default_value_t = MapSizes::default().threads, value_parser = table_size())]
    pub max_threads: u32,
    /// Events (forks, execs, exits, mappings) waiting to be read [default: 18724; of leaks --trace growth 4 times, and of faults 16
    /// times as many, as each call or page fault is one].
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=1 << 24))]
    pub max_events: Option<u32>,
}

impl SizeArgs {
    /// The sizes of all tables, those for stacks among them if there are to be stacks.
    ///
    /// # Errors
    /// If the tables cannot be kept within the memory that was asked for.
    pub(super) fn tables(
        &self,
        stacks: Option<&StackArgs>,
        walks: StackMode,
        unwind: UnwindSizes,
        mode: Mode,
        besides: Besides,
    ) -> Result<MapSizes, Usage> {
        let Self { memory, max_live, max_sites, max_processes, max_threads, max_events } = *self;
        let is_sampled = mode.sample_bytes() != 0;
        let few = |of: u32, few: u32| if is_sampled { of.min(few) } else { of };
        let few_sites = (is_sampled && memory.is_none()).then_some(SAMPLED_SITES);
        // Without stacks there are no frames.
        let has_stacks = stacks.is_some() && walks != StackMode::None;
        let frames = match stacks {
            Some(stacks) if has_stacks => stacks.max_frames,
            _ => Some(1),
        };
        let sizes = MapSizes {
            live: max_live.unwrap_or(few(MapSizes::default().live, SAMPLES)),
            processes: max_processes,
            threads: max_threads,
            events: max_events.unwrap_or(MapSizes::default().events),
            statistics: stacks.is_none(),
            estimates: is_sampled,
            by_thread: besides.threads,
            checks_frees: besides.frees,
            lifetimes: besides.lifetimes,
            unwind,
            ..MapSizes::default()
        };
        let half = || available_memory().map_or(MEMORY, |available| available / 2);
        let most = memory.unwrap_or_else(|| MEMORY.min(half()));
        let may_grow = max_live.is_none() && mode != Mode::Native;
        let divided = |sites, frames| sizes.within(most, may_grow, sites, frames);
        let mut sizes = divided(max_sites.or(few_sites), frames);
        if memory.is_none() {
            // What was not named is no smaller for what was, and more sites have more frames.
            let plain = divided(few_sites, if has_stacks { None } else { frames });
            sizes.live_chunks = sizes.live_chunks.max(plain.live_chunks);
            if max_sites.is_none() {
                sizes.sites = sizes.sites.max(plain.sites);
            }
            if frames.is_none() {
                let scaled = u64::from(plain.frames) * u64::from(sizes.sites) / u64::from(plain.sites);
                sizes.frames = plain.frames.max(scaled.min(MOST_ENTRIES.into()) as u32);
                if sizes.memory_bytes().most > half() {
                    sizes.frames = plain.frames;
                }
            }
        }
        if !mode.has_blocks() {
            (sizes.live, sizes.live_chunks, sizes.threads) = (1, 0, 1);
        }
        match memory {
            Some(memory) if sizes.memory_bytes().most > memory => {
                let (parts, fixed) = parts(&sizes);
                Err(Usage(format!(
                    "the tables take at least {} MiB, and --memory allows {} MiB: {parts}, and {fixed} MiB are fixed; raise \
                     --memory, or lower one of these options",
                    sizes.memory_bytes().most.div_ceil(1 << 20),
                    memory >> 20,
                )))
            }
            _ => Ok(sizes),
        }
    }
}

/// What tables of these sizes are made of, by the option that makes each smaller, the largest first; and the MiB that none does.
fn parts(sizes: &MapSizes) -> (String, u64) {
    const SHOWN: u64 = 1 << 20;
    let unwind = sizes.unwind;
    let smaller = |unwind| MapSizes { unwind, ..*sizes };
    let without = [
        ("--max-live", MapSizes { live: 1, live_chunks: 0, ..*sizes }),
        ("--max-sites", MapSizes { sites: 1, ..*sizes }),
        ("--max-frames", MapSizes { frames: 1, ..*sizes }),
        ("--max-processes", MapSizes { processes: 1, ..*sizes }),
        ("--max-threads", MapSizes { threads: 1, ..*sizes }),
        ("--max-events", MapSizes { events: 1, ..*sizes }),
        ("--max-unwind-rows", smaller(UnwindSizes { row_shards: 1, ..unwind })),
        ("--max-unwind-code", smaller(UnwindSizes { page_shards: 1, ..unwind })),
        ("--max-unwind-lists", smaller(UnwindSizes { lists: 1, ..unwind })),
    ];
    let all = sizes.memory_bytes().most;
    let mut parts =
        without.map(|(option, without)| (option, all.saturating_sub(without.memory_bytes().most)));
    parts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    let shown = || parts.iter().filter(|(_, bytes)| *bytes >= SHOWN);
    let rest = all.saturating_sub(shown().map(|(_, bytes)| bytes).sum());
    let texts: Vec<String> =
        shown().map(|(option, bytes)| format!("{option} takes {} MiB", bytes.div_ceil(1 << 20))).collect();
    (texts.join(", "), rest >> 20)
}

fn table_size() -> clap::builder::RangedI64ValueParser<u32> {
    value_parser!(u32).range(1..=i64::from(MOST_ENTRIES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(line: &str) -> Result<MapSizes, Usage> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            sizes: SizeArgs,
            #[command(flatten)]
            stacks: StackArgs,
        }
        let Line { sizes, stacks } =
            <Line as clap::Parser>::try_parse_from(line.split(' ')).expect("a good line");
        sizes.tables(Some(&stacks), StackMode::Auto, UnwindSizes::default(), Mode::Exact, Besides::default())
    }

    #[test]
    fn what_is_not_set_takes_what_the_memory_leaves() {
        for memory in [128, 256, 300, 1024] {
            let sizes = tables(&format!("x --memory {memory}MiB")).expect("room");
            let most = sizes.memory_bytes().most;
            assert!(most <= memory << 20 && most > (memory << 20) * 3 / 5, "{memory}: {most}");
        }
    }

    #[test]
    fn what_is_set_stays() {
        let sizes = tables("x --max-sites 100 --max-frames 1000").expect("room");
        assert_eq!((sizes.sites, sizes.frames), (100, 1000));
        assert!(sizes.live_chunks > 0);
        let sizes = tables("x --max-live 100000 --memory 1GiB").expect("room");
        assert_eq!((sizes.live, sizes.live_chunks), (100_000, 0));
        let sizes = tables("x --max-sites 4000000").expect("more than the default, as it was asked for");
        assert_eq!(sizes.sites, 4_000_000);
        let refused = tables("x --memory 200MiB --max-sites 4000000").expect_err("too much");
        assert!(refused.to_string().contains("--memory allows 200 MiB"), "{refused}");
        let refused = tables("x --memory 64MiB").expect_err("too little").to_string();
        let live = refused.find("--max-live takes").expect("what takes most");
        assert!(refused.find("--max-unwind-rows takes").is_some_and(|rows| rows > live), "{refused}");
    }

    #[test]
    fn what_is_not_set_is_no_smaller_for_what_is() {
        let plain = tables("x").expect("room");
        let sizes = tables("x --max-sites 2000000").expect("room");
        assert!(sizes.live_chunks == plain.live_chunks && plain.live_chunks > 0);
        let a_site = |of: MapSizes| of.frames / of.sites;
        assert!(a_site(sizes) == a_site(plain) && a_site(plain) > 1, "{sizes:?} and {plain:?}");
        let sizes = tables("x --max-sites 100").expect("room");
        assert_eq!((sizes.sites, sizes.live_chunks), (100, plain.live_chunks));
        assert!(sizes.frames >= plain.frames);
        let sizes = tables("x --max-frames 67108864").expect("room");
        assert_eq!((sizes.frames, sizes.sites, sizes.live_chunks), (1 << 26, plain.sites, plain.live_chunks));
    }

    #[test]
    fn tables_begin_small() {
        let sizes = tables("x").expect("room");
        assert!(sizes.memory_bytes().first < 120_000_000, "{:?}", sizes.memory_bytes());
    }
}
