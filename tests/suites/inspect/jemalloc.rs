//! jemalloc from outside: what inspect says is what mallctl(3) says, and a version that is not known is left alone.

use crate::{inspect, not_drawn, wait};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    live::{list, number},
    programs::{self, Program, installed},
    redis::Client,
    runner::{Test, unprivileged},
    running::{PATIENCE, Running, wait_while_running},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

const LIBRARY: &str = "libjemalloc.so.2";
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

pub fn tests() -> Vec<Test> {
    vec![
        unprivileged("a resting jemalloc is what mallctl says", || resting(&own()?, "5.3.0")),
        on_release("bullseye", "on jemalloc 5.2.1, too", || {
            resting(&programs::of_release("bullseye", LIBRARY)?.join(LIBRARY), "5.2.1")
        }),
        on_release("trixie", "on another build of jemalloc 5.3.0, too", || {
            resting(&programs::of_release("trixie", LIBRARY)?.join(LIBRARY), "5.3.0")
        }),
        on_release("sid", "a jemalloc that is newer than known is refused with its version", newer),
        unprivileged("a jemalloc that changes is read, or said not to be", running),
        unprivileged("redis' heap is what it says itself", redis),
    ]
}

fn on_release(suite: &str, name: &str, run: fn() -> Result<()>) -> Test {
    let missing = programs::of_release(suite, LIBRARY).err();
    unprivileged(name, run).needing(missing.map(|error| error.to_string()))
}

fn own() -> Result<PathBuf> {
    installed(LIBRARY, &[LIBRARIES])
}

fn start(library: &Path, folder: &Path, arguments: &[&str], until: &str) -> Result<Running> {
    let mut command = Command::new(Program::C("jemalloc").compile()?);
    command.args(arguments).env("LD_PRELOAD", library);
    wait(command, folder, until)
}

/// What mallctl said, by name.
fn said(text: &str) -> Result<BTreeMap<&str, u64>> {
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(name, value)| Ok((name, value.parse()?))).collect()
}

fn resting(library: &Path, version: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(library, folder.path(), &[], "resting")?;
    let found = inspect(program.pid())?;
    let text = program.stdout();
    let said = said(&text)?;
    let heap = &found["jemalloc"];
    ensure!(heap["version"] == version && heap["consistent"] == true, "{found}");
    let equal = |name: &str, ours: u64| {
        let said = said.get(name).with_context(|| format!("no {name} in\n{text}"))?;
        ensure!(ours == *said, "{name} is {said} by mallctl, and {ours} by inspect");
        Ok(())
    };
    for name in ["allocated", "active", "metadata", "resident", "mapped", "retained"] {
        equal(&format!("stats.{name}"), number(heap, &format!("stats.{name}"))?)?;
    }
    let sums = [("pdirty", number(heap, "dirty_bytes")?), ("pmuzzy", number(heap, "muzzy_bytes")?)];
    sums.iter().try_for_each(|(name, ours)| equal(&format!("stats.arenas.4096.{name}"), ours >> 12))?;
    let arenas = list(heap, "arenas")?;
    ensure!(arenas.len() == 2, "{heap}");
    for arena in arenas {
        let index = number(arena, "index")?;
        for (name, ours, unit) in [
            ("nthreads", "threads", 1),
            ("small.allocated", "small.bytes", 1),
            ("large.allocated", "large.bytes", 1),
            ("pactive", "active_bytes", 4096),
            ("pdirty", "dirty_bytes", 4096),
            ("pmuzzy", "muzzy_bytes", 4096),
            ("tcache_bytes", "tcache.bytes", 1),
            ("retained", "retained_bytes", 1),
            ("mapped", "mapped_bytes", 1),
            ("resident", "resident_bytes", 1),
        ] {
            equal(&format!("stats.arenas.{index}.{name}"), number(arena, ours)? / unit)?;
        }
        // There was something to be counted.
        for part in ["small.blocks", "tcache.blocks", "dirty_bytes"] {
            ensure!(number(arena, part)? > 0, "{part}: {arena}");
        }
    }
    let bins = list(heap, "bins")?;
    ensure!(bins.len() == 36, "{} bins", bins.len());
    for (index, bin) in bins.iter().enumerate() {
        let slabs = number(bin, "slabs")?;
        equal(&format!("arenas.bin.{index}.size"), number(bin, "size")?)?;
        equal(&format!("stats.arenas.4096.bins.{index}.curregs"), number(bin, "blocks")?)?;
        equal(&format!("stats.arenas.4096.bins.{index}.curslabs"), slabs)?;
        if let Some(slab) = number(bin, "slab_bytes")?.checked_div(slabs) {
            equal(&format!("arenas.bin.{index}.slab_size"), slab)?;
        }
    }
    let text = heaptrace::output(&["inspect", &program.pid().to_string()])?;
    let text = String::from_utf8(text.stdout)?;
    for word in ["Heap of jemalloc", "allocated", "Size classes", "Arena 1:"] {
        ensure!(text.contains(word), "no {word:?} in\n{text}");
    }
    Ok(())
}

/// Under the loader of the same release, which its libraries need.
fn newer() -> Result<()> {
    let folder = TempDir::new()?;
    let libraries = programs::of_release("sid", LIBRARY)?;
    let glibc = programs::of_release("sid", "libc.so.6")?;
    let mut path = glibc.clone().into_os_string();
    path.push(":");
    path.push(LIBRARIES);
    let mut command = Command::new(glibc.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(path).arg("--preload").arg(libraries.join(LIBRARY));
    command.arg(Program::C("jemalloc").compile()?);
    let program = wait(command, folder.path(), "resting")?;
    let found = inspect(program.pid())?;
    let mut notes = list(&found, "notes")?.iter().filter_map(Value::as_str);
    ensure!(
        found["jemalloc"].is_null()
            && notes.any(|note| note.contains("layout of jemalloc 5.") && note.contains("only the mappings")),
        "{found}"
    );
    Ok(())
}

fn running() -> Result<()> {
    let folder = TempDir::new()?;
    let mut program = start(&own()?, folder.path(), &["run"], "running")?;
    for _ in 0..5 {
        let found = inspect(program.pid())?;
        let arenas = list(&found["jemalloc"], "arenas")?;
        for arena in arenas {
            ensure!(arena["consistent"] == arena["problem"].is_null(), "{arena}");
        }
        // The other thread's arena rests.
        ensure!(arenas.len() == 2 && arenas[1]["consistent"] == true, "{}", found["jemalloc"]);
    }
    ensure!(program.poll()?.is_none(), "the program ended");
    Ok(())
}

/// Redis asks jemalloc from time to time, so what it says agrees in the end, within what it allocates meanwhile.
fn redis() -> Result<()> {
    let folder = TempDir::new()?;
    let socket = folder.path().join("socket");
    let mut command = Command::new(installed("redis-server", &["/usr/bin"])?);
    command.args(["--port", "0", "--save", "", "--unixsocket"]).arg(&socket);
    command.arg("--dir").arg(folder.path());
    let mut redis = Running::spawn(command, "redis", folder.path())?;
    wait_while_running(&mut redis, "listen", || UnixStream::connect(&socket).is_ok())?;
    let stream = UnixStream::connect(&socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = Client::over(stream);
    let value = "v".repeat(3001);
    for key in 0..4000 {
        let reply = client.call(&["SET", &format!("key:{key}"), &value])?;
        ensure!(reply == "+OK", "redis answers {reply}");
    }
    let pid = redis.pid();
    let mut agree = || -> Result<bool> {
        let found = inspect(pid)?;
        ensure!(found["jemalloc"]["consistent"] == true, "{found}");
        let near = |figure: &str, client: &mut Client<UnixStream>| -> Result<bool> {
            let said = client.memory(&format!("allocator_{figure}"))?;
            let ours = number(&found, &format!("jemalloc.stats.{figure}"))?;
            Ok(ours > 12_000_000 && ours.abs_diff(said) <= said / 100)
        };
        Ok(near("allocated", &mut client)? && near("active", &mut client)? && near("resident", &mut client)?)
    };
    wait_while_running(&mut redis, "agree with inspect", || agree().is_ok_and(|agree| agree))?;
    not_drawn(pid, "jemalloc", folder.path())
}
