//! `heaptrace doctor`: what it says is true, and it says it on every kind of machine and process.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    caller::{self, open_folder},
    code,
    diagnosis::{Cost, Diagnosis, Privileges, Probe, Process, Site},
    heaptrace,
    programs::Program,
    runner::{self, end_to_end},
    running::Running,
    session::{self, Waiting},
};
use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, ExitCode, Output},
};
use tempfile::TempDir;

const CANNOT_TRACE: i32 = 4;
const LIBC: &str = "/libc.so.6";

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("the machine can be traced, and the figures are of this machine", machine),
        end_to_end("the probes shown are the places changed when tracing", places),
        end_to_end("a preloaded allocator comes first, and libc's malloc is overridden", preloaded),
        end_to_end("a static program's allocator is its own", statically),
        end_to_end("a 32-bit program is refused", thirty_two_bit),
        end_to_end("a PID that nobody has is refused", gone),
        end_to_end("a kernel thread is refused", kernel_thread),
        end_to_end("without privileges every check says so", unprivileged),
        end_to_end("tracefs is asked and not mounted", tracefs),
        end_to_end("what each mode costs is measured, if it is asked for", modes),
    ])
}

fn modes() -> Result<()> {
    let diagnosis = parse(&heaptrace::output(&["doctor", "--modes", "--format", "json"])?)?;
    let modes = diagnosis.modes.context("nothing is said of modes")?;
    ensure!(modes.error.is_none(), "{modes:?}");
    let names: Vec<(&str, bool)> =
        modes.prices.iter().map(|price| (price.mode.as_str(), price.frees)).collect();
    let all = [
        ("growth", false),
        ("faults", false),
        ("sampled", false),
        ("sampled", true),
        ("allocs", false),
        ("exact", false),
    ];
    ensure!(names == all, "{names:?}");
    ensure!(modes.prices.iter().all(|price| price.alone_ns > 0.0 && price.pair_ns > 0.0), "{modes:?}");
    let quick = parse(&heaptrace::output(&["doctor", "--format", "json"])?)?;
    ensure!(quick.modes.is_none(), "they were measured unasked");
    Ok(())
}

/// The diagnosis of `output`, which must have ended with the code that its verdict asks for.
fn parse(output: &Output) -> Result<Diagnosis> {
    let said = String::from_utf8_lossy(&output.stderr);
    let diagnosis: Diagnosis = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("the JSON is not as documented; stderr: {said}"))?;
    let code = if diagnosis.can_trace { 0 } else { CANNOT_TRACE };
    ensure!(output.status.code() == Some(code), "ended with {}, not {code}", output.status);
    ensure!(diagnosis.schema == 1 && diagnosis.can_trace == diagnosis.reason.is_none(), "{diagnosis:?}");
    Ok(diagnosis)
}

fn doctor(pid: u32) -> Result<(Diagnosis, Process)> {
    let mut diagnosis = parse(&heaptrace::output(&["doctor", &pid.to_string(), "--format", "json"])?)?;
    let process = diagnosis.process.take().context("nothing is said of the process")?;
    ensure!(process.pid == pid && process.can_trace == process.reason.is_none(), "{process:?}");
    Ok((diagnosis, process))
}

/// The process is refused, and both forms give a reason that holds `word`: the text as its last line.
fn ensure_refused(pid: u32, check: Option<&str>, word: &str) -> Result<()> {
    let (diagnosis, process) = doctor(pid)?;
    let reason = diagnosis.reason.as_deref().unwrap_or_default();
    ensure!(!diagnosis.can_trace && reason.contains(word), "should be refused for {word:?}: {diagnosis:?}");
    if let Some(check) = check {
        ensure!(process.verdict(check) == Some("refused"), "{check} is not the reason: {process:?}");
    }
    let text = heaptrace::output(&["doctor", &pid.to_string()])?;
    ensure!(text.status.code() == Some(CANNOT_TRACE), "the text ended with {}", text.status);
    let text = String::from_utf8(text.stdout)?;
    let last = text.lines().next_back().unwrap_or_default();
    ensure!(last.contains("cannot trace") && last.contains(word), "the text's last line is {last:?}");
    Ok(())
}

fn machine() -> Result<()> {
    let diagnosis = parse(&heaptrace::output(&["doctor", "--format", "json"])?)?;
    ensure!(diagnosis.can_trace && diagnosis.process.is_none(), "{diagnosis:?}");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    ensure!(diagnosis.host.kernel == kernel.trim(), "{:?}", diagnosis.host);
    for feature in &diagnosis.features {
        let works = feature.state == "works";
        ensure!(works || !feature.required, "it can trace without {feature:?}");
        ensure!(works == feature.detail.is_none(), "no reason is given: {feature:?}");
        ensure!(!feature.used_for.is_empty() && !feature.otherwise.is_empty(), "{feature:?}");
    }
    let way = match diagnosis.state("uprobe_multi_threads")? {
        "works" => "uprobe_multi",
        _ => "perf_event",
    };
    ensure!(diagnosis.attach.as_deref() == Some(way), "{way} should be used: {:?}", diagnosis.attach);
    ensure!(diagnosis.privileges.effective_uid == 0, "{:?}", diagnosis.privileges);
    capabilities(&diagnosis.privileges)?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mounted = mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs"));
    ensure!(!diagnosis.tracefs.mounted || mounted, "{:?} and\n{mounts}", diagnosis.tracefs);
    let Cost { calls_per_round, rounds, emulated_ns, single_stepped_ns, error } = &diagnosis.cost;
    ensure!(error.is_none() && *calls_per_round > 0 && *rounds > 0, "{:?}", diagnosis.cost);
    // A trap cannot be had for less than what a call costs.
    for cost in [emulated_ns, single_stepped_ns] {
        ensure!(cost.is_some_and(|ns| ns > 10.0 && ns < 1e9), "{:?}", diagnosis.cost);
    }
    let text = String::from_utf8(heaptrace::output(&["doctor"])?.stdout)?;
    let last = text.lines().next_back();
    ensure!(last == Some("Verdict: this machine can be traced."), "the text's last line is {last:?}");
    Ok(())
}

/// Held is what the kernel says is held. The numbers are those of include/uapi/linux/capability.h.
fn capabilities(privileges: &Privileges) -> Result<()> {
    let status = fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).context("no CapEff")?;
    let effective = u64::from_str_radix(effective.trim(), 16)?;
    for (name, number) in [
        ("CAP_BPF", 39),
        ("CAP_PERFMON", 38),
        ("CAP_SYS_PTRACE", 19),
        ("CAP_DAC_READ_SEARCH", 2),
        ("CAP_CHECKPOINT_RESTORE", 40),
    ] {
        let capability = privileges.capabilities.iter().find(|capability| capability.name == name);
        let held = capability.with_context(|| format!("nothing is said of {name}"))?.held;
        // CAP_SYS_ADMIN stands for some.
        let expected = effective >> number & 1 == 1 || effective >> 21 & 1 == 1 && number > 30;
        ensure!(held == expected, "{name}: {privileges:?}");
    }
    Ok(())
}

/// An idle ledger program that waits in `folder`.
fn idle(program: Program, environment: &[(&str, &str)], folder: &Path) -> Result<Waiting> {
    let mut command = Command::new(program.compile()?);
    command
        .env("LEDGER_OUT", session::ledger_file(folder))
        .env("IDLE_DONE", folder.join("done"))
        .env("IDLE_END", folder.join("end"))
        .envs(environment.iter().copied());
    Waiting::start(command, folder)
}

fn places_of(process: &Process) -> BTreeSet<(String, u64)> {
    let of = |probe: &Probe| -> Vec<_> {
        let sites = probe.sites.iter().chain(&probe.verified_from);
        sites.map(|site| (probe.path.clone(), site.offset)).collect()
    };
    process.probes.iter().flat_map(of).collect()
}

/// What doctor shows is what `record` probes at first, and doctor itself changes nothing.
fn ensure_places(pid: u32, process: &Process, folder: &Path) -> Result<()> {
    ensure!(code::changed_places(pid)?.is_empty(), "doctor changed the process");
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    let changed = code::changed_places(pid)?;
    ensure!(changed == places_of(process), "changed when tracing: {changed:#x?}\nshown: {process:#x?}");
    recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut recorder)
}

fn places() -> Result<()> {
    let folder = TempDir::new()?;
    let waiting = idle(Program::C("idle"), &[], folder.path())?;
    let pid = waiting.target.pid();
    let (diagnosis, process) = doctor(pid)?;
    ensure!(diagnosis.can_trace && process.threads == Some(1), "{process:?}");
    let exe = fs::read_link(format!("/proc/{pid}/exe"))?;
    ensure!(process.exe.as_deref() == exe.to_str(), "{process:?}");
    for symbol in ["malloc", "calloc", "realloc", "free"] {
        let probe = process.probes.iter().find(|probe| probe.symbol == symbol);
        let probe = probe.with_context(|| format!("{symbol} is not probed"))?;
        ensure!(probe.path.ends_with(LIBC) && !probe.sites.is_empty() && !probe.returns, "{probe:?}");
        let lies = |site: &Site| site.offset as i64 == probe.entry as i64 + site.from_entry;
        ensure!(probe.sites.iter().all(lies), "{probe:?}");
        ensure!(probe.traps[0] >= 1 && probe.traps[0] <= probe.traps[1], "{probe:?}");
    }
    for check in ["machine", "go", "seccomp", "shadow_stack", "setuid", "namespace", "deleted_files"] {
        ensure!(process.verdict(check).is_some_and(|verdict| verdict != "refused"), "{check}: {process:?}");
    }
    ensure_places(pid, &process, folder.path())
}

fn preloaded() -> Result<()> {
    const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    ensure!(Path::new(JEMALLOC).exists(), "{JEMALLOC} is missing (Debian package: libjemalloc2)");
    let folder = TempDir::new()?;
    let waiting = idle(Program::C("idle"), &[("LD_PRELOAD", JEMALLOC)], folder.path())?;
    let pid = waiting.target.pid();
    let (_, process) = doctor(pid)?;
    let [first, rest @ ..] = process.allocators.as_slice() else { bail!("no allocator: {process:?}") };
    ensure!(first.kind == "jemalloc" && first.path == JEMALLOC && first.called, "{first:?}");
    let libc = rest.iter().find(|allocator| allocator.path.ends_with(LIBC)).context("libc is not listed")?;
    for symbol in ["malloc", "free"] {
        let function = libc.functions.iter().find(|function| function.symbol == symbol);
        let function = function.with_context(|| format!("libc's {symbol} is not listed"))?;
        ensure!(function.fate == "overridden" && function.of.as_deref() == Some(JEMALLOC), "{function:?}");
    }
    ensure_places(pid, &process, folder.path())
}

fn statically() -> Result<()> {
    let folder = TempDir::new()?;
    let waiting = idle(Program::CWith("idle", &["-static"]), &[], folder.path())?;
    let pid = waiting.target.pid();
    let (diagnosis, process) = doctor(pid)?;
    ensure!(diagnosis.can_trace && !process.probes.is_empty(), "{process:?}");
    let own = process.probes.iter().all(|probe| Some(&probe.path) == process.exe.as_ref());
    ensure!(own && process.allocators.len() == 1 && process.allocators[0].kind == "glibc", "{process:?}");
    ensure_places(pid, &process, folder.path())
}

/// A program that needs no library: those for 32 bits are seldom installed.
fn thirty_two_bit() -> Result<()> {
    let folder = TempDir::new()?;
    let (source, program) = (folder.path().join("pause.c"), folder.path().join("pause"));
    // pause(2) is number 29 of the 32-bit system calls.
    fs::write(&source, "void _start(void) { for (;;) __asm__ volatile(\"int $0x80\" : : \"a\"(29)); }\n")?;
    let built = Command::new("gcc")
        .args(["-m32", "-nostdlib", "-static", "-O1", "-o"])
        .args([&program, &source])
        .output()
        .context("failed to run gcc")?;
    if !built.status.success() {
        println!("SKIPPED: gcc builds no 32-bit program: {}", String::from_utf8_lossy(&built.stderr));
        return Ok(());
    }
    let running = match Running::spawn(Command::new(&program), "pause", folder.path()) {
        Ok(running) => running,
        Err(error) => {
            println!("SKIPPED: this kernel runs no 32-bit program: {error:#}");
            return Ok(());
        }
    };
    ensure_refused(running.pid(), Some("machine"), "32-bit")?;
    // Its system calls are not seen either.
    let file = heaptrace::record_file(folder.path());
    let file = file.to_str().context("the temporary folder's name is not UTF-8")?;
    let output =
        heaptrace::output(&["record", "--trace", "growth", "-p", &running.pid().to_string(), "-o", file])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(4) && said.contains("32-bit"), "{} {said}", output.status);
    Ok(())
}

fn gone() -> Result<()> {
    let mut child = Command::new("true").spawn()?;
    child.wait()?;
    ensure_refused(child.id(), None, &format!("there is no process {}", child.id()))
}

fn kernel_thread() -> Result<()> {
    const KTHREADD: u32 = 2;
    if fs::read_to_string(format!("/proc/{KTHREADD}/comm")).is_ok_and(|comm| comm == "kthreadd\n") {
        return ensure_refused(KTHREADD, Some("memory"), "kernel thread");
    }
    println!("SKIPPED: no kernel thread is in this PID namespace");
    Ok(())
}

/// Nothing is left out for want of a privilege: each check says that it could not be made.
fn unprivileged() -> Result<()> {
    let folder = open_folder()?;
    let whole = parse(&heaptrace::output(&["doctor", "--format", "json"])?)?;
    let pid = std::process::id().to_string();
    let output = caller::heaptrace(&[], &["doctor", &pid, "--format", "json"], folder.path())?.output()?;
    let diagnosis = parse(&output)?;
    let reason = diagnosis.reason.as_deref().unwrap_or_default();
    ensure!(reason.contains("CAP_BPF and CAP_PERFMON are missing"), "{reason}");
    let names = |diagnosis: &Diagnosis| -> Vec<String> {
        diagnosis.features.iter().map(|feature| feature.name.clone()).collect()
    };
    ensure!(names(&diagnosis) == names(&whole), "checks were left out: {diagnosis:?}");
    ensure!(diagnosis.features.iter().all(|feature| feature.state != "missing"), "{:?}", diagnosis.features);
    ensure!(diagnosis.state("programs")? == "unknown", "{:?}", diagnosis.features);
    ensure!(diagnosis.cost.error.is_some() && diagnosis.cost.emulated_ns.is_none(), "{:?}", diagnosis.cost);
    let missing = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"];
    ensure!(diagnosis.privileges.missing == missing, "{:?}", diagnosis.privileges);
    let grants = &diagnosis.privileges.grants;
    ensure!(
        grants
            .iter()
            .any(|grant| grant.command.contains("cap_bpf,cap_perfmon,cap_sys_ptrace,cap_dac_read_search")),
        "{grants:?}"
    );
    let process = diagnosis.process.as_ref().context("nothing is said of the process")?;
    let reason = process.reason.as_deref().unwrap_or_default();
    ensure!(reason.contains("CAP_SYS_PTRACE"), "{process:?}");
    let text = caller::heaptrace(&[], &["doctor"], folder.path())?.output()?;
    let text = String::from_utf8(text.stdout)?;
    let last = text.lines().next_back().unwrap_or_default();
    ensure!(last.contains("cannot trace") && last.contains("CAP_BPF"), "the text's last line is {last:?}");
    Ok(())
}

/// In a mount namespace of its own, where tracefs is not mounted and must not be afterwards.
fn tracefs() -> Result<()> {
    const SCRIPT: &str = "while umount /sys/kernel/tracing 2>/dev/null; do :; done
        \"$1\" doctor --format json; code=$?
        grep -q ' /sys/kernel/tracing ' /proc/self/mounts && echo mounted >&2
        exit $code";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", SCRIPT, "sh"])
        .arg(heaptrace::binary()?)
        .output()
        .context("failed to run unshare (util-linux)")?;
    let diagnosis = parse(&output)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!said.contains("mounted"), "doctor mounted tracefs; {said}");
    ensure!(!diagnosis.tracefs.mounted, "{:?}", diagnosis.tracefs);
    // Asked all the same, of an instance that is mounted nowhere.
    let known = ["works", "missing"].contains(&diagnosis.state("syscall_tracepoints")?);
    ensure!(known, "{:?}", diagnosis.features);
    Ok(())
}
