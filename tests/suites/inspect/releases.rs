//! On the glibc of other releases of Debian, which `./x setup` fetches.

use crate::{glibc::ensure_equal, inspect, wait};
use anyhow::{Result, ensure};
use heaptrace_tests::{
    live::{list, number},
    programs,
    runner::{Test, unprivileged},
    running::Running,
};
use serde_json::Value;
use std::{path::Path, process::Command};
use tempfile::TempDir;

const GLIBC: &str = "libc.so.6";

pub fn tests() -> Vec<Test> {
    vec![
        on_release("bullseye", "on glibc 2.31, too, a resting heap is what malloc says", || {
            on_glibc("bullseye", "2.31")
        }),
        on_release("trixie", "on glibc 2.41, too", || on_glibc("trixie", "2.41")),
        on_release("sid", "a glibc that is newer than known is refused with its version", newer_glibc),
    ]
}

/// A test that needs the glibc of a release of Debian, and the oldest one to link with.
fn on_release(suite: &str, name: &str, run: fn() -> Result<()>) -> Test {
    let missing = ["bullseye", suite].into_iter().find_map(|suite| programs::of_release(suite, GLIBC).err());
    unprivileged(name, run).needing(missing.map(|error| error.to_string()))
}

/// Starts the program on the glibc of another release: its loader runs it, which so is the process's executable.
fn start_on_glibc(suite: &str, folder: &Path, tunables: &str) -> Result<Running> {
    let program = programs::compile_on_glibc("heap", &programs::of_release("bullseye", GLIBC)?)?;
    let libraries = programs::of_release(suite, GLIBC)?;
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(&libraries).arg(program).env("GLIBC_TUNABLES", tunables);
    wait(command, folder, "resting")
}

fn on_glibc(suite: &str, version: &str) -> Result<()> {
    // With tcache and without: then fastbins are filled instead.
    for (tunables, parked) in [("", "tcache.blocks"), ("glibc.malloc.tcache_count=0", "fastbins.blocks")] {
        let folder = TempDir::new()?;
        let program = start_on_glibc(suite, folder.path(), tunables)?;
        let found = inspect(program.pid())?;
        ensure!(found["glibc"]["version"] == version, "{}", found["glibc"]["version"]);
        ensure_equal(&found, &program.stdout())?;
        for kind in [parked, "in_use.blocks", "large.blocks"] {
            let arenas = list(&found["glibc"], "arenas")?.iter();
            let all: u64 = arenas.map(|arena| number(arena, kind)).sum::<Result<u64>>()?;
            ensure!(all > 0, "no {kind}");
        }
    }
    Ok(())
}

fn newer_glibc() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start_on_glibc("sid", folder.path(), "")?;
    let found = inspect(program.pid())?;
    let mut notes = list(&found, "notes")?.iter().filter_map(Value::as_str);
    ensure!(
        found["glibc"].is_null() && notes.any(|note| note.contains("glibc 2.") && note.contains("not known")),
        "{found}"
    );
    ensure!(list(&found["memory"], "kinds")?.len() == 6, "{found}");
    Ok(())
}
