//! Arguments that all tracing commands share: which processes, and which of their blocks.

use super::{
    bytes::parse_bytes,
    headings::{LIMITS, OUTPUT, TARGETS, WHAT},
    size_args::SizeArgs,
    stack_args::{StackArgs, stack_options},
    trace_args::Tracing,
};
use crate::{
    bpf::{Calls, Members},
    error::{CannotTrace, Usage},
    model::{Mode, SizeFilter},
    process::procfs,
    session::SessionOptions,
    target::{Cgroup, Target, user_id},
};
use clap::{ArgGroup, Args, value_parser};
use std::{collections::HashSet, ffi::OsString, path::PathBuf, time::Duration};

/// Which processes to trace; one kind.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = TARGETS)]
#[group(skip)]
#[command(group(ArgGroup::new("target").required(true)))]
pub struct TargetArgs {
    /// Trace these PIDs (comma-separated) and their future children. A thread's number means its process.
    // The kernel's PID_MAX_LIMIT (include/linux/threads.h).
    #[arg(short, long, value_name = "PID", value_delimiter = ',',
        value_parser = value_parser!(u32).range(1..=1 << 22), group = "target")]
    pub pid: Vec<u32>,
    /// With -p: trace what runs below these processes, too (the workers of a prefork server).
    // clap does not insist on what another option excludes.
    #[arg(long, requires = "pid", conflicts_with_all = ["all", "comm", "user", "cgroup", "command"])]
    pub tree: bool,
    /// Trace every process on the machine.
    #[arg(short, long, group = "target")]
    pub all: bool,
    /// Trace the running processes with this name (as in /proc/PID/comm).
    #[arg(long, value_name = "NAME", group = "target")]
    pub comm: Option<String>,
    /// Trace all processes of this effective user, running and new.
    #[arg(long, value_name = "NAME|UID", group = "target")]
    pub user: Option<String>,
    /// Trace all processes in this cgroup (v2) or below it, running and new. The path is absolute, or relative to the
    /// mount point.
    #[arg(long, value_name = "PATH", group = "target")]
    pub cgroup: Option<PathBuf>,
    /// Start this command and trace it from its first instruction. What follows its name is its own; `--` before it is needed
    /// only where the name begins with a dash.
    #[arg(trailing_var_arg = true, value_name = "CMD", num_args = 1.., group = "target")]
    pub command: Vec<OsString>,
}

/// How to follow the targets, and until when.
#[derive(Debug, Args)]
pub struct FollowArgs {
    /// Stop after this time, e.g. 30s, 5m or 1h. The default is to stop on Ctrl-C or when all targets have exited.
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration, help_heading = LIMITS)]
    pub duration: Option<Duration>,
    /// Don't record mappings (saves about 70 ns per system call, machine-wide).
    #[arg(long, help_heading = WHAT)]
    pub no_growth: bool,
    /// Don't trace child processes.
    #[arg(long, help_heading = TARGETS, conflicts_with_all = ["all", "user", "cgroup"])]
    pub no_follow: bool,
    /// Miss none of a child's first allocations; slows every process that uses the same libc. The default for a started
    /// command.
    #[arg(long, help_heading = TARGETS, conflicts_with = "no_follow", overrides_with = "no_exact_children")]
    pub exact_children: bool,
    /// Don't slow other processes: children are traced from a few milliseconds after their fork. The report says how many.
    #[arg(long, help_heading = TARGETS, overrides_with = "exact_children")]
    pub no_exact_children: bool,
    /// Also probe programs and libraries that a FUSE server of another user gives: if it stops answering, no tracer of the machine
    /// can place or take away probes any more.
    #[arg(long, help_heading = TARGETS)]
    pub allow_fuse: bool,
    /// End the command (SIGTERM, and wait for it) when tracing ends before it does, by -d or Ctrl-C.
    #[arg(long, requires = "command", help_heading = LIMITS, conflicts_with_all = ["pid", "all", "comm", "user", "cgroup"])]
    pub kill: bool,
    /// Exit with the command's own code (128 + N if signal N killed it).
    #[arg(long, requires = "command", help_heading = OUTPUT)]
    pub propagate_exit: bool,
}

/// Which blocks to look at.
#[derive(Debug, Args)]
#[command(next_help_heading = WHAT)]
pub struct FilterArgs {
    /// Don't trace blocks smaller than this. Accepts the suffixes k, M and G (powers of 1024).
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub min_size: Option<u64>,
    /// Don't trace blocks larger than this.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub max_size: Option<u64>,
}

impl FollowArgs {
    /// A command's children are its own: whoever starts it wants to know what they do from the start.
    fn exact_children(&self, target: &Target) -> bool {
        let by_default = matches!(target, Target::Command(_)) && !self.no_follow && !self.no_exact_children;
        self.exact_children || by_default
    }
}

impl FilterArgs {
    fn sizes(&self) -> Result<Option<SizeFilter>, Usage> {
        match (self.min_size, self.max_size) {
            (None, None) => Ok(None),
            (min, max) => {
                let (min, max) = (min.unwrap_or(0), max.unwrap_or(u64::MAX));
                if min > max {
                    return Err(Usage(format!(
                        "no block has a size from {min} to {max}: --min-size is above --max-size"
                    )));
                }
                Ok(Some(SizeFilter { min, max }))
            }
        }
    }
}

impl TargetArgs {
    /// The target, where nobody need be named: then it is the whole machine.
    pub fn target_or_all(mut self) -> Result<Target, CannotTrace> {
        let Self { pid, tree: _, all: _, comm, user, cgroup, command } = &self;
        let named =
            !pid.is_empty() || comm.is_some() || user.is_some() || cgroup.is_some() || !command.is_empty();
        self.all |= !named;
        self.target()
    }

    /// # Errors
    /// If there is no such user or cgroup.
    pub(super) fn target(self) -> Result<Target, CannotTrace> {
        Ok(match self {
            Self { all: true, .. } => Target::All,
            Self { user: Some(name), .. } => match user_id(&name) {
                Some(id) => Target::User { name, id },
                None => return Err(CannotTrace(format!("there is no user {name}"))),
            },
            Self { cgroup: Some(path), .. } => {
                Target::Cgroup(Cgroup::find(&path).map_err(|error| CannotTrace(error.to_string()))?)
            }
            Self { comm: Some(comm), .. } => Target::Comm(comm),
            Self { pid, tree, .. } if !pid.is_empty() => {
                let mut seen = HashSet::new();
                let pids = pid.into_iter().map(process_of);
                let pids = pids.filter(|pid| seen.insert(*pid)).collect();
                if tree { Target::Tree(pids) } else { Target::Pids(pids) }
            }
            Self { command, .. } => Target::Command(command),
        })
    }
}

/// The process of thread `pid`: tools show threads' numbers beside PIDs.
pub(super) fn process_of(pid: u32) -> u32 {
    procfs::read_status(pid).ok().filter(|status| status.tgid != 0).map_or(pid, |status| status.tgid)
}

/// What a session is told that traces so. `stacks` is `None` where statistics are wanted in their place.
///
/// # Errors
/// If options contradict each other.
pub(super) fn session_options(
    target: &Target,
    follow: &FollowArgs,
    filter: &FilterArgs,
    sizes: &SizeArgs,
    stacks: Option<&StackArgs>,
    Tracing { mode, limits, own_samples, besides }: Tracing,
) -> Result<SessionOptions, Usage> {
    let (walks, unwind) = stack_options(stacks);
    let size_filter = filter.sizes()?;
    if !mode.has_blocks() {
        if follow.no_growth {
            return Err(Usage("--trace growth and faults trace what --no-growth leaves out".to_owned()));
        }
        if size_filter.is_some() {
            let what = "--min-size and --max-size choose blocks, and --trace growth and faults trace none";
            return Err(Usage(what.to_owned()));
        }
    }
    if mode == Mode::Native && size_filter.is_some() {
        let what = "--min-size and --max-size choose blocks, and with --trace native the allocators do";
        return Err(Usage(what.to_owned()));
    }
    if besides.frees && (mode != Mode::Exact || size_filter.is_some()) {
        let what = "--check-frees has to see every block: it goes with --trace exact, without --min-size and --max-size";
        return Err(Usage(what.to_owned()));
    }
    if besides.frees && limits.is_any() {
        let what =
            "--check-frees has to see every block, and --budget and --when-growing take probes away at times";
        return Err(Usage(what.to_owned()));
    }
    if besides.lifetimes && !mode.has_frees() {
        let what = "--lifetimes has to see frees: it goes with --trace exact and native, and with --frees";
        return Err(Usage(what.to_owned()));
    }
    if limits.is_any() && follow.exact_children {
        let what = "--exact-children has every process take traps, and --budget and --when-growing see to it that they do not";
        return Err(Usage(what.to_owned()));
    }
    Ok(SessionOptions {
        all: *target == Target::All,
        follow: !follow.no_follow,
        exact_children: mode.has_blocks() && !limits.is_any() && follow.exact_children(target),
        stacks: walks,
        sizes: sizes.tables(stacks, walks, unwind, mode, besides)?,
        growth: !follow.no_growth,
        faults: false,
        calls: Calls::Summed,
        mode,
        members: match target {
            Target::User { id, .. } => Some(Members::User(*id)),
            Target::Cgroup(cgroup) => Some(Members::Cgroup(cgroup.id)),
            _ => None,
        },
        size_filter,
        keep_old: None,
        limits,
        own_samples,
        served: follow.allow_fuse,
        log: false,
    })
}

/// `30`, `30s`, `500ms`, `5m`, `1h`; not 0.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_age(text).and_then(|time| if time.is_zero() { Err(out_of_range()) } else { Ok(time) })
}

fn out_of_range() -> String {
    format!("expected a time above 0 and below {} s", u32::MAX)
}

/// The same, and 0.
pub(super) fn parse_age(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "expected a time, as in 30s, 500ms, 5m or 1h".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1000.0,
        "" | "s" => number,
        "m" => number * 60.0,
        "h" => number * 3600.0,
        unit => return Err(format!("unknown unit {unit}; use ms, s, m or h")),
    };
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| time.as_secs() < u64::from(u32::MAX))
        .ok_or_else(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        target: TargetArgs,
        #[command(flatten)]
        follow: FollowArgs,
    }

    #[test]
    fn a_threads_number_means_its_process() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(rustix::thread::gettid().as_raw_nonzero().get()).expect("told");
            ended.recv().expect("an end");
        });
        let (tid, own) = (told.recv().expect("a thread"), std::process::id());
        let line = format!("record -p {tid},{own},{tid}");
        let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).expect("a good line");
        assert_eq!(line.target.target().expect("a target"), Target::Pids(vec![own]));
        end.send(()).expect("it waits");
        thread.join().expect("ended");
        // What is not there is told of where it is looked for.
        assert_eq!(process_of(u32::MAX), u32::MAX);
    }

    #[test]
    fn the_first_word_that_is_no_option_begins_the_command() {
        let command = |line: &str| {
            let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).expect("a good line");
            (line.target.command, line.follow.duration, line.follow.propagate_exit)
        };
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(command("record ./cmd -d 5s --all"), (words("./cmd -d 5s --all"), None, false));
        let five = Some(Duration::from_secs(5));
        assert_eq!(command("record -d 5s cmd x"), (words("cmd x"), five, false));
        assert_eq!(command("record -d 5s -- cmd x"), (words("cmd x"), five, false));
        assert_eq!(command("record --propagate-exit cmd -- -x"), (words("cmd -- -x"), None, true));
        assert_eq!(command("record -- -odd --"), (words("-odd --"), None, false));
        for line in ["record -p 1 cmd", "record -a cmd", "record --comm x -- cmd"] {
            let error = <Line as clap::Parser>::try_parse_from(line.split(' ')).expect_err(line);
            assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict, "{line}");
        }
    }

    #[test]
    fn a_tree_is_that_of_pids() {
        let own = std::process::id();
        let target = |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' '));
        let tree = target(&format!("record -p {own} --tree")).expect("a good line");
        assert_eq!(tree.target.target().expect("a target"), Target::Tree(vec![own]));
        for line in ["record --tree", "record --tree -a", "record --tree cmd", "record"] {
            assert!(target(line).is_err(), "{line}");
        }
    }

    #[test]
    fn nothing_but_a_started_command_is_killed() {
        let kill =
            |line: &str| <Line as clap::Parser>::try_parse_from(line.split(' ')).map(|line| line.follow.kill);
        assert!(kill("record --kill -d 1s cmd").expect("a good line"));
        assert!(!kill("record cmd --kill").expect("a good line"));
        for line in ["record --kill", "record --kill -p 1", "record --kill -a", "record --comm x --kill"] {
            assert!(kill(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_commands_children_are_exact_unless_others_are_to_be_spared() {
        let exact = |line: &str| {
            let line = <Line as clap::Parser>::try_parse_from(line.split(' ')).expect("a good line");
            line.follow.exact_children(&line.target.target().expect("a target"))
        };
        assert!(exact("record -- true"));
        assert!(exact("record --exact-children -- true"));
        assert!(!exact("record --no-exact-children -- true"));
        assert!(!exact("record --no-follow -- true"));
        assert!(!exact("record -p 1"));
        assert!(exact("record -p 1 --exact-children"));
        // The last word counts, as in an alias that is overruled.
        assert!(!exact("record --exact-children --no-exact-children -- true"));
        assert!(exact("record --no-exact-children --exact-children -- true"));
    }

    #[test]
    fn times_take_units() {
        let times = ["30", "30s", "500ms", "5m", "1h", "1.5s"]
            .map(|text| parse_duration(text).map(|d| d.as_millis()));
        assert_eq!(times, [Ok(30_000), Ok(30_000), Ok(500), Ok(300_000), Ok(3_600_000), Ok(1500)]);
        for text in ["", "s", "-1s", "0", "1d", "nan", "inf", "1e300h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_age("0s"), Ok(Duration::ZERO));
    }
}
