//! Other tracers on the same process. (Two heaptraces: `lifecycle.rs`.)

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    compare::{self, Find},
    diagnosis::Diagnosis,
    heaptrace,
    programs::Program,
    runner::{Test, end_to_end},
    running::{PATIENCE, Running, wait_for_file, wait_until},
    session::Waiting,
};
use std::{fs, path::Path, process::Command};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for tracer in [Tracer::Strace, Tracer::Gdb, Tracer::Bpftrace] {
        tests.push(end_to_end(format!("attach: under {}", tracer.name()), move || under(tracer)));
        tests.push(end_to_end(format!("attach: {} comes and goes", tracer.name()), move || joined(tracer)));
    }
    tests.push(end_to_end("attach: gdb comes and goes, with a breakpoint at a probe", || {
        joined(Tracer::GdbAtMalloc)
    }));
    tests.push(end_to_end("attach: a debugger's breakpoint where a probe would go", breakpoint));
    tests
}

/// Where heaptrace would probe malloc, as gdb takes it.
fn malloc_site(pid: u32) -> Result<String> {
    let output = heaptrace::output(&["doctor", &pid.to_string(), "--format", "json"])?;
    let diagnosis: Diagnosis = serde_json::from_slice(&output.stdout)?;
    let process = diagnosis.process.context("nothing is said of the process")?;
    let malloc = process.probes.iter().find(|probe| probe.symbol == "malloc").context("no malloc")?;
    let site = malloc.sites.first().context("no site")?;
    Ok(format!("*((char *) malloc + {})", site.from_entry))
}

#[derive(Clone, Copy)]
enum Tracer {
    Strace,
    Gdb,
    GdbAtMalloc,
    Bpftrace,
}

impl Tracer {
    fn name(self) -> &'static str {
        match self {
            Self::Strace => "strace",
            Self::Gdb => "gdb",
            Self::GdbAtMalloc => "gdb",
            Self::Bpftrace => "bpftrace",
        }
    }

    /// Attaches to `pid`, and returns once it traces.
    fn attach(self, pid: u32, folder: &Path) -> Result<Running> {
        let mut command = Command::new(self.name());
        match self {
            Self::Strace => {
                command.args(["-f", "-o"]).arg(folder.join("trace")).args(["-p", &pid.to_string()])
            }
            // A breakpoint of its own in the program, which lets it go on each time.
            Self::Gdb | Self::GdbAtMalloc => {
                let script = folder.join("script");
                let place = if let Self::Gdb = self { "site_calloc".to_owned() } else { malloc_site(pid)? };
                fs::write(&script, GDB.replace("PLACE", &place))?;
                command.args(["-nx", "-batch", "-p", &pid.to_string(), "-x"]).arg(script)
            }
            Self::Bpftrace => {
                let libc = libc_of(pid)?;
                command.args(["-p", &pid.to_string(), "-e"]).arg(format!(
                    "uprobe:{libc}:malloc {{ @calls = count(); }} uretprobe:{libc}:malloc {{ @returns = \
                     count(); }} uprobe:{libc}:free {{ @frees = count(); }} BEGIN {{ printf(\"begun\\n\"); }}"
                ))
            }
        };
        let mut tracer = Running::spawn(command, self.name(), folder)?;
        wait_until(PATIENCE, || {
            ensure!(tracer.poll()?.is_none(), "{}", tracer.describe("ended early"));
            Ok(match self {
                Self::Bpftrace => tracer.stdout().contains("begun") && code::changed_bytes(pid)? >= 2,
                Self::Strace => ptraced(pid)?,
                Self::Gdb | Self::GdbAtMalloc => {
                    tracer.stdout().contains("Breakpoint 1 at") && !stopped(pid)?
                }
            })
        })
        .with_context(|| tracer.describe("never traced"))?;
        Ok(tracer)
    }

    /// Makes it leave.
    fn leave(self, tracer: &mut Running, pid: u32) -> Result<()> {
        tracer.signal(match self {
            Self::Gdb | Self::GdbAtMalloc => libc::SIGTERM,
            _ => libc::SIGINT,
        })?;
        tracer.wait()?;
        wait_until(PATIENCE, || Ok(!ptraced(pid)?)).context("the process is still ptraced")
    }
}

/// A breakpoint of its own in the program, which lets it go on each time.
const GDB: &str = "set pagination off\nbreak PLACE\ncommands\nsilent\ncontinue\nend\ncontinue\n";

fn ptraced(pid: u32) -> Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:")).context("no TracerPid")?;
    Ok(tracer.trim() != "0")
}

/// Whether a debugger holds the process.
fn stopped(pid: u32) -> Result<bool> {
    Ok(fs::read_to_string(format!("/proc/{pid}/status"))?.contains("\nState:\tt"))
}

fn libc_of(pid: u32) -> Result<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    Ok(paths.find(|path| path.ends_with("/libc.so.6")).context("no libc.so.6 is mapped")?.to_owned())
}

/// A `plain` program that stops halfway.
fn halting(folder: &Path) -> Result<Waiting> {
    let mut command = target::command(&Program::C("plain").compile()?, folder);
    // bpftrace's probes are in every process that maps the file.
    let own = folder.join("lib");
    fs::create_dir(&own)?;
    fs::copy(libc_of(std::process::id())?, own.join("libc.so.6"))?;
    command.env("LD_LIBRARY_PATH", own);
    command.env("PLAIN_HALF", folder.join("half")).env("PLAIN_GO_ON", folder.join("go-on"));
    Waiting::start(command, folder)
}

/// The other one is there first, and leaves last.
fn under(tracer: Tracer) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = halting(folder)?;
    let pid = waiting.target.pid();
    let mut other = tracer.attach(pid, folder)?;
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    fs::write(folder.join("go-on"), "")?;
    waiting.go()?;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    let status = other.wait()?;
    ensure!(status.success(), "{}", other.describe(&format!("ended with {status}")));
    compare::exactly(&outcome, Find::Caller)?;
    if let Tracer::Bpftrace = tracer {
        counted_alike(&other, &outcome, pid)?;
    }
    Ok(())
}

/// The kernel would place no probe there: malloc would be missing from the report.
fn breakpoint() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = halting(folder)?;
    let pid = waiting.target.pid();
    let mut gdb = Tracer::GdbAtMalloc.attach(pid, folder)?;
    let file = heaptrace::record_file(folder);
    let output = heaptrace::command(&["record", "-p", &pid.to_string(), "-o"])?.arg(file).output()?;
    target::ensure_refused(&output, &["breakpoints", "malloc", &gdb.pid().to_string()])?;
    fs::write(folder.join("go-on"), "")?;
    waiting.go()?;
    let status = waiting.target.wait()?;
    ensure!(status.code() == Some(target::PLAIN_ENDS), "the target ended with {status}");
    ensure!(gdb.wait()?.success(), "{}", gdb.describe("failed"));
    Ok(())
}

/// Both count the calls of the program: bpftrace also those that realloc makes and those that fail.
fn counted_alike(bpftrace: &Running, outcome: &heaptrace_tests::session::Outcome, pid: u32) -> Result<()> {
    let said = bpftrace.stdout();
    let count = |name: &str| -> Result<u64> {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("@{name}: ")));
        line.with_context(|| bpftrace.describe(&format!("counted no {name}")))?.parse().context("no number")
    };
    let (calls, returns) = (count("calls")?, count("returns")?);
    let mallocs: u64 = outcome
        .report
        .sites_of(pid)
        .filter(|site| site.function == "malloc")
        .map(|site| site.alloc_count)
        .sum();
    ensure!(calls == returns, "bpftrace counts {calls} calls and {returns} returns of malloc");
    ensure!(calls >= mallocs && mallocs >= 300, "bpftrace counts {calls} mallocs, heaptrace {mallocs}");
    Ok(())
}

/// The other one comes while heaptrace traces, and leaves before it.
fn joined(tracer: Tracer) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut waiting = halting(folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    let mut other = tracer.attach(pid, folder)?;
    waiting.go()?;
    wait_for_file(&folder.join("half"), &mut waiting.target)?;
    tracer.leave(&mut other, pid)?;
    fs::write(folder.join("go-on"), "")?;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    compare::exactly(&outcome, Find::Caller)
}
