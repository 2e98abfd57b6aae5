//! `heaptrace top` on redis, PostgreSQL and CPython at once, as a person would look at them.

use crate::redis;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code::changed_bytes, heaptrace, postgres, programs::installed, running::Running, terminal::Terminal,
};
use std::{fs, process::Command};
use tempfile::TempDir;

const KEYS: usize = 2000;
const VALUE: usize = 4001;
const MIB: f64 = 1_048_576.0;

/// Holds ever more, a little at a time.
const GROWING: &str = "
import time
kept = []
while True:
    kept.append(bytearray(100_003))
    time.sleep(0.02)
";

pub fn three_programs() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let (mut redis, mut client) = redis::serving(folder)?;
    let cluster = postgres::Cluster::new()?;
    let mut postgres = cluster.serving()?;
    let mut python = Command::new(installed("python3", &["/usr/bin"])?);
    python.args(["-c", GROWING]);
    let python = Running::spawn(python, "python", folder)?;
    let pids = [&redis, &postgres, &python].map(Running::pid);

    let list = pids.map(|pid| pid.to_string()).join(",");
    let mut top = heaptrace::command(&["top", "-i", "200ms", "-p", &list])?;
    top.current_dir(folder);
    let mut top = Terminal::run(top, (120, 30))?;
    // The server's own processes are shown with it; what grows is first.
    top.wait_for("all three, the growing one first", |screen| {
        let mut rows = screen.lines().skip_while(|line| !line.contains("PID USER")).skip(1);
        rows.next().is_some_and(|first| first.contains("python3 -c"))
            && ["redis-server", "postgres: checkpointer", "python3 -c"]
                .iter()
                .all(|name| screen.contains(name))
    })?;

    arm(&mut top, pids[2], "python3")?;
    top.wait_for_text("tracing: 1 process")?;
    top.press("\r")?;
    top.wait_for("Python's site", |screen| screen.contains("PyByteArray_Resize"))?;
    top.press("q")?;
    arm(&mut top, pids[0], "redis-server")?;
    top.wait_for_text("tracing: 2 processes")?;
    let before = client.memory("used_memory")?;
    for i in 0..KEYS {
        let reply = client.call(&["SET", &format!("key:{i}"), &"v".repeat(VALUE)])?;
        ensure!(reply == "+OK", "redis answers {reply}");
    }
    let grown = client.memory("used_memory")? - before;
    ensure!(grown >= (KEYS * VALUE) as u64, "redis grew by {grown}");
    // 8.0 million bytes of values, and what redis needs to find them; size classes are at most 25 % above the request.
    let most = grown as f64 * 1.1;
    top.wait_for("the values, live", |screen| {
        let row = screen.lines().find(|line| line.trim_start().starts_with(&pids[0].to_string()));
        let live = row.and_then(|row| mib(screen, row, "LIVE"));
        live.is_some_and(|mib| ((KEYS * VALUE) as f64..=most).contains(&((mib + 0.05) * MIB)))
    })?;

    // All of PostgreSQL: the postmaster, and what it forks for each client from then on.
    arm(&mut top, pids[1], "postgres")?;
    top.wait_for_text("tracing: 3 processes")?;
    cluster.load()?;
    let page = top.text();
    ensure!(!page.contains("lost"), "something was lost:\n{page}");
    top.press("q")?;
    let status = top.wait()?;
    ensure!(status.success(), "top ended with {status}");
    for pid in pids {
        ensure!(changed_bytes(pid)? == 0, "top has ended, and process {pid} has probes");
    }

    ensure!(client.call(&["GET", "key:1"])?.len() == VALUE, "redis lost a key");
    cluster.serves().context("after top has left")?;
    redis.signal(libc::SIGTERM)?;
    postgres.signal(libc::SIGINT)?;
    for server in [&mut redis, &mut postgres] {
        let status = server.wait()?;
        ensure!(status.success(), "{}", server.describe(&format!("ended with {status}")));
    }
    postgres::no_crash(&postgres.stderr())?;
    ensure!(fs::metadata(format!("/proc/{}", pids[2])).is_ok(), "python has ended");
    Ok(())
}

/// What a row has in a column, in MiB.
fn mib(screen: &str, row: &str, column: &str) -> Option<f64> {
    let heading = screen.lines().find(|line| line.trim_start().starts_with("PID "))?;
    let mut titles = heading.split_whitespace().map(|title| title.trim_end_matches(['↓', '↑']));
    let at = titles.position(|title| title == column)?;
    row.split_whitespace().nth(at)?.strip_suffix('M')?.parse().ok()
}

/// Looks for a process and has it traced.
fn arm(top: &mut Terminal, pid: u32, name: &str) -> Result<()> {
    top.press(&format!("/pid={pid}\r"))?;
    top.wait_for("it alone", |screen| screen.contains("1 of ") && screen.contains(&format!("pid={pid}")))?;
    top.press("\x1b[Ht")?;
    top.wait_for("the question", |screen| {
        screen.contains(&format!("{name} ({pid})")) && screen.contains("Enter: trace")
    })?;
    top.press("\r")?;
    top.wait_for_text(&format!("process {pid} is traced"))?;
    ensure!(changed_bytes(pid)? > 0, "it is said to be traced, and no code was changed");
    // All again.
    top.press("\x1b")?;
    // By the rows: what is found stands where the message is now. A key right behind would be taken for Alt and that key.
    top.wait_for("all again", |screen| {
        let rows = screen.lines().skip_while(|line| !line.contains("PID USER")).skip(1);
        rows.take_while(|row| !row.trim().is_empty()).count() > 1
    })?;
    Ok(())
}
