//! `heaptrace top`: on a terminal as a person would use it, and printed.

mod printed;
mod screen;
mod tracing;

use anyhow::Result;
use heaptrace_tests::{
    heaptrace,
    runner::{self, end_to_end, unprivileged},
    terminal::Terminal,
};
use std::{path::Path, process::ExitCode};

const ESC: &str = "\x1b";
const ENTER: &str = "\r";

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("what makes no sense is a usage error", printed::usage),
        unprivileged("who is not there is told, with code 4", printed::nobody),
        unprivileged("printed: tables of the whole machine", printed::tables),
        unprivileged("printed: JSON agrees with /proc", printed::json),
        unprivileged("an ordinary user sees what /proc shows, and what is missing", printed::ordinary_user),
        unprivileged("a terminal that cannot be drawn on gets tables", printed::dumb_terminal),
        unprivileged("keys sort, filter, reverse, draw trees and choose columns", screen::keys),
        unprivileged("it fits any terminal, and follows when that is resized", screen::resized),
        unprivileged("the terminal is as before: by q, Ctrl-C, SIGTERM", screen::restored),
        unprivileged("suspended, it leaves the terminal to the shell and comes back", screen::suspended),
        end_to_end("t traces a process and T ends it; its sites are what the program holds", tracing::traced),
        end_to_end("a flame graph is written to a new file only", tracing::flame_graph),
        end_to_end("who cannot be traced is told why", tracing::refused),
        end_to_end("a process that is not traced shows who maps its memory", tracing::growth),
        end_to_end("printed: what is traced agrees with the program to the byte", printed::traced_json),
        end_to_end("printed: without frees, live is what the heap holds", printed::traced_allocs),
        end_to_end("printed: samples have an interval", printed::traced_samples),
        end_to_end("T takes the probes of all that came from a process", tracing::descendants),
        end_to_end(
            "children are shown and traced with their parent, and let go of with it",
            tracing::children,
        ),
        end_to_end("traced and let go of again and again at work, a program goes on as ever", tracing::busy),
        end_to_end("an allocator that is loaded by a traced process is probed, too", tracing::loaded),
        end_to_end("killed, it leaves no probe behind", tracing::killed),
        end_to_end("a process that ends while it is looked at is said to be gone", tracing::ended),
    ])
}

/// The screen of `heaptrace top` with these options.
fn start(options: &[&str], size: (u16, u16), folder: &Path) -> Result<Terminal> {
    let mut command = heaptrace::command(&[&["top", "-i", "100ms"], options].concat())?;
    command.current_dir(folder);
    Terminal::run(command, size)
}

/// The PIDs in the first column, from the top.
fn pids(screen: &str) -> Vec<u32> {
    let rows = screen.lines().skip_while(|line| !line.trim_start().starts_with("PID"));
    let pid = |line: &str| line.get(..7)?.trim().parse::<u32>().ok();
    rows.filter_map(pid).collect()
}

/// The first two cells of the line with `name`; none if there is no such line.
fn cells<'a>(screen: &'a str, name: &str) -> Vec<&'a str> {
    let line = screen.lines().find(|line| line.contains(name)).unwrap_or_default();
    line.split_whitespace().take(2).collect()
}
