//! heaptrace and a judge on the same calls: the judged build of heaptrace adds up what its BPF programs account, by
//! function and with addresses, and a session of uprobes at entry and return of each function (kernel 6.13) counts the
//! same calls by itself. Both are of the crate `heaptrace-judged`; the program that users run has neither.

use crate::{bpf, heaptrace, programs, running::Running};
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    io::Error,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// How many, bytes, and a sum over each one's address and size.
pub type Tally = [u64; 3];

/// What is said of one function's calls.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Row {
    /// Blocks that it gave.
    pub allocated: Tally,
    /// Blocks that it ended.
    pub freed: Tally,
    /// The same of blocks that were not seen to be given.
    pub unknown: Tally,
    /// Calls that gave no memory.
    pub failed: u64,
}

/// By function.
pub type Table = BTreeMap<String, Row>;

/// What the judge says.
#[derive(Debug, Deserialize)]
pub struct Judgement {
    pub functions: Table,
    /// Calls within other calls.
    pub nested: u64,
    /// Calls that did not end by returning.
    pub left: u64,
    /// Returns of no known call.
    pub unpaired: u64,
    /// Frees that the allocator made for itself.
    pub own: u64,
    /// What found no room.
    pub full: u64,
    /// Calls that had not returned when their process ended.
    pub under_way: BTreeMap<String, u64>,
}

/// Why there can be no judge here; `None` if there can.
pub fn unavailable() -> Option<String> {
    // With BPF refused altogether, that is said instead.
    if bpf::unavailable().is_some() || has_sessions() {
        return None;
    }
    Some("the kernel has no uprobe sessions (Linux 6.13)".to_owned())
}

/// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_KPROBE: u64 = 2;
const BPF_TRACE_UPROBE_SESSION: u64 = 57;

/// A folder cannot be probed: a kernel that knows sessions says so, another one that it does not know the type
/// (`bpf_uprobe_multi_link_attach`, kernel/trace/bpf_trace.c).
fn has_sessions() -> bool {
    // r0 = 0; exit
    let instructions = [0xb7u64, 0x95];
    let mut load = [0u64; 16];
    load[0] = BPF_PROG_TYPE_KPROBE | (instructions.len() as u64) << 32;
    load[1] = instructions.as_ptr() as u64;
    load[2] = c"GPL".as_ptr() as u64;
    // expected_attach_type is at byte 68.
    load[8] = BPF_TRACE_UPROBE_SESSION << 32;
    // SAFETY: the attribute and what it points at outlive the call.
    let program = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, load.as_ptr(), size_of_val(&load)) };
    if program < 0 {
        return false;
    }
    let offset = 0u64;
    let link = [
        program as u64,
        BPF_TRACE_UPROBE_SESSION,
        c"/".as_ptr() as u64,
        &raw const offset as u64,
        0,
        0,
        1,
        0,
    ];
    // SAFETY: as above.
    let made = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, link.as_ptr(), size_of_val(&link)) };
    let error = Error::last_os_error();
    // SAFETY: made above, and nobody else knows it.
    unsafe { libc::close(program as i32) };
    made < 0 && error.raw_os_error() == Some(libc::EBADF)
}

/// A program of the crate `heaptrace-judged`; builds it on first use.
fn binary(name: &str) -> Result<&'static Path> {
    static BINARIES: OnceLock<Result<Vec<PathBuf>, String>> = OnceLock::new();
    let found =
        BINARIES.get_or_init(|| heaptrace::build("heaptrace-judged").map_err(|error| format!("{error:#}")));
    let all = found.as_ref().map_err(|error| anyhow!("{error}"))?;
    let binary = all.iter().find(|path| path.file_name().is_some_and(|file| file == name));
    Ok(binary.with_context(|| format!("cargo named no {name}"))?)
}

/// A folder with C libraries and allocators that nobody but a test's own programs maps: the judge and heaptrace are at
/// files, so that each child is seen from its first call.
pub struct Libraries(PathBuf);

impl Libraries {
    /// Those of the machine that `program` is linked with.
    pub fn of(program: &Path, folder: &Path) -> Result<Self> {
        const ALLOCATORS: [&str; 4] = ["libc.so", "libtcmalloc", "libjemalloc", "libmimalloc"];
        let own = folder.join("lib");
        fs::create_dir_all(&own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o755))?;
        let output = Command::new(program).env("LD_TRACE_LOADED_OBJECTS", "1").output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some((name, rest)) = line.trim().split_once(" => ") else { continue };
            let Some((path, _)) = rest.split_once(" (") else { continue };
            if ALLOCATORS.iter().any(|prefix| name.starts_with(prefix)) {
                programs::copy(Path::new(path), &own.join(name))?;
            }
        }
        ensure!(own.join("libc.so.6").exists(), "{} is not linked with libc", program.display());
        Ok(Self(own))
    }

    /// Those that are preloaded in a process that maps all of them.
    fn allocators(&self) -> Result<OsString> {
        let names = fs::read_dir(&self.0)?.map(|entry| entry.map(|entry| entry.file_name()));
        let names: Vec<OsString> = names.collect::<Result<_, _>>()?;
        let others = names.into_iter().filter(|name| !name.to_string_lossy().starts_with("libc.so"));
        Ok(others.collect::<Vec<_>>().join(":".as_ref()))
    }
}

/// The judge at work.
pub struct Judge(Running);

impl Judge {
    /// Judges the functions that heaptrace probes in `libraries`.
    pub fn start(libraries: &Libraries, folder: &Path) -> Result<Self> {
        let diagnosis = folder.join("diagnosis");
        fs::write(&diagnosis, diagnose(libraries, folder)?)?;
        let mut command = Command::new(binary("heaptrace-judge")?);
        command.arg(diagnosis);
        let mut judge = Running::spawn(command, "judge", folder)?;
        judge.wait_for_line("judging")?;
        Ok(Self(judge))
    }

    pub fn finish(mut self) -> Result<Judgement> {
        self.0.signal(libc::SIGINT)?;
        ensure!(self.0.wait()?.success(), "{}", self.0.describe("failed"));
        serde_json::from_str(&self.0.stdout()).context("the judgement is not as documented")
    }
}

/// What heaptrace says of a process that does nothing and has the same libraries.
fn diagnose(libraries: &Libraries, folder: &Path) -> Result<Vec<u8>> {
    let mut command = Command::new(programs::installed("sleep", &["/usr/bin", "/bin"])?);
    command.arg("90").env("LD_LIBRARY_PATH", &libraries.0).env("LD_PRELOAD", libraries.allocators()?);
    let mut sample = Running::spawn(command, "sample", folder)?;
    let pid = sample.pid().to_string();
    // Until the dynamic linker is done it maps less.
    crate::running::wait_while_running(&mut sample, "sleep", || {
        fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|place| place.contains("nanosleep"))
    })?;
    let output = heaptrace::output(&["doctor", &pid, "--format", "json"])?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).context("doctor says nothing")?;
    let probes = said["process"]["probes"].as_array().context("doctor says nothing of probes")?;
    for probe in probes {
        let path = Path::new(probe["path"].as_str().unwrap_or_default());
        ensure!(path.starts_with(&libraries.0), "{} is not this test's own", path.display());
    }
    ensure!(!probes.is_empty(), "nothing is probed");
    Ok(output.stdout)
}

/// Starts the judged heaptrace on `line`, whose programs have `libraries`.
pub fn record(line: &[OsString], libraries: &Libraries, folder: &Path) -> Result<Running> {
    let mut command = Command::new(binary("heaptrace-judged")?);
    command
        .args(["record", "--propagate-exit", "-o"])
        .arg(heaptrace::record_file(folder))
        .arg("--")
        .args(line)
        .current_dir(folder)
        .env("HEAPTRACE_LIBRARIES", &libraries.0)
        .env("HEAPTRACE_TALLIES", folder.join("tallies"))
        .env("STEADY_END", end_file(folder));
    Running::spawn(command, "heaptrace", folder)
}

/// What heaptrace's BPF programs added up.
pub fn tallies(folder: &Path) -> Result<Table> {
    let text = fs::read(folder.join("tallies")).context("heaptrace left no tallies")?;
    serde_json::from_slice(&text).context("the tallies are not as documented")
}

/// The command that `recorder` runs, once it has become `program`: before that it is a fork of heaptrace, and there are others.
pub fn command_of(recorder: &mut Running, program: &Path) -> Result<u32> {
    let program =
        fs::canonicalize(program).with_context(|| format!("failed to find {}", program.display()))?;
    let parent = recorder.pid();
    let is_it = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
    let mut child = None;
    crate::running::wait_while_running(recorder, "start its command", || {
        child = children(parent).into_iter().find(is_it);
        child.is_some()
    })?;
    child.context("there is no child")
}

fn children(parent: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
        fields.and_then(|mut fields| fields.nth(1)?.parse().ok()) == Some(parent)
    };
    pids.filter(has_parent).collect()
}

/// Fails unless both say the same of every function; gives lines that say what that is.
pub fn compare(judgement: &Judgement, tallies: &Table) -> Result<String> {
    let Judgement { functions, nested: _, left: _, unpaired, own: _, full, under_way } = judgement;
    ensure!(*unpaired == 0 && *full == 0, "the judge has lost its way: {judgement:?}");
    ensure!(under_way.is_empty(), "calls were under way at the end of their process: {under_way:?}");
    let (expected, found) = (merged(functions), merged(tallies));
    let mut lines = String::new();
    let mut equal = true;
    for function in expected.keys().chain(found.keys().filter(|name| !expected.contains_key(*name))) {
        let row = |table: &Table| table.get(function).cloned().unwrap_or_default();
        let (judge, heaptrace) = (row(&expected), row(&found));
        if judge == heaptrace {
            let Row { allocated, freed, unknown, failed } = judge;
            let say = |[count, bytes, sum]: Tally| format!("{count} of {bytes} B ({sum:016x})");
            lines += &format!("  {function}: gave {}, ended {}", say(allocated), say(freed));
            lines += &format!(", and {} unknown; {failed} failed\n", unknown[0]);
        } else {
            equal = false;
            lines += &format!("  {function} DIFFERS\n    judge     {judge:?}\n    heaptrace {heaptrace:?}\n");
        }
    }
    if !equal {
        bail!("heaptrace and the judge differ\n{lines}");
    }
    Ok(lines)
}

/// With the frees of `realloc` and `reallocarray` added up: where a block ends within free, heaptrace does not tell which
/// of them has ended it.
fn merged(table: &Table) -> Table {
    let mut merged = table.clone();
    if let Some(array) = merged.get_mut("reallocarray") {
        let (freed, unknown) = (std::mem::take(&mut array.freed), std::mem::take(&mut array.unknown));
        let to = merged.entry("realloc".to_owned()).or_default();
        add(&mut to.freed, freed);
        add(&mut to.unknown, unknown);
    }
    merged
}

fn add(to: &mut Tally, [count, bytes, sum]: Tally) {
    *to = [to[0] + count, to[1] + bytes, to[2].wrapping_add(sum)];
}

/// Where the judged programs look for the word to end.
pub fn end_file(folder: &Path) -> PathBuf {
    folder.join("end")
}

/// Whether `HEAPTRACE_JUDGE_ROUNDS` says how often probes are placed and taken away, else `usual`.
pub fn rounds(usual: u32) -> u32 {
    env::var("HEAPTRACE_JUDGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}
