//! Reads /proc: thin functions over the parsers, with errors that tell a process that is gone from one that may
//! not be looked at.

#![expect(clippy::disallowed_methods, reason = "what is read here is bounded, and of the kernel's making")]

use super::{
    foreign, maps,
    patience::{self, Beating},
    stat, statm, status,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// A failure to learn something of a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcError {
    /// The process exited, before or while it was read.
    #[error("process {pid} is gone ({} cannot be read any more)", file.display())]
    Gone { pid: u32, file: PathBuf },
    #[error("not permitted to read {}; run as root, or with CAP_SYS_PTRACE", file.display())]
    Denied { file: PathBuf },
    #[error("{} was not read: {source}", file.display())]
    Stuck { file: PathBuf, source: io::Error },
    #[error("failed to read {}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("unexpected contents of {}", file.display())]
    Malformed { file: PathBuf },
}

impl ProcError {
    /// Sorts `source`, the failure to read `file` of process `pid`.
    pub fn new(pid: u32, file: PathBuf, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Denied { file },
            io::ErrorKind::NotFound => Self::Gone { pid, file },
            io::ErrorKind::TimedOut => Self::Stuck { file, source },
            _ if source.raw_os_error() == Some(libc::ESRCH) => Self::Gone { pid, file },
            _ => Self::Io { file, source },
        }
    }

    /// Whether the process exited.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }
}

/// A process, told from a later one with the same PID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub pid: u32,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// The path of `file` in /proc of process `pid`.
pub fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

/// Bytes of `maps` and `smaps`: a million mappings of a hundred bytes. A process chooses how many it has, and their names.
const MOST_MAPPINGS: u64 = 128 << 20;

/// Bytes of what else is read whole; 65,536 groups in `status` (NGROUPS_MAX) take less.
const MOST: u64 = 1 << 20;

/// Bytes of a process's arguments. Where they lie is the process's choice (PR_SET_MM_ARG_START, prctl(2)), and so how many.
const MOST_ARGUMENTS: u64 = 64 << 10;

/// Bytes of an environment that exec(2) takes: 3/4 of `_STK_LIM` (fs/exec.c, `bprm_set_stack_limit`).
const MOST_ENVIRONMENT: u64 = 6 << 20;

/// A file of a process, whole. Errors where it is longer than any should be.
pub fn read(pid: u32, file: &str) -> Result<Vec<u8>, ProcError> {
    let path = path(pid, file);
    let most = if file.ends_with("maps") { MOST_MAPPINGS } else { MOST };
    let opened = path.clone();
    let read = move || File::open(opened).and_then(|opened| foreign::read_bounded(Beating(opened), most));
    let name = file.rsplit('/').next().unwrap_or(file);
    let contents = if OWN.contains(&name) { read() } else { patience::look(pid, read).flatten() };
    contents.map_err(|source| ProcError::new(pid, path, source))
}

/// Files for which the kernel looks at nothing of a process's memory, and waits for no lock of it.
const OWN: [&str; 5] = ["stat", "statm", "status", "comm", "cgroup"];

/// The first bytes of a file of a process, at most `most`.
fn read_start(pid: u32, file: &str, most: u64) -> Result<Vec<u8>, ProcError> {
    let path = path(pid, file);
    let opened = path.clone();
    let read = move || {
        let mut contents = Vec::new();
        Beating(File::open(opened)?).take(most).read_to_end(&mut contents)?;
        Ok(contents)
    };
    patience::look(pid, read).flatten().map_err(|source| ProcError::new(pid, path, source))
}

fn link(pid: u32, file: &str) -> Result<PathBuf, ProcError> {
    let path = path(pid, file);
    fs::read_link(&path).map_err(|source| ProcError::new(pid, path, source))
}

/// Opens a file of a process (or of one of its threads) that is read in parts: `mem`, `pagemap`.
pub fn open(pid: u32, file: &str) -> io::Result<File> {
    File::open(path(pid, file))
}

/// Whether there is such a process, which may have ended otherwise.
pub fn exists(pid: u32) -> bool {
    path(pid, "").exists()
}

/// Of the file that a process runs, wherever that is by now.
pub fn exe_metadata(pid: u32) -> io::Result<Metadata> {
    patience::look(pid, move || fs::metadata(path(pid, "exe"))).flatten()
}

/// The mappings of a process, in order of address.
pub fn read_maps(pid: u32) -> Result<Vec<maps::Mapping>, ProcError> {
    Ok(maps::parse(&read(pid, "maps")?))
}

/// The same, whole: what is missing was not mapped at some moment meanwhile. An address that is mapped all the time is in
/// what is read, however long that takes (Documentation/filesystems/proc.rst), unless the memory as a whole goes away: then
/// there is nothing to be read from the same descriptor afterwards (`m_start`, fs/proc/task_mmu.c). `None` if it did.
pub fn read_whole_maps(pid: u32) -> Result<Option<Vec<maps::Mapping>>, ProcError> {
    // A first thread that has exited has no memory any more (none to open, on newer kernels), and others may go on with it.
    let of_thread = |thread| path(pid, &format!("task/{thread}/maps"));
    let first = read_lasting(pid, &path(pid, "maps"));
    let mut rest = Vec::new();
    if matches!(&first, Ok(None)) || first.as_ref().is_err_and(ProcError::is_gone) {
        rest = threads(pid)?;
    }
    let others = rest.into_iter().filter(|thread| *thread != pid);
    let all = std::iter::once(first).chain(others.map(|thread| read_lasting(pid, &of_thread(thread))));
    for read in all {
        match read {
            Ok(None) => {}
            Err(error) if error.is_gone() => {}
            read => return read,
        }
    }
    Ok(None)
}

fn read_lasting(pid: u32, file: &Path) -> Result<Option<Vec<maps::Mapping>>, ProcError> {
    let opened = file.to_owned();
    let read = move || {
        let maps = File::open(opened)?;
        let contents = foreign::read_bounded(Beating(&maps), MOST_MAPPINGS)?;
        let lasts = maps.read_at(&mut [0; 64], 0)? > 0;
        let mappings = maps::parse(&contents);
        // The parser leaves out what it does not understand.
        let understood = contents.iter().filter(|byte| **byte == b'\n').count() == mappings.len();
        Ok((lasts && understood && !mappings.is_empty()).then_some(mappings))
    };
    patience::look(pid, read).flatten().map_err(|source| ProcError::new(pid, file.to_owned(), source))
}

/// /proc/PID/stat of a process.
pub fn read_stat(pid: u32) -> Result<stat::Stat, ProcError> {
    stat::parse(&read(pid, "stat")?).ok_or_else(|| ProcError::Malformed { file: path(pid, "stat") })
}

/// /proc/PID/statm of a process.
pub fn read_statm(pid: u32) -> Result<statm::Statm, ProcError> {
    statm::parse(&read(pid, "statm")?).ok_or_else(|| ProcError::Malformed { file: path(pid, "statm") })
}

/// The process's arguments as it has them now, each with a NUL behind it, the first 64 KiB; empty for a kernel thread.
pub fn arguments(pid: u32) -> Result<Vec<u8>, ProcError> {
    read_start(pid, "cmdline", MOST_ARGUMENTS)
}

/// The same as a text with blanks between them.
pub fn command_line(pid: u32) -> Result<String, ProcError> {
    let bytes = arguments(pid)?;
    let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    Ok(words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" "))
}

/// The process's cgroup (v2), from the root of those we see; `None` where there is none.
pub fn cgroup(pid: u32) -> Result<Option<String>, ProcError> {
    let text = read(pid, "cgroup")?;
    let mut lines = text.split(|byte| *byte == b'\n');
    // cgroups(7): hierarchy 0 is version 2's.
    Ok(lines
        .find_map(|line| line.strip_prefix(b"0::"))
        .map(|path| String::from_utf8_lossy(path).into_owned()))
}

/// /proc/PID/status of a process.
pub fn read_status(pid: u32) -> Result<status::Status, ProcError> {
    Ok(status::parse(&read(pid, "status")?))
}

/// The process that has PID `pid` now.
pub fn identity(pid: u32) -> Result<Identity, ProcError> {
    Ok(Identity { pid, start_time: read_stat(pid)?.start_time })
}

/// The process's name: at most 15 bytes, not necessarily of its file.
pub fn comm(pid: u32) -> Result<String, ProcError> {
    let mut comm = String::from_utf8_lossy(&read(pid, "comm")?).into_owned();
    comm.truncate(comm.trim_end_matches('\n').len());
    Ok(comm)
}

/// The executable's path as the process sees it, without the kernel's " (deleted)".
pub fn exe(pid: u32) -> Result<PathBuf, ProcError> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let exe = link(pid, "exe")?;
    let bytes = exe.as_os_str().as_bytes();
    Ok(Path::new(OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes))).to_owned())
}

/// Resident set size in bytes.
pub fn rss_bytes(pid: u32) -> Result<u64, ProcError> {
    Ok(read_stat(pid)?.rss_pages.saturating_mul(page_size()))
}

/// Nanoseconds in so many of the clock ticks that `stat` has.
pub fn ticks_ns(ticks: u64) -> u64 {
    ticks.saturating_mul(1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// Bytes in a page.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// One variable of the environment that the process was started with.
pub fn initial_environment_variable(pid: u32, name: &str) -> Result<Option<Vec<u8>>, ProcError> {
    let environment = read_start(pid, "environ", MOST_ENVIRONMENT)?;
    let mut variables = environment.split(|byte| *byte == 0);
    Ok(variables
        .find_map(|variable| variable.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec)))
}

/// The IDs of a process's threads, in ascending order.
pub fn threads(pid: u32) -> Result<Vec<u32>, ProcError> {
    numbers(&path(pid, "task")).map_err(|source| ProcError::new(pid, path(pid, "task"), source))
}

/// By way of which thread the memory of a process is to be looked at: its first has none any more once it has exited, and
/// others may go on.
pub fn thread_with_memory(pid: u32) -> u32 {
    if is_running(pid, pid) {
        return pid;
    }
    other_threads(pid).into_iter().find(|thread| is_running(pid, *thread)).unwrap_or(pid)
}

/// A process's threads but its first, as far as can be told.
pub fn other_threads(pid: u32) -> Vec<u32> {
    let mut threads = threads(pid).unwrap_or_default();
    threads.retain(|thread| *thread != pid);
    threads
}

/// Whether a thread has not ended, as far as can be told.
pub fn is_running(pid: u32, thread: u32) -> bool {
    let contents = read(pid, &format!("task/{thread}/stat"));
    contents.is_ok_and(|contents| stat::parse(&contents).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X')))
}

/// The PIDs of all processes, in ascending order.
pub fn all_pids() -> Result<Vec<u32>, ProcError> {
    let file = PathBuf::from("/proc");
    numbers(&file).map_err(|source| ProcError::Io { file, source })
}

fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// `CLOCK_MONOTONIC` in nanoseconds, as the BPF side's `bpf_ktime_get_ns`.
pub fn monotonic_ns() -> u64 {
    clock_ns(ClockId::Monotonic)
}

/// What `CLOCK_MONOTONIC` was so many nanoseconds after the Unix epoch; 0 if that was before the machine started.
pub fn monotonic_ns_at(unix_ns: i64) -> u64 {
    let ago_ns = clock_ns(ClockId::Realtime).saturating_sub(u64::try_from(unix_ns).unwrap_or(0));
    monotonic_ns().saturating_sub(ago_ns)
}

fn clock_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Whether the process that has PID `pid` now began at that time of `CLOCK_MONOTONIC` or before. What was read of /proc/PID before
/// this was asked is then of a process that was there at that time, which the PID's holder then was.
pub fn began_by(pid: u32, monotonic_ns: u64) -> bool {
    // Clock ticks are rounded down (proc_pid_stat(5)), and count while the machine is suspended.
    let began_ns = |of: Identity| ticks_ns(of.start_time);
    let suspended_ns = clock_ns(ClockId::Boottime).saturating_sub(self::monotonic_ns());
    identity(pid).is_ok_and(|of| began_ns(of).saturating_sub(suspended_ns) <= monotonic_ns)
}

/// Where the stacks of threads are that wait in a system call; running ones don't say.
pub fn stack_pointers(pid: u32) -> Vec<u64> {
    let pointer = |thread: u32| {
        let call = String::from_utf8(read(pid, &format!("task/{thread}/syscall")).ok()?).ok()?;
        // number, six arguments, sp, pc; or -1, sp, pc (proc_pid_syscall(5)).
        let words: Vec<&str> = call.split_ascii_whitespace().collect();
        let sp = words.len().checked_sub(2).and_then(|at| words[at].strip_prefix("0x"))?;
        u64::from_str_radix(sp, 16).ok()
    };
    threads(pid).unwrap_or_default().into_iter().filter_map(pointer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    use std::time::Duration;

    #[test]
    fn we_are_found_with_our_threads_and_our_parent() {
        let me = std::process::id();
        assert_eq!(identity(me).expect("identity").pid, me);
        assert!(all_pids().expect("pids").contains(&me));
        assert!(threads(me).expect("threads").contains(&me));
        assert_eq!(exe(me).expect("exe"), std::env::current_exe().expect("exe"));
        assert!(rss_bytes(me).expect("rss") > 4096);
        assert!(!comm(me).expect("comm").contains('\n'));
        assert!(read_status(me).expect("status").threads >= 1);
    }

    #[test]
    fn a_process_that_exited_is_gone_and_not_an_error_of_another_kind() {
        let mut child = std::process::Command::new("true").spawn().expect("true");
        let pid = child.id();
        child.wait().expect("wait");
        assert!(read_maps(pid).expect_err("gone").is_gone());
        assert!(identity(pid).expect_err("gone").is_gone());
        assert!(threads(pid).expect_err("gone").is_gone());
    }

    #[test]
    fn whole_mappings_are_those_that_are_there_and_none_of_what_has_ended() {
        let mappings = read_whole_maps(std::process::id()).expect("maps").expect("our memory is there");
        let here = (&raw const mappings) as u64;
        assert!(mappings.iter().any(|mapping| (mapping.start..mapping.end).contains(&here)));
        let mut child = std::process::Command::new("true").spawn().expect("true");
        // It is left to be waited for.
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), how).expect("it ends");
        assert_eq!(read_whole_maps(child.id()).expect("a zombie can be looked at"), None);
        child.wait().expect("wait");
        assert!(read_whole_maps(child.id()).expect_err("gone").is_gone());
    }

    #[test]
    fn a_process_is_told_from_one_that_had_its_pid_before() {
        // Longer than a clock tick.
        let before_ns = monotonic_ns() - 50_000_000;
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        assert!(began_by(child.id(), monotonic_ns()));
        assert!(!began_by(child.id(), before_ns));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time");
        let at = |ago: Duration| monotonic_ns_at((now - ago).as_nanos() as i64);
        assert!(began_by(child.id(), at(Duration::ZERO)));
        assert!(!began_by(child.id(), at(Duration::from_secs(60))) && !began_by(child.id(), at(now)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(!began_by(child.id(), monotonic_ns()), "gone");
    }

    #[test]
    fn errors_say_what_to_do() {
        let denied = ProcError::new(7, path(7, "maps"), io::Error::from_raw_os_error(libc::EACCES));
        assert_eq!(
            denied.to_string(),
            "not permitted to read /proc/7/maps; run as root, or with CAP_SYS_PTRACE"
        );
        let gone = ProcError::new(7, path(7, "maps"), io::Error::from_raw_os_error(libc::ESRCH));
        assert!(gone.is_gone());
    }

    #[test]
    fn the_initial_environment_is_readable() {
        use std::io::{Read as _, Write as _};
        use std::process::{Command, Stdio};
        let mut cat = Command::new("cat");
        let mut child = cat
            .env("HT_TEST_VARIABLE", "a=b")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cat");
        let (mut input, mut output) =
            (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        // The kernel wakes us before it has laid out the environment; an echo comes from a running program.
        input.write_all(b"x").expect("write");
        output.read_exact(&mut [0]).expect("echo");
        let value = initial_environment_variable(child.id(), "HT_TEST_VARIABLE");
        let prefix = initial_environment_variable(child.id(), "HT_TEST");
        drop(input);
        child.wait().expect("wait");
        assert_eq!(value.expect("environ"), Some(b"a=b".to_vec()));
        assert_eq!(prefix.expect("environ"), None);
    }
}
