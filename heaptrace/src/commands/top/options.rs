//! How top's two sessions trace.

use super::args::{TopArgs, TopTrace};
use crate::{
    bpf::{Calls, MapSizes, Members, StackMode},
    commands::{
        stack_args::{StackArg, stack_options},
        trace_args::{TraceArgs, Tracing},
    },
    error::Usage,
    model::Mode,
    session::{Limits, SessionOptions},
    target::Target,
};

fn members(target: &Target) -> Option<Members> {
    match target {
        Target::User { id, .. } => Some(Members::User(*id)),
        Target::Cgroup(cgroup) => Some(Members::Cgroup(cgroup.id)),
        _ => None,
    }
}

/// Probes: of everything, of those who were named, or of nobody until somebody asks.
pub fn traced_options(target: &Target, args: &TopArgs) -> Result<SessionOptions, Usage> {
    let (stacks, unwind) = stack_options(Some(&args.walks));
    let TopTrace { trace, cost } = args.trace;
    let named = args.traces_from_start();
    if trace == Some(None) && !named {
        return Err(Usage(
            "--trace needs to know whom to trace: --pid, --comm, --user, --cgroup or --all; --trace=MODE alone is how the key t \
             traces"
                .to_owned(),
        ));
    }
    let trace = TraceArgs { trace: trace.flatten(), cost, when_growing: None };
    // By the key t, one process at a time.
    let one = Target::Pids(Vec::new());
    let Tracing { mode, limits, own_samples, besides } = trace.of(if named { target } else { &one })?;
    if !mode.has_blocks() {
        let mode = mode.name();
        return Err(Usage(format!(
            "top shows growth of every process, traced or not; --trace={mode} would trace nothing"
        )));
    }
    Ok(SessionOptions {
        all: args.target.all,
        follow: true,
        exact_children: false,
        stacks,
        sizes: args.sizes.tables(Some(&args.walks), stacks, unwind, mode, besides)?,
        // Another session's, which all processes have.
        growth: false,
        faults: false,
        calls: Calls::Summed,
        mode,
        members: members(target).filter(|_| named),
        size_filter: None,
        keep_old: None,
        limits,
        own_samples,
        served: args.allow_fuse,
        log: false,
    })
}

/// brk, mmap and munmap of those who are shown, without probes.
pub fn growth_options(target: &Target, args: &TopArgs) -> SessionOptions {
    // Calls that map memory are few, and so are their stacks.
    const SITES: u32 = 1 << 14;
    const FRAMES: u32 = 1 << 19;
    let walks = (args.walks.stack != StackArg::None).then_some(&args.walks);
    let (stacks, unwind) = stack_options(walks);
    let walked = stacks != StackMode::None;
    SessionOptions {
        all: *target == Target::All,
        follow: true,
        exact_children: false,
        stacks,
        sizes: MapSizes {
            // No blocks, and no calls of allocators.
            live: 1,
            live_chunks: 0,
            threads: 1,
            sites: SITES,
            frames: if walked { FRAMES } else { 1 },
            processes: args.sizes.max_processes,
            events: args.sizes.max_events.unwrap_or(MapSizes::default().events),
            unwind,
            ..MapSizes::default()
        },
        growth: true,
        faults: false,
        calls: Calls::Summed,
        mode: Mode::Growth,
        members: members(target),
        size_filter: None,
        keep_old: None,
        limits: Limits::default(),
        own_samples: false,
        served: false,
        log: false,
    }
}
