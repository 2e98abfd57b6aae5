//! Filters: blocks by size, and processes by user and by cgroup.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find},
    heaptrace,
    ledger::{Figures, Ledger},
    live::{Live, list, number},
    programs::{self, Program},
    report::Report,
    runner::{self, Test, end_to_end, unprivileged},
    running::wait_for_file,
    session::{Session, Start, Waiting, copy_libc, ledger_file, own_libraries},
};
use serde_json::Value;
use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::PathBuf,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

/// The sizes that `bounds` is about.
const BOUNDS: [&str; 2] = ["--min-size=500", "--max-size=1500"];
const ROUNDS: u64 = 100;
const SIZES: [u64; 5] = [499, 500, 777, 1500, 1501];

fn main() -> ExitCode {
    let mut tests: Vec<Test> = vec![
        unprivileged("sizes that contradict each other are a usage error", || {
            usage(&["--min-size", "2k", "--max-size", "1k"], "--min-size is above --max-size")
        }),
        unprivileged("a size that is none is a usage error", || usage(&["--min-size", "big"], "--min-size")),
    ];
    for start in Start::BOTH {
        tests.push(end_to_end(format!("{}: blocks within the sizes are exact", start.name()), move || {
            bounds(start)
        }));
    }
    tests.push(end_to_end("stat and leaks leave out what is filtered, too", live_commands));
    tests.push(end_to_end("one bound alone, with a suffix", one_bound));
    tests.push(unprivileged("a user that is none is told", || {
        refused(&["--user", "no-such-user"], "there is no user no-such-user")
    }));
    tests.push(unprivileged("a cgroup that is none is told, and what was looked at", || {
        refused(&["--cgroup", "no/such/group"], "cgroup2")
    }));
    tests.push(end_to_end("without cgroup2 it says so, and how to mount it", without_cgroups));
    tests.push(end_to_end("--user: running and new processes of a user, and nobody else's", by_user));
    tests.push(end_to_end("--user with --exact-children: new ones from their first call", by_user_exactly));
    tests.push(
        end_to_end("--cgroup: running and new processes in it and below, and no others", by_cgroup)
            .needing(cgroup_mount().err().map(|error| format!("{error:#}"))),
    );
    runner::run(tests)
}

fn usage(options: &[&str], word: &str) -> Result<()> {
    for command in ["record", "leaks", "stat"] {
        let output = heaptrace::output(&[&[command], options, &["--", "true"]].concat())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{command} ended with {}: {said}", output.status);
        ensure!(said.contains(word), "{command} should say {word:?}, said {said}");
    }
    Ok(())
}

fn within(size: u64) -> bool {
    (500..=1500).contains(&size)
}

/// What `bounds` does that a filter leaves out: blocks with their bytes, and frees of blocks that were left out.
fn left_out() -> (u64, u64, u64) {
    let (mut count, mut bytes, mut frees) = (0, 0, 0);
    let mut block = |size: u64| {
        if !within(size) {
            count += ROUNDS;
            bytes += ROUNDS * size;
        }
    };
    let mut freed = |size: u64| frees += if within(size) { 0 } else { ROUNDS };
    for (from, before) in SIZES.into_iter().enumerate() {
        for (to, after) in SIZES.into_iter().enumerate() {
            block(before);
            block(after);
            // By the realloc.
            freed(before);
            if (from + to) % 3 != 0 {
                freed(after);
            }
        }
        block(before);
        if from % 2 != 0 {
            freed(before);
        }
    }
    (count, bytes, frees)
}

fn bounds(start: Start) -> Result<()> {
    let session = Session::new(Program::C("bounds"), &["100"]).options(&BOUNDS);
    let mut outcome = session.record(start)?;
    outcome.ensure_success()?;
    let (count, bytes, frees) = left_out();
    let (&pid, ledger) = outcome.ledger.0.iter_mut().next().context("no ledger")?;
    // The program's ledger has no frees from before: it knows nothing of filters.
    ensure!(ledger.pre_attach_frees == 0, "{} frees from before", ledger.pre_attach_frees);
    ledger.pre_attach_frees = frees;
    compare::exactly(&outcome, Find::Caller)?;
    filtered(&outcome.report, pid, (count, bytes))?;
    ensure!(outcome.report.coverage.unknown_frees == frees, "{:?}", outcome.report.coverage);
    Ok(())
}

fn filtered(report: &Report, pid: u32, expected: (u64, u64)) -> Result<()> {
    let process = report.process(pid).context("the program is not in the report")?;
    let found = (process.filtered_count, process.filtered_bytes);
    ensure!(found == expected, "{found:?} were filtered, {expected:?} had other sizes");
    Ok(())
}

fn live_commands() -> Result<()> {
    let program = Program::C("bounds").compile()?;
    let (count, bytes, frees) = left_out();
    let folder = TempDir::new()?;
    let folder = folder.path();
    let ledger_out = ledger_file(folder);
    let environment = [("LEDGER_OUT", ledger_out.as_os_str())];
    let prints = Live::command("stat", &BOUNDS, folder, &program, &["100"], &environment)?.finish(0)?;
    let stat = prints.last().context("no print")?;
    let ledger = Ledger::read(&ledger_out)?.0.pop_first().context("no ledger")?.1;
    let expected = ledger.sites["site_malloc"].alloc_count + ledger.sites["site_realloc"].alloc_count;
    for (key, expected) in [
        ("total.alloc_count", expected),
        ("total.filtered_count", count),
        ("total.filtered_bytes", bytes),
        ("total.unknown_frees", frees),
        ("coverage.unknown_frees", frees),
        ("coverage.size_filter.min", 500),
        ("coverage.size_filter.max", 1500),
    ] {
        let found = number(stat, key)?;
        ensure!(found == expected, "{key} is {found}, not {expected}");
    }
    let options = [&BOUNDS[..], &["--older-than", "0s", "--top", "100"]].concat();
    let prints = Live::command("leaks", &options, folder, &program, &["100"], &[])?.finish(0)?;
    let leaks = prints.last().context("no print")?;
    let live = ["site_malloc", "site_realloc"].map(|site| ledger.sites[site].live_bytes);
    let mut found = [0, 0];
    for row in list(leaks, "rows")? {
        let at = usize::from(row["function"] == "realloc");
        found[at] += number(row, "bytes")?;
    }
    ensure!(found == live, "{found:?} are outstanding, the ledger has {live:?}");
    Ok(())
}

fn one_bound() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("counts").compile()?;
    let prints = Live::command("stat", &["--min-size=6k"], folder, &program, &["50", "0"], &[])?.finish(0)?;
    let stat = prints.last().context("no print")?;
    // Only posix_memalign's 20,011 bytes are 6 KiB or more: aligned_alloc's are 6,016.
    ensure!(number(stat, "total.alloc_bytes")? == 50 * 20_011, "{}", stat["total"]);
    ensure!(number(stat, "coverage.size_filter.max")? == u64::MAX, "{}", stat["coverage"]);
    let text = heaptrace::output(
        &[&["stat", "--min-size=6k"], heaptrace::COMMAND, &[program.to_str().context("UTF-8")?, "50", "0"]]
            .concat(),
    )?;
    let text = String::from_utf8_lossy(&text.stdout);
    ensure!(text.contains("only blocks of 6,144 bytes and more were traced: "), "{text}");
    ensure!(
        text.contains("allocated before tracing began, or filtered by size, which cannot be told apart"),
        "{text}"
    );
    Ok(())
}

fn refused(options: &[&str], word: &str) -> Result<()> {
    let output = heaptrace::output(&[&["stat"], options].concat())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4), "ended with {}: {said}", output.status);
    ensure!(said.contains(word), "it should say {word:?}, said {said}");
    Ok(())
}

/// In a mount namespace of its own, where cgroup2 is mounted nowhere.
fn without_cgroups() -> Result<()> {
    const SCRIPT: &str = "awk '$3 == \"cgroup2\" { print $2 }' /proc/self/mounts | while read -r at; do \
         umount -l \"$at\" || exit 99; done && exec \"$0\" stat --cgroup some/group";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", SCRIPT]).arg(heaptrace::binary()?);
    let output = command.output().context("failed to run unshare (Debian package: util-linux)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4), "ended with {}: {said}", output.status);
    for word in ["no cgroup2 file system is mounted", "/proc/self/mountinfo", "mount -t cgroup2"] {
        ensure!(said.contains(word), "it should say {word:?}, said {said}");
    }
    Ok(())
}

/// An `idle` program that waits, started by `prepare`d command, in a folder of its own that anybody may write to.
struct Idle {
    waiting: Waiting,
    folder: TempDir,
}

impl Idle {
    fn start(prepare: impl FnOnce(&mut Command) -> Result<()>) -> Result<Self> {
        let folder = TempDir::new()?;
        // A copy: the build folder may be closed to other users.
        let program = folder.path().join("idle");
        programs::copy(&Program::C("idle").compile()?, &program)?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let mut command = Command::new(program);
        command
            .env("LEDGER_OUT", ledger_file(folder.path()))
            .env("IDLE_DONE", folder.path().join("done"))
            .env("IDLE_END", folder.path().join("end"));
        prepare(&mut command)?;
        Ok(Self { waiting: Waiting::start(command, folder.path())?, folder })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    /// Lets it allocate, and gives what it says that it did.
    fn work(&mut self) -> Result<Figures> {
        self.waiting.go()?;
        wait_for_file(&self.folder.path().join("done"), &mut self.waiting.target)?;
        Ok(Ledger::read(&ledger_file(self.folder.path()))?.process(self.pid())?.sites["site_idle"])
    }

    fn end(mut self) -> Result<()> {
        File::create(self.folder.path().join("end"))?;
        let status = self.waiting.target.wait()?;
        ensure!(status.code() == Some(21), "a target ended with {status}");
        Ok(())
    }
}

fn of_pid(print: &Value, pid: u32) -> Option<&Value> {
    print["processes"].as_array()?.iter().find(|process| process["pid"] == pid)
}

/// Members that run already, and one that begins while tracing, are counted to the byte; an outsider is not there.
fn membership(
    options: &[&str],
    mut running: Vec<Idle>,
    new: impl FnOnce() -> Result<Idle>,
    mut outsider: Idle,
) -> Result<()> {
    let folder = TempDir::new()?;
    let options = [options, &["--interval", "50ms"]].concat();
    let mut live = Live::with("stat", &options, folder.path())?;
    let new = new()?;
    let pid = new.pid();
    // Its probes are there when the report knows how long they were not; or all the time.
    let exact = options.contains(&"--exact-children");
    live.wait_for_print("the new process", 0, |print| {
        of_pid(print, pid).is_some_and(|process| exact || process["attach_gap_s"].is_number())
    })?;
    running.push(new);
    let mut expected = Vec::new();
    for idle in &mut running {
        expected.push((idle.pid(), idle.work()?));
    }
    outsider.work()?;
    live.run.signal(libc::SIGINT)?;
    let prints = live.finish(0)?;
    let print = prints.last().context("no print")?;
    for (pid, figures) in expected {
        let process = of_pid(print, pid).with_context(|| format!("process {pid} is not in {print}"))?;
        let found =
            ["alloc_bytes", "alloc_count", "free_bytes", "free_count"].map(|key| process[key].as_u64());
        let ledger = [figures.alloc_bytes, figures.alloc_count, figures.free_bytes, figures.free_count];
        ensure!(found == ledger.map(Some), "process {pid}: {found:?}, the ledger has {figures}");
    }
    ensure!(of_pid(print, outsider.pid()).is_none(), "the outsider is in {print}");
    let count = list(print, "processes")?.len();
    ensure!(count == running.len(), "{count} processes were traced, not {}", running.len());
    outsider.end()?;
    running.into_iter().try_for_each(Idle::end)
}

fn by_user() -> Result<()> {
    // Users that nobody else is.
    const USER: u32 = 64_321;
    const OTHER: u32 = 64_322;
    let of = |user: u32| {
        move |command: &mut Command| {
            command.uid(user);
            Ok(())
        }
    };
    let running = vec![Idle::start(of(USER))?];
    membership(&["--user", "64321"], running, || Idle::start(of(USER)), Idle::start(of(OTHER))?)
}

/// The program's blocks, and what its C library allocated before `main`: nothing, with glibc.
fn by_user_exactly() -> Result<()> {
    const USER: u32 = 64_323;
    const OTHER: u32 = 64_324;
    // Of their own, because probes go by file: nobody else's program is to be hit.
    let library = TempDir::new()?;
    copy_libc(library.path())?;
    fs::set_permissions(library.path(), fs::Permissions::from_mode(0o755))?;
    let (name, path) = own_libraries(library.path()).context("no libraries of its own")?;
    let of = |user: u32| {
        let path = path.clone();
        move |command: &mut Command| {
            command.uid(user).env(name, path);
            Ok(())
        }
    };
    let running = vec![Idle::start(of(USER))?];
    let options = ["--user", "64323", "--exact-children"];
    membership(&options, running, || Idle::start(of(USER)), Idle::start(of(OTHER))?)
}

fn cgroup_mount() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount =
        mount.filter(|fields| fields.get(2) == Some(&"cgroup2")).find_map(|fields| fields.get(1).copied());
    mount.map(PathBuf::from).context("no cgroup2 file system is mounted")
}

/// A cgroup of a test; removed with it.
struct TestCgroup(PathBuf);

impl TestCgroup {
    fn make(folder: PathBuf) -> Result<Self> {
        fs::create_dir(&folder).with_context(|| format!("failed to make the cgroup {}", folder.display()))?;
        Ok(Self(folder))
    }

    /// Has a command begin in it.
    fn enter(&self) -> impl FnOnce(&mut Command) -> Result<()> {
        let procs = File::options().write(true).open(self.0.join("cgroup.procs"));
        move |command| {
            let mut procs = procs.context("failed to open cgroup.procs")?;
            // SAFETY: one write of a constant, which is async-signal-safe, to a file that was opened before.
            unsafe { command.pre_exec(move || procs.write_all(b"0")) };
            Ok(())
        }
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // Not while a process of a failed test is dying in it; then it stays behind, empty.
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

fn by_cgroup() -> Result<()> {
    let name = format!("heaptrace-test-{}", std::process::id());
    let mount = cgroup_mount()?;
    let outer = TestCgroup::make(mount.join(&name))?;
    let below = TestCgroup::make(outer.0.join("below"))?;
    let beside = TestCgroup::make(mount.join(format!("{name}-beside")))?;
    let outsider = Idle::start(beside.enter())?;
    let running = vec![Idle::start(outer.enter())?, Idle::start(below.enter())?];
    membership(&["--cgroup", &name], running, || Idle::start(below.enter()), outsider)?;
    // Inner ones first.
    drop(below);
    drop(outer);
    Ok(())
}
