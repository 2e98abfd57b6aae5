//! Programs that change the code that would be probed, or is.

use super::target;
use anyhow::{Result, ensure};
use heaptrace_tests::{
    code, heaptrace,
    programs::Program,
    runner::{Test, end_to_end},
    session::Waiting,
};
use std::fs;
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    vec![
        end_to_end("attach: code that is writable, where the kernel places nothing", writable),
        end_to_end("attach: a program that patches its malloc while it is traced", || {
            changed("patch", "differs from the file")
        }),
        end_to_end("attach: a program that drops the pages that its probes are in", || {
            changed("drop", "no breakpoint")
        }),
    ]
}

fn start(what: &str, folder: &std::path::Path) -> Result<Waiting> {
    let mut command = target::command(&Program::C("patched").compile()?, folder);
    command.arg(what).env("PATCHED", folder.join("patched")).env("PATCHED_END", folder.join("end"));
    Waiting::start(command, folder)
}

fn writable() -> Result<()> {
    let folder = TempDir::new()?;
    let waiting = start("writable", folder.path())?;
    let pid = waiting.target.pid();
    fs::write(folder.path().join("end"), "")?;
    target::is_refused(waiting, pid, &["no breakpoint", "libc.so.6", "writable"], folder.path())
}

/// Its probes are taken away, and with no target left the recording ends.
fn changed(what: &str, word: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = start(what, folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    let probed = code::changed_places(pid)?;
    ensure!(!probed.is_empty(), "there are no probes");
    waiting.go()?;
    heaptrace::finish(&mut recorder)?;
    let report = heaptrace::report(folder)?;
    let said = report.coverage.untraceable.iter().find(|process| process.pid == pid);
    ensure!(
        said.is_some_and(|said| said.reason.contains(word)),
        "not told of: {:?}",
        report.coverage.untraceable
    );
    let left = code::changed_places(pid)?;
    ensure!(left.is_disjoint(&probed), "probes were left: {left:?}");
    fs::write(folder.join("end"), "")?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(target::PLAIN_ENDS), "the target ended with {status}");
    Ok(())
}
