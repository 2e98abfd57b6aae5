//! `heaptrace top`: processes as they grow, on a screen or printed again and again.

mod args;
mod background;
mod detail;
mod feed;
mod flame;
mod job;
mod memory;
mod options;
mod plain;
mod processes;
mod prospect;
mod screen;
mod sources;

pub use args::TopArgs;

use super::{target_args::TargetArgs, terminal::can_draw, work::Ended};
use crate::{
    error::CannotTrace,
    printable::say,
    process::procfs,
    target::{Target, pids_named},
    top::{self, App, Filter, Header},
};
use anyhow::bail;
use args::{TopFormat, TopTarget};
use plain::Table;
use screen::Times;
use sources::Sources;
use std::{io::IsTerminal as _, process::ExitCode};

/// Runs `heaptrace top`.
///
/// # Errors
/// If nobody is there who was named, or what was asked to be traced from the start cannot be
/// ([`crate::error::CannotTrace`] is the cause); or if the terminal or the output fails.
pub fn run(args: TopArgs) -> anyhow::Result<ExitCode> {
    let target = target(&args.target)?;
    check(&target)?;
    let filter = Filter::parse(&args.filter)?;
    let times = Times { every: args.interval, duration: args.duration, iterations: args.iterations };
    let header =
        Header { chosen: name(&target), interval_s: args.interval.as_secs_f64(), ..Header::default() };
    let on_terminal = args.format == TopFormat::Auto && std::io::stdout().is_terminal() && can_draw();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let ends_with_targets = matches!(target, Target::Pids(_) | Target::Comm(_));
        let mut sources = Sources::start(target, &args)?;
        let ended = if on_terminal {
            let mut app = App::new(top::screen((80, 24)));
            (app.list.sort, app.list.tree) = (args.sort, args.tree);
            app.filter(&args.filter)?;
            screen::run(&mut sources, app, header, times).await
        } else {
            let (format, sort, tree, rows) = (args.format, args.sort, args.tree, args.rows);
            let numbers = args.raw.numbers();
            let table = Table { format, sort, filter, tree, rows, numbers, ends_with_targets };
            plain::run(&mut sources, &table, header, times).await
        };
        let seconds = sources.end();
        if seconds > 2.0 {
            say(format_args!("took {seconds:.1} s to remove the probes"));
        }
        ended
    })?;
    // Who ended it, or said when, knows why.
    if !on_terminal && ended == Ended::TargetsExited {
        say(format_args!("{ended}"));
    }
    Ok(ExitCode::SUCCESS)
}

fn target(args: &TopTarget) -> Result<Target, CannotTrace> {
    let TopTarget { pid, all, comm, user, cgroup } = args;
    TargetArgs {
        pid: pid.clone(),
        tree: false,
        all: *all,
        comm: comm.clone(),
        user: user.clone(),
        cgroup: cgroup.clone(),
        command: Vec::new(),
    }
    .target_or_all()
}

/// Fails if nobody is there who was named.
fn check(target: &Target) -> anyhow::Result<()> {
    match target {
        Target::Pids(pids) | Target::Tree(pids) => {
            for pid in pids {
                match procfs::identity(*pid) {
                    Ok(_) => {}
                    Err(error) if error.is_gone() => bail!(CannotTrace(format!("there is no process {pid}"))),
                    Err(error) => bail!(CannotTrace(format!("process {pid} cannot be looked at: {error}"))),
                }
            }
        }
        Target::Comm(comm) if pids_named(comm)?.is_empty() => bail!(CannotTrace(format!(
            "no running process is named {comm}; names are those in /proc/PID/comm, at most 15 bytes"
        ))),
        _ => {}
    }
    Ok(())
}

/// Which processes are shown, in words; `None` for all.
fn name(target: &Target) -> Option<String> {
    match target {
        Target::All | Target::Command(_) => None,
        Target::Pids(pids) | Target::Tree(pids) => {
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            Some(format!("{} and children", pids.join(", ")))
        }
        Target::Comm(comm) => Some(comm.clone()),
        Target::User { name, .. } => Some(format!("user {name}")),
        Target::Cgroup(cgroup) => Some(cgroup.folder.display().to_string()),
    }
}
