//! What must hold for the report of any program, and what the kernel says of a process.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    code, compare,
    report::{Process, Report, Stacks},
    running::{PATIENCE, wait_until},
    session::Start,
};
use std::{collections::BTreeMap, fs, net::TcpListener};

/// Room for pages that were allocated and never touched, and for what is not in the heap.
const SLACK: u64 = 16 << 20;

/// Peak resident bytes by PID, as the kernel counted them.
pub type Resident = BTreeMap<u32, u64>;

/// Fails if anything was lost or any process's figures cannot be.
///
/// `resident` holds processes whose live bytes cannot have exceeded it by much.
pub fn check(report: &Report, resident: &Resident, start: Start) -> Result<()> {
    compare::nothing_lost(report)?;
    whole_stacks(&report.coverage.stacks, start)?;
    ensure!(!report.processes.is_empty(), "no process is in the report");
    for process in &report.processes {
        let Process { live_bytes, live_count, alloc_bytes, alloc_count, .. } = *process;
        ensure!(
            live_bytes <= process.peak_live_bytes && live_bytes <= alloc_bytes && live_count <= alloc_count,
            "figures do not fit each other: {process:?}"
        );
        ensure!(process.peak_live_bytes <= alloc_bytes, "more was live than was allocated: {process:?}");
        if let Some(&resident) = resident.get(&process.pid) {
            ensure!(
                process.peak_live_bytes <= resident + SLACK,
                "at most {resident} bytes were resident: {process:?}"
            );
        }
    }
    Ok(())
}

/// Fails unless nearly all stacks end at the outermost frame. What is attached to has its unwind tables from the
/// start; what is started with us, some moments later, and how long those are decides no test.
fn whole_stacks(stacks: &Stacks, start: Start) -> Result<()> {
    let all = stacks.complete + stacks.truncated.values().sum::<u64>();
    let reasons = |names: &[&str]| names.iter().filter_map(|name| stacks.truncated.get(*name)).sum::<u64>();
    let first_moments = match start {
        Start::Attach => 0,
        Start::Command => reasons(&["no_mapping", "no_unwind_info"]),
    };
    println!("{:.2} % of {all} stacks are whole: {stacks:?}", 100.0 * stacks.complete as f64 / all as f64);
    ensure!(stacks.complete * 100 >= (all - first_moments) * 99, "stacks were cut short: {stacks:?}");
    Ok(())
}

/// `VmHWM` in the text of a status file, in bytes.
pub fn peak_resident(status: &str) -> Result<u64> {
    let line = status.lines().find(|line| line.starts_with("VmHWM")).context("no VmHWM")?;
    let kilobytes: u64 = line.split_whitespace().nth(1).context("VmHWM has no value")?.parse()?;
    Ok(kilobytes << 10)
}

/// Peak resident bytes of running processes.
pub fn resident(pids: &[u32]) -> Result<Resident> {
    pids.iter()
        .map(|&pid| Ok((pid, peak_resident(&fs::read_to_string(format!("/proc/{pid}/status"))?)?)))
        .collect()
}

/// Children of `pid`.
pub fn children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    text.split_whitespace().map(|pid| pid.parse().context("not a PID")).collect()
}

/// Waits until probes are in the code of each of `pids`, and stay there while `exercise` makes them allocate.
///
/// A forked child has copies of its parent's breakpoints; the kernel removes one that is not meant for it when it
/// is hit, so only what is still there after use counts.
pub fn wait_until_probed(pids: &[u32], mut exercise: impl FnMut() -> Result<()>) -> Result<()> {
    const STEADY: u32 = 20;
    let mut steady = 0;
    wait_until(PATIENCE, || {
        exercise()?;
        steady += 1;
        for &pid in pids {
            if code::changed_bytes(pid)? == 0 {
                steady = 0;
            }
        }
        Ok(steady >= STEADY)
    })
    .context("no probes came to the children")
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let mut found = None;
    wait_until(PATIENCE, || {
        found = condition();
        Ok(found.is_some())
    })
    .with_context(|| format!("no {what}"))?;
    found.with_context(|| format!("no {what}"))
}

/// A TCP port of the loopback interface that nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The processes of the report other than `parent` that allocated anything.
pub fn allocating_children(report: &Report, parent: u32) -> Result<usize> {
    match report.processes.iter().filter(|process| process.pid != parent && process.alloc_count > 0).count() {
        0 => bail!("no child of {parent} is in the report: {:?}", report.processes),
        count => Ok(count),
    }
}
