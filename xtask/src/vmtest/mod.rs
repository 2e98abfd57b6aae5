//! The end-to-end tests on other kernels: each boots in QEMU's software emulation, with an initramfs that holds
//! heaptrace, the test suites and the programs that they trace, all as they are on this machine.

mod initramfs;
mod kernels;
mod qemu;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use self::{initramfs::Initramfs, kernels::Kernel, qemu::Console};
use crate::{dist, repo::Repo, step, suite::output};

/// A suite, and the tests of it that run in every guest where heaptrace works.
struct Selection {
    suite: &'static str,
    tests: &'static [&'static str],
    /// Run them both ways, "command: TEST" and "attach: TEST".
    both: bool,
}

const SELECTIONS: &[Selection] = &[
    Selection {
        suite: "guest",
        tests: &[
            "the attach way fits the kernel and is told",
            "record -a: several programs at once",
            "record -a, as by default: every allocation is seen, and some are samples",
            "record -a within limits: who was there and who begins are targets",
            "top: the whole machine, and all of it traced",
            "watch without a target: every process, and new ones",
        ],
        both: false,
    },
    Selection { suite: "guest", tests: &["threads that outlive the first are traced on"], both: true },
    Selection {
        suite: "accuracy",
        tests: &[
            "malloc family in one thread",
            "malloc family in 8 threads",
            "blocks freed by another thread",
            "longjmp and signal handlers",
            "blocks allocated inside libc",
            "C++ new, containers, exceptions",
        ],
        both: true,
    },
    Selection {
        suite: "accuracy",
        tests: &[
            "attach, growth: brk, mmap, munmap and mremap to the byte",
            "attach, faults: brk, mmap, munmap and mremap to the byte",
        ],
        both: false,
    },
    Selection {
        suite: "sampled",
        tests: &[
            "attach, allocs: malloc family in 8 threads, to the byte",
            "command, sampled: estimates are as near as they say",
            "attach, sampled with frees: estimates are as near as they say",
            "allocs: what the heap holds for free is not live, to the byte",
            "allocs: what is held stays live in a heap that changes",
        ],
        both: false,
    },
    Selection {
        suite: "frees",
        tests: &["double, double-free: told with its stacks", "a correct C++ program has none"],
        both: false,
    },
    Selection { suite: "frees", tests: &["how long blocks lived is counted, each once"], both: true },
    Selection { suite: "threads", tests: &["threads have what they allocated, with stacks"], both: true },
    Selection {
        suite: "native",
        tests: &[
            "attach: arguments in registers, to the byte",
            "the semaphore is up while tracing, and down after it however it ends",
        ],
        both: false,
    },
    Selection {
        suite: "budget",
        tests: &[
            "budget: a loop's probes come and go, and a light process keeps its own",
            "when growing: a process is traced once it grows, and no sooner",
        ],
        both: false,
    },
    Selection {
        suite: "lifecycle",
        tests: &[
            "fork without exec",
            "fork with exec",
            "vfork with exec",
            "a followed child is exact once probes are there",
        ],
        both: true,
    },
    Selection {
        suite: "stacks",
        tests: &[
            "a known stack is whole",
            "page faults are found where memory is touched first",
            "a started program has whole stacks from its first call",
        ],
        both: false,
    },
    Selection {
        suite: "doctor",
        tests: &[
            "the machine can be traced, and the figures are of this machine",
            "the probes shown are the places changed when tracing",
        ],
        both: false,
    },
    Selection {
        suite: "watch",
        tests: &[
            "attach: lines are the program's own list, call for call",
            "command: lines are the program's own list, and the total its maps'",
            "threads that are given each other's addresses: every call and the total",
        ],
        both: false,
    },
    Selection {
        suite: "holding",
        tests: &[
            "attach, growth: each print is what the program holds, to the byte",
            "attach, faults: each print is what the program holds, to the byte",
        ],
        both: false,
    },
    Selection { suite: "cli", tests: &["the BPF programs log if they are asked to"], both: false },
    Selection {
        suite: "lifecycle",
        tests: &[
            "attach: the target outlives the tracer unharmed",
            "attach: a killed tracer leaves no probes",
            "attach: two tracers on one process",
        ],
        both: false,
    },
];

/// Where heaptrace must refuse to work.
const REFUSAL: &[Selection] =
    &[Selection { suite: "guest", tests: &["an unsuitable kernel is refused with its reason"], both: false }];

/// Opened by programs while they run, so not among what they are linked with.
const OPENED: &[&str] = &["/usr/lib/x86_64-linux-gnu/libgcc_s.so.1"];

/// # Errors
/// When something could not be built, fetched or started; failed tests are told by the exit code.
pub fn run(repo: &Repo, names: &[String], only: Option<&str>) -> Result<ExitCode> {
    let kernels = kernels::chosen(names)?;
    let cache = repo.target().join("vm");
    fs::create_dir_all(&cache).with_context(|| format!("failed to create {}", cache.display()))?;
    dist::run(repo)?;
    let guest = Guest::build(repo, &cache)?;
    let mut passed = true;
    let mut summary = String::from("\nsummary\n");
    for kernel in kernels {
        let start = Instant::now();
        let mut jobs = jobs(kernel);
        jobs.retain(|job| only.is_none_or(|text| job.test.contains(text)));
        if jobs.is_empty() {
            summary.push_str(&format!("{} ({}): no test of it is chosen\n", kernel.name, kernel.suite));
            passed = false;
            continue;
        }
        match boot(kernel, &guest, &jobs, &cache) {
            Ok(console) => passed &= report(&mut summary, kernel, &jobs, &console),
            // The other kernels are tried all the same.
            Err(error) => {
                passed = false;
                summary.push_str(&format!("{} ({}):\n  NOT RUN: {error:#}\n", kernel.name, kernel.suite));
            }
        }
        let log = log(&cache, kernel);
        summary.push_str(&format!(
            "  {:.0} s in all; console: {}\n",
            start.elapsed().as_secs_f64(),
            log.display()
        ));
    }
    println!("{summary}");
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn boot(kernel: Kernel, guest: &Guest, jobs: &[Job], cache: &Path) -> Result<Console> {
    let image = kernels::fetch(kernel, cache)?;
    let archive = cache.join(format!("{}.cpio", kernel.suite));
    guest.pack(&archive, jobs)?;
    qemu::run(&image, &archive, &log(cache, kernel))
}

fn log(cache: &Path, kernel: Kernel) -> PathBuf {
    cache.join(format!("{}.log", kernel.suite))
}

/// One test: a guest runs each in a process of its own.
struct Job {
    suite: &'static str,
    test: String,
}

fn jobs(kernel: Kernel) -> Vec<Job> {
    let selections = if kernel.supported { SELECTIONS } else { REFUSAL };
    let mut jobs = Vec::new();
    for Selection { suite, tests, both } in selections {
        for test in *tests {
            let names = if *both {
                vec![format!("command: {test}"), format!("attach: {test}")]
            } else {
                vec![(*test).to_owned()]
            };
            jobs.extend(names.into_iter().map(|test| Job { suite, test }));
        }
    }
    jobs
}

/// Appends what became of `jobs`; says whether all is well.
fn report(summary: &mut String, kernel: Kernel, jobs: &[Job], console: &Console) -> bool {
    let Kernel { name, suite, .. } = kernel;
    let mut well = console.trouble.is_empty();
    summary.push_str(&format!("{name} ({suite}, {}):\n", console.release));
    for Job { suite, test } in jobs {
        let done = console.done.iter().find(|done| done.name == format!("{suite}: {test}"));
        let verdict = match done {
            Some(done) if done.passed => "ok",
            Some(_) => "FAILED",
            None => "NOT RUN",
        };
        well &= verdict == "ok";
        let seconds = done.map_or(0.0, |done| done.seconds);
        summary.push_str(&format!("  {verdict:<8}{seconds:>6.1} s  {suite}: {test}\n"));
        for note in done.iter().flat_map(|done| &done.notes) {
            summary.push_str(&format!("                    {note}\n"));
        }
    }
    for trouble in &console.trouble {
        summary.push_str(&format!("  TROUBLE: {trouble}\n"));
    }
    well
}

/// What all guests have in common.
struct Guest {
    init: PathBuf,
    heaptrace: PathBuf,
    /// Suite and its binary, without debug information, and where the guest has it.
    suites: Vec<(String, PathBuf, PathBuf)>,
    /// At the same places as here.
    files: BTreeSet<PathBuf>,
}

impl Guest {
    fn build(repo: &Repo, cache: &Path) -> Result<Self> {
        let init = cache.join("init");
        let source = repo.root().join("xtask/src/vmtest/guest/init.rs");
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-O", "-Ctarget-feature=+crt-static", "-o"]).arg(&init).arg(source);
        step::must("guest's init", &mut rustc)?;

        let mut cargo = repo.cargo();
        cargo.args(["run", "--quiet", "--package", "heaptrace-tests", "--example", "programs"]);
        step::announce("test programs", &cargo);
        let programs: Vec<PathBuf> = output(&mut cargo)?.lines().map(PathBuf::from).collect();
        let suites = suites(repo, cache)?;

        let mut files: BTreeSet<PathBuf> = OPENED.iter().map(PathBuf::from).collect();
        for file in programs.iter().chain(suites.iter().map(|(_, binary, _)| binary)) {
            files.extend(libraries(file)?);
        }
        files.extend(programs);
        // The cache of compiled programs goes by the content of their sources.
        for folder in
            fs::read_dir(repo.root().join("tests/programs")).context("failed to find the test programs")?
        {
            for file in fs::read_dir(folder?.path())? {
                files.insert(file?.path());
            }
        }
        Ok(Self { init, heaptrace: repo.target().join("dist/heaptrace"), suites, files })
    }

    /// Writes the initramfs of a guest that runs `jobs`.
    fn pack(&self, archive: &Path, jobs: &[Job]) -> Result<()> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("failed to read {}", path.display()));
        let mut out = Initramfs::create(archive)?;
        for file in &self.files {
            out.same(file)?;
        }
        out.bytes(Path::new("/usr/bin/heaptrace"), &read(&self.heaptrace)?, true)?;
        out.bytes(Path::new("/init"), &read(&self.init)?, true)?;
        for (_, binary, place) in &self.suites {
            out.bytes(place, &read(binary)?, true)?;
        }
        let mut lines = String::new();
        for Job { suite, test } in jobs {
            let (_, _, place) = self
                .suites
                .iter()
                .find(|(name, ..)| name == suite)
                .with_context(|| format!("no test suite {suite}"))?;
            lines.push_str(&format!(
                "{suite}: {test}\t{}\t--exact\t{test}\t--test-threads=1\n",
                place.display()
            ));
        }
        out.bytes(Path::new("/jobs"), lines.as_bytes(), false)?;
        for empty in ["/proc", "/sys", "/dev", "/tmp"] {
            out.directory(Path::new(empty))?;
        }
        out.finish()
    }
}

/// Builds the suites; name, stripped copy and original place of each.
fn suites(repo: &Repo, cache: &Path) -> Result<Vec<(String, PathBuf, PathBuf)>> {
    let mut cargo = repo.cargo();
    cargo.args([
        "test",
        "--no-run",
        "--package",
        "heaptrace-tests",
        "--message-format",
        "json-render-diagnostics",
    ]);
    for suite in SELECTIONS.iter().map(|selection| selection.suite).collect::<BTreeSet<_>>() {
        cargo.args(["--test", suite]);
    }
    step::announce("test suites", &cargo);
    let mut suites = Vec::new();
    for line in output(&mut cargo)?.lines() {
        let message: serde_json::Value =
            serde_json::from_str(line).context("failed to read cargo's messages")?;
        if let (Some(place), Some(name)) =
            (message["executable"].as_str(), message["target"]["name"].as_str())
        {
            let copy = cache.join(format!("{name}.suite"));
            let status = Command::new("strip")
                .arg("-o")
                .arg(&copy)
                .arg(place)
                .status()
                .context("failed to run strip")?;
            ensure!(status.success(), "strip {place}: {status}");
            suites.push((name.to_owned(), copy, PathBuf::from(place)));
        }
    }
    Ok(suites)
}

/// The shared libraries of `file` and the loader, as `ldd` finds them; none of what is linked statically.
fn libraries(file: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(file).env("LC_ALL", "C").output().context("failed to start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(!text.contains("not found"), "{} lacks libraries: {text}", file.display());
    Ok(paths(&text))
}

fn paths(ldd: &str) -> Vec<PathBuf> {
    ldd.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found_in_what_ldd_prints() {
        let text =
            "\tlinux-vdso.so.1 (0x7ffc)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so (0x7f)\n";
        assert_eq!(paths(text), [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld.so")]);
        assert!(paths("\tstatically linked\n").is_empty());
    }

    #[test]
    fn a_job_that_the_guest_did_not_run_fails_the_whole() {
        let kernel = kernels::KERNELS[0];
        let jobs = jobs(kernel);
        let mut summary = String::new();
        assert!(!report(&mut summary, kernel, &jobs, &Console::default()));
        assert!(summary.contains("NOT RUN"));
        assert!(report(&mut summary, kernel, &[], &Console::default()));
    }
}
