//! `heaptrace watch` on real programs, against what the kernel says of them.

use crate::{python, redis};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    live::{Live, list, number},
    postgres,
    programs::installed,
    session::Waiting,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

/// malloc's own word before a block that is a mapping, and the byte that python adds.
const BESIDES: u64 = 16 + 1;

pub fn python_blocks() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(installed("python3", &["/usr/bin"])?);
    python::script(&mut command, &python::SIZES);
    let mut waiting = Waiting::start(command, folder.path())?;
    let live = Live::attach("watch", &[waiting.target.pid()], &["--min-bytes", "8M"], folder.path())?;
    waiting.go()?;
    ensure!(waiting.target.wait()?.success(), "python failed");
    let prints = live.finish(0)?;
    let (end, calls) = prints.split_last().context("no print")?;
    nothing_lost(end)?;
    let deltas: Vec<u64> = calls.iter().map(|call| number(call, "delta")).collect::<Result<_>>()?;
    let expected = python::SIZES.map(|size| (size + BESIDES).next_multiple_of(4096));
    ensure!(deltas == expected, "{deltas:?} were mapped, not {expected:?}");
    for call in calls {
        ensure!(call["call"] == "mmap" && call["kind"] == "anonymous", "{call}");
        let in_python =
            |frame: &Value| frame["module"].as_str().is_some_and(|module| module.contains("python3"));
        ensure!(list(call, "stack")?.iter().any(in_python), "no frame of python: {call}");
    }
    Ok(())
}

pub fn servers() -> Result<()> {
    let folder = TempDir::new()?;
    let (mut redis, mut client) = redis::serving(folder.path())?;
    let cluster = postgres::Cluster::new()?;
    let mut server = cluster.serving()?;
    let pids = [redis.pid(), server.pid()];
    let live = Live::attach("watch", &pids, &["--min-bytes", "0"], folder.path())?;
    redis::fill(&mut client)?;
    cluster.load()?;
    // Both rest. Nothing but these calls changes what a process maps.
    let sizes = pids.map(mapped);
    live.run.signal(libc::SIGINT)?;
    let prints = live.finish(0)?;
    for (server, signal) in [(&mut redis, libc::SIGTERM), (&mut server, libc::SIGINT)] {
        server.signal(signal)?;
        ensure!(server.wait()?.success(), "{}", server.describe("failed"));
    }

    let (end, calls) = prints.split_last().context("no print")?;
    nothing_lost(end)?;
    let processes = list(&end["summary"], "processes")?;
    for (pid, size) in pids.into_iter().zip(sizes) {
        let size = size?;
        match processes.iter().find(|process| process["pid"] == pid) {
            Some(process) => ensure!(number(process, "total")? == size, "VmSize is {size}: {process}"),
            // One that made no call.
            None => ensure!(!calls.iter().any(|call| call["pid"] == pid), "{pid} has calls and no total"),
        }
    }
    ensure!(processes.iter().any(|process| process["pid"] == pids[0]), "redis did not grow");
    // Each client has a backend, which maps memory of its own for its work.
    let backends = processes.iter().filter(|process| process["comm"] == "postgres").count();
    ensure!(backends >= postgres::CLIENTS as usize, "{backends} backends");
    Ok(())
}

fn nothing_lost(end: &Value) -> Result<()> {
    let lost = end["summary"]["coverage"]["lost"].as_object().context("no losses are told")?;
    ensure!(lost.values().all(|count| count == 0), "{lost:?}");
    Ok(())
}

/// `VmSize` of a process, in bytes.
fn mapped(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).context("no VmSize")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}
