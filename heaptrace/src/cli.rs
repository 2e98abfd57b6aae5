//! The command line: which commands there are. Each command's arguments are in its own file.

use crate::commands::{
    completions::{self, CompletionsArgs},
    diff::{self, DiffArgs},
    doctor::{self, DoctorArgs},
    inspect::{self, InspectArgs},
    instead,
    leaks::{self, LeaksArgs},
    man::{self, ManArgs},
    mark::{self, MarkArgs},
    open,
    record::{self, RecordArgs},
    report::{self, ReportArgs},
    stat::{self, StatArgs},
    top::{self, TopArgs},
    watch::{self, WatchArgs},
};
use crate::{error::CannotTrace, printable::say, process::privileges, symbolize};
use anyhow::Context as _;
use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use std::process::ExitCode;

/// Trace the heap allocations of running Linux processes: what is allocated, by which call stacks, and what is never freed.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "\
Find a leak:
  heaptrace leaks -p PID                   # which call stacks hold more and more memory
  heaptrace record -p PID -d 60s           # record for a minute ...
  heaptrace report                         # ... and show what is still allocated

Tracing needs root or some capabilities; `heaptrace doctor` says which.
Each command's --help has examples."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// This process's command line. Where it is none, or asks for help, that is said, and what to exit with comes back.
///
/// # Errors
/// The exit code.
pub fn parse() -> Result<Cli, ExitCode> {
    Cli::try_parse().map_err(|error| {
        // There may be nobody to read it.
        let _ = error.print();
        if let Some(word) = no_command(&error) {
            instead::of_command(word).iter().for_each(|instead| say(format_args!("{instead}")));
        }
        u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
    })
}

/// The word that stands where a command belongs, and is none.
fn no_command(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidSubcommand)? {
        ContextValue::String(word) if error.kind() == ErrorKind::InvalidSubcommand => Some(word),
        _ => None,
    }
}

// Each can be pasted into a shell as it stands: the process with the PID $$ is that shell.
const RECORD_EXAMPLES: &str = "\
Examples:
  heaptrace record ls -R /usr/share               # a command, from its first instruction
  heaptrace record -p $$ -d 5s                    # a running process, for 5 s
  heaptrace record --comm bash -d 5s              # all processes with a name
  heaptrace record --user root -d 5s -o root.data # all processes of a user, sampled
  heaptrace record -p $$ -d 5s --budget 5%        # a busy one: tracing takes no more than that
  heaptrace record -a -d 1m --when-growing 10M    # whatever grows by so much within a minute
  heaptrace report                                # then: what is still allocated";

const REPORT_EXAMPLES: &str = "\
Examples:
  heaptrace record ls -R /usr/share               # makes heaptrace.data
  heaptrace report                                # what was still allocated at the end
  heaptrace report --view alloc --by site         # all allocations, by source line
  heaptrace report --by process --min-bytes 1k    # one row per process
  heaptrace report --view peak                    # what was live when most was
  heaptrace report --view rss                     # what resident memory consists of
  heaptrace report --fail-on leak-like            # for CI: exit code 3, and who it was
  heaptrace report --tui                          # the call tree, to walk through on the terminal
  heaptrace report --open                         # a page to look around in, in the browser
  heaptrace report -o heap.svg                    # a flame graph
  heaptrace report -o heap.pb.gz                  # for go tool pprof
  heaptrace report --format json | head -c 300    # for scripts";

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  heaptrace completions bash > ~/.local/share/bash-completion/completions/heaptrace
  heaptrace completions zsh > ~/.zfunc/_heaptrace     # a folder of $fpath
  heaptrace completions fish > ~/.config/fish/completions/heaptrace.fish";

const MAN_EXAMPLES: &str = "\
Examples:
  heaptrace man | man -l -                        # shows heaptrace's own page
  heaptrace man /usr/local/share/man/man1         # all commands' pages; then: man heaptrace-record";

const MARK_EXAMPLES: &str = "\
Examples:
  heaptrace mark warm                             # while heaptrace record runs: now the service is warm
  heaptrace mark loaded                           # ... and now it had its load
  heaptrace report --from warm --to loaded        # later: what grew in between";

const DIFF_EXAMPLES: &str = "\
Examples:
  heaptrace diff before.data after.data           # what is live after and was not before, by call stack
  heaptrace diff --view alloc --per second a.data b.data
  heaptrace diff --per 1000,2500 a.data b.data    # by what each has done: 1,000 and 2,500 requests
  heaptrace diff --fail-if-grew 1MiB a.data b.data    # for CI: exit code 3, and what grew
  heaptrace diff -o diff.svg a.data b.data        # a differential flame graph
  heaptrace diff mon.data tue.data wed.data       # a trend";

const DOCTOR_EXAMPLES: &str = "\
Examples:
  heaptrace doctor                                # what works here, what doesn't, and why
  heaptrace doctor $$                             # how one process would be traced, and what a call costs
  heaptrace doctor --format json                  # for scripts";

const INSPECT_EXAMPLES: &str = "\
Examples:
  heaptrace inspect $$                            # mappings, arenas, free blocks, fragmentation
  heaptrace inspect $$ --format json              # for scripts";

const LEAKS_EXAMPLES: &str = "\
Examples:
  heaptrace leaks -p $$ -d 20s                    # one process; a mark shows stacks that keep growing
  heaptrace leaks --older-than 1m --interval 30s --comm bash -d 2m
  heaptrace leaks --older-than 0s ls /            # a command: what it never freed
  heaptrace leaks --older-than 0s --fail-above 1M ls /    # for CI: exit code 3, and who it was
  heaptrace leaks --trace growth -p $$ -d 20s     # who holds memory that was mapped; no probe is placed";

const STAT_EXAMPLES: &str = "\
Examples:
  heaptrace stat ls -R /usr/share                 # a command
  heaptrace stat -p $$ -d 10s                     # a running process, for 10 s
  heaptrace stat --interval 1s -p $$ -d 10s       # and a line each second
  heaptrace stat --format json -o stat.json ls    # for scripts";

const TOP_EXAMPLES: &str = "\
Examples:
  heaptrace top                                   # all processes; ? explains the keys
  heaptrace top -p $$ --trace                     # one process and its children, traced from the start
  heaptrace top --sort res --filter 'res>10M'     # the largest first
  heaptrace top -n 3 | cat                        # three tables instead of a screen";

const WATCH_EXAMPLES: &str = "\
Examples:
  heaptrace watch -d 10s                          # the whole machine: changes of 1 MiB or more
  heaptrace watch -p $$ --min-bytes 0 -d 10s      # every change of one process
  heaptrace watch --stacks --min-bytes 0 ls /     # a command, with call stacks
  heaptrace watch --format json -d 5s -o calls.json";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Record the allocations of processes to a file, for `heaptrace report`.
    #[command(after_help = RECORD_EXAMPLES)]
    Record(RecordArgs),
    /// Show what a recording holds: who allocated the memory, by call stack.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(ReportArgs),
    /// Compare recordings: what grew, is new, shrank and is gone, by call stacks that are matched across builds and restarts.
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(DiffArgs),
    /// Check this machine, or one process, for tracing.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(DoctorArgs),
    /// Show a process's memory map and the state of its heap, without tracing.
    #[command(after_help = INSPECT_EXAMPLES)]
    Inspect(InspectArgs),
    /// Show, every 5 s, which call stacks hold memory that was never freed.
    #[command(after_help = LEAKS_EXAMPLES)]
    Leaks(LeaksArgs),
    /// Count allocations: calls, bytes, block sizes and lifetimes.
    #[command(after_help = STAT_EXAMPLES)]
    Stat(StatArgs),
    /// Live screen of growing processes; press t to see a process's allocation sites.
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArgs),
    /// Log each change to a process's mapped memory.
    #[command(after_help = WATCH_EXAMPLES)]
    Watch(WatchArgs),
    /// Give this moment a name in running recordings, to report on what came before and after it.
    #[command(after_help = MARK_EXAMPLES)]
    Mark(MarkArgs),
    /// Print a script that has a shell complete commands and options.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write manual pages.
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
    /// What heaptrace starts to look for names in files: answers questions on standard input.
    #[command(name = symbolize::SUBCOMMAND, hide = true)]
    Symbolizer,
    /// What heaptrace starts to open a page: takes it on standard input.
    #[command(name = open::SUBCOMMAND, hide = true)]
    Opener,
}

impl Command {
    /// Runs the command. The exit code is 0, but for a command's own that is passed on.
    ///
    /// # Errors
    /// Whatever the command fails with; [`crate::error::exit_code`] tells them apart.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        privileges::refuse_setuid().map_err(|setuid| CannotTrace(setuid.to_string()))?;
        match self {
            Self::Record(args) => record::run(args),
            Self::Report(args) => {
                let opener = args.opener()?;
                privileges::drop_all().context("cannot drop the capabilities that a report doesn't need")?;
                report::run(args, opener)
            }
            Self::Diff(args) => {
                privileges::drop_all()
                    .context("cannot drop the capabilities that a comparison doesn't need")?;
                diff::run(args)
            }
            Self::Doctor(args) => doctor::run(args),
            Self::Inspect(args) => inspect::run(args).map(|()| ExitCode::SUCCESS),
            Self::Leaks(args) => leaks::run(args),
            Self::Stat(args) => stat::run(args),
            Self::Top(args) => top::run(args),
            Self::Watch(args) => watch::run(args),
            Self::Completions(args) => completions::run(args, &Cli::command()).map(|()| ExitCode::SUCCESS),
            Self::Mark(args) => mark::run(args).map(|()| ExitCode::SUCCESS),
            Self::Man(args) => man::run(args, Cli::command()).map(|()| ExitCode::SUCCESS),
            Self::Opener => open::serve().map(|()| ExitCode::SUCCESS),
            Self::Symbolizer => {
                symbolize::serve()?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// The words of a command line up to a pipe, a redirection or a comment, without quotes.
    fn words(line: &str) -> Vec<String> {
        let line =
            [" # ", " | ", " > "].iter().fold(line, |line, end| line.split(end).next().unwrap_or_default());
        line.split_whitespace().map(|word| word.trim_matches('\'').replace("$$", "1")).collect()
    }

    #[test]
    fn every_command_has_examples_and_takes_them() {
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = command.get_name();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<_> =
                help.lines().filter(|line| line.starts_with("  heaptrace ")).map(words).collect();
            assert!(examples.iter().any(|words| words[1] == name), "{name} has no example");
            for example in examples {
                if let Err(error) = Cli::try_parse_from(&example) {
                    panic!("{example:?}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_mistyped_command_is_answered_with_the_nearest_and_known_to_be_none() {
        let error = Cli::try_parse_from(["heaptrace", "recrod", "-p", "1"]).expect_err("no such command");
        assert_eq!((error.exit_code(), no_command(&error)), (2, Some("recrod")));
        assert!(error.to_string().contains("'record'"), "{error}");
        let error = Cli::try_parse_from(["heaptrace", "1234"]).expect_err("no such command");
        assert_eq!(no_command(&error), Some("1234"));
        let error = Cli::try_parse_from(["heaptrace", "record", "--no-such"]).expect_err("no such option");
        assert_eq!(no_command(&error), None);
    }

    #[test]
    fn one_process_is_named_with_or_without_an_option() {
        for command in ["inspect", "doctor"] {
            for words in [&["7"][..], &["-p", "7"], &["--pid", "7"], &["--pid=7"]] {
                let line =
                    Cli::try_parse_from([&["heaptrace", command], words].concat()).expect("a good line");
                let pid = match line.command {
                    Command::Inspect(InspectArgs { pid, process, .. }) => pid.or(process),
                    Command::Doctor(DoctorArgs { pid, process, .. }) => pid.or(process),
                    other => panic!("{other:?}"),
                };
                assert_eq!(pid, Some(7), "{command} {words:?}");
            }
            assert!(Cli::try_parse_from(["heaptrace", command, "7", "-p", "8"]).is_err());
        }
        assert!(Cli::try_parse_from(["heaptrace", "inspect"]).is_err());
        assert!(Cli::try_parse_from(["heaptrace", "doctor"]).is_ok());
    }

    #[test]
    fn every_option_of_a_tracing_command_is_in_a_group() {
        for name in ["record", "leaks", "stat", "watch", "top"] {
            let cli = Cli::command();
            let command = cli.find_subcommand(name).expect("a command");
            let loose = command.get_arguments().filter(|option| option.get_help_heading().is_none());
            assert_eq!(
                loose.map(|option| option.get_id().as_str()).collect::<Vec<_>>(),
                [] as [&str; 0],
                "{name}"
            );
        }
    }
}
