//! Another tracer as the judge: bpftrace counts, at the functions' entries only, each call by function and size. What
//! heaptrace reports must follow from that, whatever the program's ledger says.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code, heaptrace,
    ledger::Sizes,
    programs::{self, Program},
    report::Report,
    runner::{Test, end_to_end},
    running::{PATIENCE, Running, wait_until},
    session::{Waiting, copy_libc, ledger_file, own_libraries},
};
use std::{collections::BTreeMap, path::Path, process::Command};
use tempfile::TempDir;

/// How each function is told its size.
const FUNCTIONS: [(&str, &str); 5] = [
    ("malloc", "arg0"),
    ("calloc", "arg0 * arg1"),
    ("realloc", "arg1"),
    ("aligned_alloc", "arg1"),
    ("posix_memalign", "arg2"),
];

/// Larger ones are those that the programs know to fail, or that are left.
const MOST: u64 = 1 << 30;

/// Whose allocator it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Allocator {
    Libc,
    /// Its realloc calls malloc, with the same size; it has no aligned_alloc.
    Programs,
}

pub fn tests() -> Vec<Test> {
    vec![
        end_to_end("attach: bpftrace counts the same calls of glibc, by function and size", || {
            judged("counts", &["300", "50"], Allocator::Libc)
        }),
        end_to_end("attach: bpftrace counts the same calls, where many are left by longjmp", || {
            judged("jumps", &["mixed"], Allocator::Programs)
        }),
        end_to_end("attach: bpftrace counts the same calls, where others look at their callers", || {
            judged("unwinding", &[], Allocator::Programs)
        }),
    ]
}

/// Calls by function and exact size, and frees of something.
#[derive(Default)]
struct Counted {
    calls: BTreeMap<String, BTreeMap<u64, u64>>,
    frees: u64,
}

impl Counted {
    /// What bpftrace prints of its maps.
    fn read(said: &str) -> Result<Self> {
        let mut counted = Self::default();
        for line in said.lines().filter_map(|line| line.strip_prefix('@')) {
            let (what, count) = line.split_once(": ").context("a map's line has no value")?;
            let count = count.parse().context("no count")?;
            match what.split_once('[') {
                Some((function, size)) => {
                    let size = size.trim_end_matches(']').parse::<i64>().context("no size")? as u64;
                    counted.calls.entry(function.to_owned()).or_default().insert(size, count);
                }
                None => counted.frees = count,
            }
        }
        Ok(counted)
    }

    /// Those that succeed, by the bits of their sizes.
    fn sizes(&self, function: &str) -> Sizes {
        let mut sizes = Sizes::new();
        for (size, count) in self.calls.get(function).into_iter().flatten().filter(|(size, _)| **size < MOST)
        {
            *sizes.entry(u64::BITS - size.leading_zeros()).or_default() += count;
        }
        sizes
    }
}

fn reported(report: &Report, pid: u32, function: &str) -> Sizes {
    let mut sizes = Sizes::new();
    let sites = report.sites_of(pid).filter(|site| site.function == function);
    for (least, _, count) in sites.flat_map(|site| &site.sizes) {
        *sizes.entry(u64::BITS - least.leading_zeros()).or_default() += count;
    }
    sizes
}

fn functions(allocator: Allocator) -> impl Iterator<Item = (&'static str, &'static str)> {
    FUNCTIONS.into_iter().filter(move |(name, _)| match allocator {
        Allocator::Libc => true,
        Allocator::Programs => !["aligned_alloc", "posix_memalign"].contains(name),
    })
}

fn bpftrace(file: &Path, pid: u32, allocator: Allocator, folder: &Path) -> Result<Running> {
    let file = file.display();
    let mut script = format!("uprobe:{file}:free /pid == {pid} && arg0 != 0/ {{ @frees = count(); }} ");
    let mut probes = 1;
    for (function, size) in functions(allocator) {
        script += &format!("uprobe:{file}:{function} /pid == {pid}/ {{ @{function}[{size}] = count(); }} ");
        probes += 1;
    }
    let mut command = Command::new("bpftrace");
    command.args(["-p", &pid.to_string(), "-e", &script]);
    let mut tracer = Running::spawn(command, "bpftrace", folder)?;
    wait_until(PATIENCE, || {
        ensure!(tracer.poll()?.is_none(), "{}", tracer.describe("ended early"));
        Ok(code::changed_bytes(pid)? >= probes)
    })
    .with_context(|| tracer.describe("never traced"))?;
    Ok(tracer)
}

fn judged(name: &'static str, arguments: &[&str], allocator: Allocator) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    // bpftrace's probes are in every process that maps the file: these are files of this test's own.
    copy_libc(folder)?;
    let program = folder.join(name);
    programs::copy(&Program::C(name).compile()?, &program)?;
    let mut command = Command::new(&program);
    command.args(arguments).env("LEDGER_OUT", ledger_file(folder)).envs(own_libraries(folder));
    let mut waiting = Waiting::start(command, folder)?;
    let pid = waiting.target.pid();
    let probed = match allocator {
        Allocator::Libc => folder.join("lib/libc.so.6"),
        Allocator::Programs => program,
    };
    let mut judge = bpftrace(&probed, pid, allocator, folder)?;
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    waiting.target.wait()?;
    heaptrace::finish(&mut recorder)?;
    ensure!(judge.wait()?.success(), "{}", judge.describe("failed"));

    let counted = Counted::read(&judge.stdout())?;
    let report = heaptrace::report(folder)?;
    let process = report.process(pid).context("the target is not in the report")?;
    for (function, _) in functions(allocator) {
        let mut expected = counted.sizes(function);
        if function == "malloc" && allocator == Allocator::Programs {
            for caller in ["realloc", "calloc"].into_iter().filter(|caller| calls_malloc(name, caller)) {
                for (bits, count) in counted.sizes(caller) {
                    *expected.entry(bits).or_default() -= count;
                }
            }
            expected.retain(|_, count| *count > 0);
        }
        let found = reported(&report, pid, function);
        ensure!(
            found == expected,
            "{function} by bits of the sizes\n    bpftrace {expected:?}\n    report   {found:?}"
        );
    }
    // A realloc that succeeds ends the block that it is given; these programs give it one each time.
    let resized: u64 = counted.sizes("realloc").values().sum();
    let (expected, found) = (counted.frees + resized, process.free_count + process.unknown_frees);
    ensure!(found == expected, "{found} blocks were freed, bpftrace counts {expected}");
    Ok(())
}

/// Which functions of a program's own allocator call its malloc.
fn calls_malloc(program: &str, function: &str) -> bool {
    function == "realloc" || program == "unwinding"
}
