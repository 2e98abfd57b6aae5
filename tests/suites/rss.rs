//! What a recording says of resident memory is what the program says it made resident, and what the kernel counts.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    huge_pages::HugePages,
    live::{list, number},
    programs::{Program, installed},
    redis::Client,
    runner::{self, end_to_end},
    running::{PATIENCE, Running, wait_until, wait_while_running},
    session::Waiting,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};
use tempfile::TempDir;

const PAGE: u64 = 4096;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("each part is what the program made resident, and they sum to the RSS", parts),
        end_to_end("what is on huge pages that were set aside is in no part, and is told", on_huge_pages)
            .needing(HugePages::missing()),
        end_to_end("of a process that ended the last measurement is told, and how old it is", ended),
        end_to_end("of an allocator that cannot be read the rest is a bound", another_allocator),
        end_to_end("the parts of redis are what it says of its own memory", redis),
        end_to_end("--no-rss measures nothing", without),
    ])
}

/// The program at work, and what it says of itself.
struct Resident {
    waiting: Waiting,
    end: PathBuf,
}

impl Resident {
    fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, "")
    }

    fn start_with(folder: &Path, tunables: &str) -> Result<Self> {
        let (file, end) = (folder.join("mapped"), folder.join("end"));
        fs::write(&file, vec![7; 8 << 20])?;
        let mut command = Command::new(Program::C("resident").compile()?);
        command.env("RESIDENT_FILE", &file).env("RESIDENT_END", &end);
        if !tunables.is_empty() {
            command.env("GLIBC_TUNABLES", tunables);
        }
        Ok(Self { waiting: Waiting::start(command, folder)?, end })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    /// Lets it go on, and returns what it says once it rests.
    fn rest(&mut self) -> Result<BTreeMap<String, u64>> {
        self.waiting.go()?;
        let printed = self.waiting.target.stdout_file();
        wait_while_running(&mut self.waiting.target, "rest", || {
            fs::read_to_string(&printed).is_ok_and(|text| text.ends_with("resting\n"))
        })?;
        let said = self.waiting.target.stdout();
        let numbers = said.lines().filter_map(|line| line.split_once(' '));
        numbers.map(|(key, number)| Ok((key.to_owned(), number.parse()?))).collect()
    }
}

/// Section `rss` of the process in the recording of `folder`.
fn section(folder: &Path, pid: u32) -> Result<Value> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", path(&file)?, "--format", "json"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}: {said}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).context("the JSON cannot be read")?;
    let process = list(&report, "processes")?.iter().find(|process| process["pid"] == pid);
    Ok(process.context("the process is not in the report")?["rss"].clone())
}

fn path(file: &Path) -> Result<&str> {
    file.to_str().context("the temporary folder's name is not UTF-8")
}

/// `heaptrace report --view rss`.
fn text(folder: &Path) -> Result<String> {
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", path(&file)?, "--view", "rss"])?;
    ensure!(output.status.success(), "ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

fn part<'a>(section: &'a Value, kind: &str) -> Result<&'a Value> {
    let found = list(section, "parts")?.iter().find(|part| part["part"] == kind);
    found.with_context(|| format!("no part {kind} in {section}"))
}

/// Resident and virtual bytes of a part.
fn bytes(section: &Value, kind: &str) -> Result<(u64, u64)> {
    let part = part(section, kind)?;
    Ok((number(part, "resident_bytes")?, number(part, "virtual_bytes")?))
}

fn ensure_sum(section: &Value) -> Result<u64> {
    let parts = list(section, "parts")?;
    let sum: u64 = parts.iter().map(|part| number(part, "resident_bytes")).sum::<Result<u64>>()?;
    let rss = number(section, "rss_bytes")?;
    ensure!(sum == rss && rss > 0, "parts of {sum} bytes, RSS {rss}: {section}");
    for part in parts {
        let [least, value, most] =
            ["least_bytes", "resident_bytes", "most_bytes"].map(|key| number(part, key));
        ensure!((least?..=most?).contains(&value?), "{part}");
        ensure!(!part["why"].as_str().unwrap_or_default().is_empty(), "{part}");
    }
    Ok(rss)
}

fn ensure_within(what: &str, found: u64, least: u64, more: u64) -> Result<()> {
    ensure!((least..=least + more).contains(&found), "{what} is {found}, not {least} to {}", least + more);
    Ok(())
}

/// `key:` of /proc/PID/smaps_rollup, in bytes.
fn rollup(pid: u32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).context("no such line")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? << 10)
}

/// Holds the parts of the resting program against what it says.
fn ensure_parts(section: &Value, said: &BTreeMap<String, u64>) -> Result<()> {
    let of = |key: &str| said.get(key).copied().with_context(|| format!("the program says no {key}"));
    ensure!(section["allocator"] == "glibc" && section["allocator_read"] == true, "{section}");

    // To the byte. Of what was not touched, the page with the block's header is resident, but for the header.
    let (live, live_virtual) = bytes(section, "traced_live")?;
    ensure!(live_virtual == of("live")?, "{live_virtual} bytes live, {} by the ledger", of("live")?);
    ensure!(live == of("live")? - of("untouched")? + PAGE - 16, "{live} bytes live are resident: {said:?}");
    ensure!(part(section, "traced_live")?["how"] == "measured", "{section}");

    // Each block is rounded up to 8 to 23 bytes more, those with a mapping to a page; what the C library and threads
    // allocated comes on top.
    let (before, before_virtual) = bytes(section, "before_attach")?;
    let rounding = 24 * of("before_blocks")? + PAGE;
    ensure_within("before", before_virtual, of("before")?, rounding + (16 << 10))?;
    ensure_within("what of it is resident", before, of("before")?, rounding + (16 << 10))?;
    let why = part(section, "before_attach")?["why"].as_str().unwrap_or_default();
    ensure!(why.contains(&format!("{} more blocks from before", of("unknown_frees")?)), "{why}");

    // malloc's own count of what is in use, threads' caches among it.
    let (slack, slack_virtual) = bytes(section, "allocator_slack")?;
    let (free, free_virtual) = bytes(section, "allocator_free")?;
    let in_use = live_virtual + before_virtual + slack_virtual;
    ensure!(
        in_use.abs_diff(of("in_use")?) <= 16 << 10,
        "{in_use} bytes in use, {} by mallinfo2",
        of("in_use")?
    );
    ensure_within("slack", slack, of("live_blocks")? * 8, of("live_blocks")? * 16 + 2 * PAGE)?;

    let holes = of("free")?;
    ensure_within("free", free_virtual, holes, 3000 * 24 + (16 << 10))?;
    ensure_within("what of it is resident", free, holes, 3000 * 24 + (16 << 10))?;
    let (top, top_virtual) = bytes(section, "allocator_top")?;
    ensure!(top_virtual == of("top")? && top <= top_virtual, "top {top} {top_virtual}");
    ensure!((free_virtual + top_virtual).abs_diff(of("fordblks")?) <= 16 << 10, "{said:?}: {section}");

    // Each thread has some frames and its descriptor beside.
    ensure_within("stacks", bytes(section, "thread_stacks")?.0, of("stacks")?, 3 * (32 << 10))?;
    // The program and its libraries are files, too, and each has .bss.
    ensure_within("files", bytes(section, "file_backed")?.0, of("file")? - of("copied")?, 4 << 20)?;
    ensure_within(
        "copies",
        number(part(section, "file_copied")?, "resident_bytes")?,
        of("copied")?,
        256 << 10,
    )?;
    ensure_within("anonymous", bytes(section, "other_anonymous")?.0, of("anonymous")?, 256 << 10)?;
    ensure!(bytes(section, "shared")? == (of("shared")?, of("shared")?), "{section}");
    Ok(())
}

/// Of two processes: where malloc's state is, is found in the first, and known in the second.
fn parts() -> Result<()> {
    let (folder, other) = (TempDir::new()?, TempDir::new()?);
    let mut program = Resident::start(folder.path())?;
    let mut second = Resident::start(other.path())?;
    let mut recorder = heaptrace::attach(&[program.pid(), second.pid()], &[], folder.path())?;
    let said = program.rest()?;
    let said_by_second = second.rest()?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    let of_second = section(folder.path(), second.pid())?;
    ensure_sum(&of_second)?;
    ensure_parts(&of_second, &said_by_second)?;
    let section = section(folder.path(), program.pid())?;
    let rss = ensure_sum(&section)?;
    // It rests, so the kernel says the same now; but it takes back the pages of files that it likes to.
    let now = rollup(program.pid(), "Rss")?;
    ensure!(rss.abs_diff(now) <= 64 << 10, "RSS {rss}, {now} by the kernel");
    ensure_parts(&section, &said)?;
    let (text, pid) = (text(folder.path())?, program.pid());
    for words in
        [format!("resident:{pid}: "), "the end; it was running".into(), "glibc's heap was read".into()]
    {
        ensure!(text.contains(&words), "no {words:?} in\n{text}");
    }
    ensure!(program.waiting.target.poll()?.is_none(), "the program ended");
    Ok(())
}

/// All of glibc's heap is, by its tunable.
fn on_huge_pages() -> Result<()> {
    const HUGE: u64 = 2 << 20;
    let _pool = HugePages::set_aside(64)?;
    let folder = TempDir::new()?;
    let mut program = Resident::start_with(folder.path(), "glibc.malloc.hugetlb=2")?;
    let mut recorder = heaptrace::attach(&[program.pid()], &[], folder.path())?;
    let said = program.rest()?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    let of = |key: &str| said.get(key).copied().with_context(|| format!("the program says no {key}"));

    let section = section(folder.path(), program.pid())?;
    ensure_sum(&section)?;
    ensure!(section["allocator"] == "glibc" && section["allocator_read"] == true, "{section}");
    ensure!(bytes(&section, "traced_live")? == (0, of("live")?), "{section}");
    ensure!(part(&section, "traced_live")?["how"] == "measured", "{section}");
    for kind in ["before_attach", "allocator_slack", "allocator_free", "allocator_top"] {
        ensure!(bytes(&section, kind)?.0 == 0, "{kind}: {section}");
    }
    // The largest of them has pages of its own.
    let (_, before) = bytes(&section, "before_attach")?;
    ensure_within("before", before, of("before")?, HUGE + 24 * of("before_blocks")? + PAGE + (16 << 10))?;
    // What the program mapped itself is not on huge pages, and is not taken for malloc's.
    ensure_within("anonymous", bytes(&section, "other_anonymous")?.0, of("anonymous")?, 256 << 10)?;

    let (all, there) = huge_mappings(program.pid())?;
    ensure!(
        there >= of("in_use")? + of("fordblks")? - of("untouched")? - 8 * HUGE,
        "{there} bytes: {said:?}"
    );
    let told = ["hugetlb_bytes", "heap_hugetlb_bytes", "untouched_bytes"].map(|key| number(&section, key));
    let [on_huge, of_heap, untouched] = told;
    ensure!((on_huge?, of_heap?, untouched?) == (there, there, all - there), "{all} {there}: {section}");
    let text = text(folder.path())?;
    for words in
        ["are on huge pages that were set aside (hugetlb), which are in no RSS", "of them with the heap"]
    {
        ensure!(text.contains(words), "no {words:?} in\n{text}");
    }
    Ok(())
}

/// Bytes of the mappings on such pages, and of them those that there are pages for.
fn huge_mappings(pid: u32) -> Result<(u64, u64)> {
    let (mut all, mut there, mut huge) = (0, 0, false);
    for line in fs::read_to_string(format!("/proc/{pid}/smaps"))?.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next());
        let number = || -> Result<u64> { Ok(second.context("no number")?.parse::<u64>()? << 10) };
        match first {
            "Size:" if huge => all += number()?,
            "Private_Hugetlb:" => there += number()?,
            _ if first.contains('-') => huge = line.contains("/anon_hugepage"),
            _ => {}
        }
    }
    Ok((all, there))
}

fn ended() -> Result<()> {
    let folder = TempDir::new()?;
    let mut program = Resident::start(folder.path())?;
    let mut recorder = heaptrace::attach(&[program.pid()], &[], folder.path())?;
    let said = program.rest()?;
    // The recording can be read while it is written: until a measurement of the resting program is in it.
    wait_until(PATIENCE, || {
        let pid = program.pid();
        Ok(section(folder.path(), pid).is_ok_and(|section| ensure_parts(&section, &said).is_ok()))
    })
    .context("no measurement of the program at rest was written")?;
    fs::write(&program.end, "")?;
    program.waiting.target.wait()?;
    heaptrace::finish(&mut recorder)?;

    let section = section(folder.path(), program.pid())?;
    ensure_sum(&section)?;
    ensure_parts(&section, &said)?;
    ensure!(section["before_end_s"].as_f64().is_some_and(|age| age > 0.0), "{section}");
    let text = text(folder.path())?;
    ensure!(text.contains("before the end; it ended since"), "{text}");
    Ok(())
}

fn another_allocator() -> Result<()> {
    let folder = TempDir::new()?;
    let library = installed("libjemalloc.so.2", &["/usr/lib/x86_64-linux-gnu"])?;
    let changed = folder.path().join("libjemalloc.so.2");
    let mut bytes = fs::read(library)?;
    // A version that is not known.
    let versions: Vec<usize> =
        bytes.windows(9).enumerate().filter(|(_, w)| *w == b"5.3.0-0-g").map(|(at, _)| at).collect();
    ensure!(!versions.is_empty(), "the installed jemalloc is no 5.3.0");
    versions.iter().for_each(|at| bytes[at + 2] = b'9');
    fs::write(&changed, bytes)?;
    let mut command = Command::new(Program::C("jemalloc").compile()?);
    command.env("LD_PRELOAD", &changed);
    let mut program = Running::spawn(command, "program", folder.path())?;
    let printed = program.stdout_file();
    wait_while_running(&mut program, "rest", || {
        fs::read_to_string(&printed).is_ok_and(|text| text.contains("resting\n"))
    })?;
    let mut recorder = heaptrace::attach(&[program.pid()], &[], folder.path())?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    let section = section(folder.path(), program.pid())?;
    ensure_sum(&section)?;
    ensure!(section["allocator"] == "jemalloc" && section["allocator_read"] == false, "{section}");
    let rest = part(&section, "undivided")?;
    ensure!(rest["how"] == "bound", "{rest}");
    ensure!(rest["why"].as_str().is_some_and(|why| why.contains("layout of jemalloc 5.9.0")), "{rest}");
    ensure!(part(&section, "before_attach").is_err(), "{section}");
    Ok(())
}

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
    fill(&mut client, "before", 3000)?;
    let before = allocated(&mut client)?;
    let mut recorder = heaptrace::attach(&[redis.pid()], &[], folder.path())?;
    fill(&mut client, "after", 5000)?;
    let after = allocated(&mut client)?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;

    let section = section(folder.path(), redis.pid())?;
    ensure_sum(&section)?;
    ensure!(section["allocator"] == "jemalloc" && section["allocator_read"] == true, "{section}");
    let virtual_bytes = |kind: &str| Ok::<_, anyhow::Error>(bytes(&section, kind)?.1);
    let (live, slack) = (virtual_bytes("traced_live")?, virtual_bytes("allocator_slack")?);
    let old = virtual_bytes("before_attach")?;
    // Keys of before are resized and rehashed while tracing, and answers are buffered: within 2 %.
    let near = |what: &str, ours: u64, said: u64| {
        ensure!(ours.abs_diff(said) <= said / 50, "{what}: {ours}, {said} by redis: {section}");
        Ok(())
    };
    near("in use", live + slack + old, after)?;
    // The table of keys of before is replaced.
    near("before", old, before)?;
    ensure!(live >= 5000 * 2001, "{section}");
    ensure!(part(&section, "undivided").is_err(), "{section}");
    Ok(())
}

/// Bytes in blocks by jemalloc, with what redis does not count itself (Lua). redis asks jemalloc now and then: until what
/// it was told is not less than its own count.
fn allocated(client: &mut Client<UnixStream>) -> Result<u64> {
    let mut allocated = 0;
    wait_until(PATIENCE, || {
        allocated = client.memory("allocator_allocated")?;
        Ok(allocated >= client.memory("used_memory")?)
    })?;
    Ok(allocated)
}

fn fill(client: &mut Client<UnixStream>, name: &str, keys: usize) -> Result<()> {
    let value = "v".repeat(2001);
    for key in 0..keys {
        let reply = client.call(&["SET", &format!("{name}:{key}"), &value])?;
        ensure!(reply == "+OK", "redis answers {reply}");
    }
    Ok(())
}

fn without() -> Result<()> {
    let folder = TempDir::new()?;
    let mut program = Resident::start(folder.path())?;
    let mut recorder = heaptrace::attach(&[program.pid()], &["--no-rss"], folder.path())?;
    program.rest()?;
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)?;
    ensure!(section(folder.path(), program.pid())?.is_null());
    let text = text(folder.path())?;
    ensure!(text.contains("# Not measured: resident:") && text.contains("--no-rss"), "{text}");
    Ok(())
}
