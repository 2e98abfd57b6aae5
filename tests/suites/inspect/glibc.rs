//! On the machine's glibc: what inspect says is what mallinfo2(3) and malloc_info(3) say.

use crate::{inspect, parse, wait};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    huge_pages::HugePages,
    live::{list, number},
    programs::Program,
    runner::{Test, end_to_end, unprivileged},
    running::Running,
};
use serde_json::Value;
use std::{collections::BTreeMap, path::Path, process::Command};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    vec![
        unprivileged("a resting heap is what mallinfo2 and malloc_info say", resting),
        unprivileged("the same without tcache, with fastbins filled instead", without_tcache),
        unprivileged("the same with other tunables", || tuned(OTHERS, false)),
        unprivileged("the same on transparent huge pages", || tuned("glibc.malloc.hugetlb=1", false)),
        unprivileged("the same where the break cannot grow", || tuned("", true)),
        end_to_end("the same on huge pages that were set aside", on_huge_pages).needing(HugePages::missing()),
        unprivileged("an arena of several heaps is walked through all", heaps),
        unprivileged("blocks in a thread's cache are told apart from those in use", parked),
        end_to_end("without debug files malloc's state is found by its pattern", by_pattern),
        unprivileged("a heap that changes is walked to its end, or said not to be", running),
        unprivileged("the picture of a heap has all its bytes", drawn),
    ]
}

/// Starts the program, and returns once it has printed a line `until`.
pub fn start(folder: &Path, arguments: &[&str], tunables: &str, until: &str) -> Result<Running> {
    let mut command = Command::new(Program::C("heap").compile()?);
    command.args(arguments).env("GLIBC_TUNABLES", tunables);
    wait(command, folder, until)
}

/// What mallinfo2 said, by field.
fn mallinfo(text: &str) -> Result<BTreeMap<String, u64>> {
    let line = text.lines().find_map(|line| line.strip_prefix("mallinfo ")).context("no mallinfo")?;
    let words: Vec<&str> = line.split(' ').collect();
    words.chunks(2).map(|pair| Ok((pair[0].to_owned(), pair[1].parse()?))).collect()
}

/// For each arena: count and bytes in fastbins, of the rest that is free, and bytes from the system.
fn arenas_of_malloc_info(text: &str) -> Result<Vec<[u64; 5]>> {
    let attribute = |line: &str, name: &str| -> Result<u64> {
        let value = line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| rest.split_once('"'));
        value.context("no such attribute")?.0.parse().context("no number")
    };
    let mut arenas = Vec::new();
    for heap in text.split("<heap nr=").skip(1).map(|heap| heap.split("</heap>").next().unwrap_or_default()) {
        let line = |prefix| heap.lines().find(|line| line.starts_with(prefix)).context("no such line");
        let (fast, rest) = (line("<total type=\"fast\"")?, line("<total type=\"rest\"")?);
        arenas.push([
            attribute(fast, "count")?,
            attribute(fast, "size")?,
            attribute(rest, "count")?,
            attribute(rest, "size")?,
            attribute(line("<system type=\"current\"")?, "size")?,
        ]);
    }
    Ok(arenas)
}

/// Every number that malloc prints, of all arenas and of each, is in `found`.
pub fn ensure_equal(found: &Value, text: &str) -> Result<()> {
    let glibc = &found["glibc"];
    ensure!(glibc["consistent"] == true, "{glibc}");
    let said = mallinfo(text)?;
    ensure!(said.len() == 9, "{said:?}");
    for (field, said) in &said {
        let ours = number(glibc, &format!("mallinfo.{field}"))?;
        ensure!(ours == *said, "{field} is {said} by mallinfo2, and {ours} by inspect");
    }
    let arenas = list(glibc, "arenas")?;
    let said = arenas_of_malloc_info(text)?;
    ensure!(arenas.len() == said.len() && said.len() == 2, "{} arenas, not {}", arenas.len(), said.len());
    for (arena, [fast, fast_bytes, rest, rest_bytes, system]) in arenas.iter().zip(said) {
        let ours = |path| number(arena, path);
        ensure!((ours("fastbins.blocks")?, ours("system_bytes")?) == (fast, system), "{arena}");
        ensure!(ours("fastbins.bytes")? == fast_bytes, "{arena}");
        let unsorted = ours("unsorted.blocks")?;
        ensure!(unsorted + ours("small.blocks")? + ours("large.blocks")? + 1 == rest, "{rest}: {arena}");
        let bytes =
            ours("unsorted.bytes")? + ours("small.bytes")? + ours("large.bytes")? + ours("top_bytes")?;
        // malloc_info counts the flag of a block in a bin into its size (glibc 2.36, malloc/malloc.c).
        ensure!(bytes <= rest_bytes && rest_bytes <= bytes + 7 * rest, "{rest_bytes}: {arena}");
        let held = ours("in_use.bytes")? + ours("tcache.bytes")? + ours("overhead_bytes")?;
        ensure!(held + bytes + fast_bytes == system, "{arena}");
    }
    Ok(())
}

fn resting() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(folder.path(), &[], "", "resting")?;
    let found = inspect(program.pid())?;
    ensure_equal(&found, &program.stdout())?;
    // Blocks of all kinds were there to be counted.
    for arena in list(&found["glibc"], "arenas")? {
        for kind in ["in_use.blocks", "tcache.blocks", "large.blocks"] {
            ensure!(number(arena, kind)? > 0, "{kind}: {arena}");
        }
    }
    ensure!(number(&found, "glibc.mallinfo.hblks")? == 3, "{found}");
    ensure!(number(&found, "glibc.tcaches")? == 2, "{found}");
    let text = heaptrace::output(&["inspect", &program.pid().to_string()])?;
    let text = String::from_utf8(text.stdout)?;
    for word in ["Heap of glibc", "Arena 0, the main one", "Arena 1:", "free: threads' caches", "from free"] {
        ensure!(text.contains(word), "no {word:?} in\n{text}");
    }
    Ok(())
}

const OTHERS: &str = "glibc.malloc.tcache_count=100:glibc.malloc.arena_max=2:glibc.malloc.mmap_threshold=65536:\
                      glibc.malloc.top_pad=1048576:glibc.malloc.trim_threshold=4096";

fn tuned(tunables: &str, blocked: bool) -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = Command::new(Program::C("heap").compile()?);
    command.env("GLIBC_TUNABLES", tunables);
    if blocked {
        command.env("HEAP_BLOCKED", "1");
    }
    let program = wait(command, folder.path(), "resting")?;
    let found = inspect(program.pid())?;
    ensure_equal(&found, &program.stdout())?;
    Ok(())
}

fn on_huge_pages() -> Result<()> {
    let _pool = HugePages::set_aside(64)?;
    tuned("glibc.malloc.hugetlb=2", false)
}

fn without_tcache() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(folder.path(), &[], "glibc.malloc.tcache_count=0", "resting")?;
    let found = inspect(program.pid())?;
    ensure_equal(&found, &program.stdout())?;
    let mut fast = 0;
    for arena in list(&found["glibc"], "arenas")? {
        ensure!(number(arena, "tcache.blocks")? == 0, "{arena}");
        fast += number(arena, "fastbins.blocks")?;
    }
    ensure!(fast > 0, "no fastbin was filled");
    Ok(())
}

fn heaps() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(folder.path(), &["heaps", "8000"], "", "resting")?;
    let found = inspect(program.pid())?;
    ensure_equal(&found, &program.stdout())?;
    let second = &list(&found["glibc"], "arenas")?[1];
    // 5333 blocks of 30 KB are 153 MiB.
    ensure!(list(&second["picture"], "heaps")?.len() >= 3, "{second}");
    let used: u64 = list(&second["picture"], "used")?
        .iter()
        .map(|used| used.as_u64().context("no number"))
        .sum::<Result<u64>>()?;
    let held =
        number(second, "in_use.bytes")? + number(second, "tcache.bytes")? + number(second, "fastbins.bytes")?;
    ensure!(used == held, "{used} in the picture, {held} counted");
    Ok(())
}

/// A program that has not used malloc has no arenas, and is told so; what one that has parks is counted.
fn parked() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(folder.path(), &["park", "0"], "", "parked")?;
    let found = inspect(program.pid())?;
    let mut notes = list(&found, "notes")?.iter().filter_map(Value::as_str);
    ensure!(
        found["glibc"].is_null() && notes.any(|note| note.contains("malloc has not been used")),
        "{found}"
    );
    let count = |arguments: &[&str]| -> Result<(u64, u64)> {
        let folder = TempDir::new()?;
        let program = start(folder.path(), arguments, "", "parked")?;
        let found = inspect(program.pid())?;
        let arena = &list(&found["glibc"], "arenas")?[0];
        ensure!(arena["consistent"] == true, "{arena}");
        Ok((number(arena, "tcache.blocks")?, number(arena, "tcache.bytes")?))
    };
    let (few, few_bytes) = count(&["park", "1"])?;
    let (many, many_bytes) = count(&["park", "7"])?;
    // Blocks of 777 bytes make 800 with header and alignment.
    ensure!((many - few, many_bytes - few_bytes) == (6, 6 * 800), "{many} {many_bytes} {few} {few_bytes}");
    Ok(())
}

/// Both in mount namespaces in which no debug file is to be found.
fn by_pattern() -> Result<()> {
    let hidden = |program: &Path| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", "mount -t tmpfs none /usr/lib/debug && exec \"$@\"", "sh"])
            .arg(program);
        command
    };
    std::fs::create_dir_all("/usr/lib/debug").context("no place to hide debug files in")?;
    let folder = TempDir::new()?;
    let program = wait(hidden(&Program::C("heap").compile()?), folder.path(), "resting")?;
    let mut command = hidden(heaptrace::binary()?);
    command.args(["inspect", &program.pid().to_string(), "--format", "json"]);
    let found = parse(command)?;
    ensure!(found["glibc"]["found_by"] == "pattern", "{}", found["glibc"]["found_by"]);
    ensure_equal(&found, &program.stdout())
}

fn running() -> Result<()> {
    let folder = TempDir::new()?;
    let mut program = start(folder.path(), &["run"], "", "running")?;
    for _ in 0..5 {
        let found = inspect(program.pid())?;
        for arena in list(&found["glibc"], "arenas")? {
            ensure!(arena["consistent"] == arena["problem"].is_null(), "{arena}");
            ensure!(number(arena, "attempts")? <= 10, "{arena}");
        }
        // The other thread's arena rests.
        let second = &list(&found["glibc"], "arenas")?[1];
        ensure!(second["consistent"] == true, "{second}");
    }
    ensure!(program.poll()?.is_none(), "the program ended");
    Ok(())
}

/// The tooltips of the picture lie over the arenas without a gap, and its file is written whole or not at all.
fn drawn() -> Result<()> {
    let folder = TempDir::new()?;
    let program = start(folder.path(), &["heaps", "8000"], "", "resting")?;
    let found = inspect(program.pid())?;
    let file = folder.path().join("heap.svg");
    let pid = program.pid().to_string();
    let mut command = heaptrace::command(&["inspect", &pid, "--format", "svg", "-o"])?;
    ensure!(command.arg(&file).status()?.success());
    let svg = std::fs::read_to_string(&file)?;
    ensure!(svg.len() < 400 << 10, "{} bytes", svg.len());
    let mut ranges = Vec::new();
    for title in svg.split("<title>").skip(1) {
        let (addresses, bytes) = title.split_once(": ").context("no addresses in a title")?;
        ensure!(bytes.contains("B in use") || bytes.contains("B free") || bytes.contains("B top"), "{bytes}");
        for range in addresses.split(" and ") {
            let (start, end) = range.split_once('-').context("no range")?;
            let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
            ranges.push((address(start)?, address(end)?));
        }
    }
    let mut heaps = Vec::new();
    for arena in list(&found["glibc"], "arenas")? {
        for heap in list(&arena["picture"], "heaps")? {
            let end = |index: usize| heap[index].as_u64().context("no address");
            heaps.push((end(0)?, end(1)?));
        }
    }
    let joined = |mut ranges: Vec<(u64, u64)>| {
        ranges.sort_unstable();
        ranges.into_iter().fold(Vec::<(u64, u64)>::new(), |mut joined, (start, end)| {
            match joined.last_mut() {
                Some(last) if last.1 == start => last.1 = end,
                _ => joined.push((start, end)),
            }
            joined
        })
    };
    let (drawn, heaps) = (joined(ranges), joined(heaps));
    ensure!(drawn == heaps, "{drawn:x?} drawn, not {heaps:x?}");
    Ok(())
}
