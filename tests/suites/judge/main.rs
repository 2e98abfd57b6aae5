//! heaptrace's own BPF code against return probes, on the very same calls: a session at entry and return of each
//! function adds up calls, bytes and a sum over addresses and sizes, what heaptrace accounts is added up in the same way,
//! and both must be equal for every function, while other tracers' probes come and go.
//!
//! What could differ and be right, and what is done about it:
//! - Where counting begins and ends. A program is judged from its exec to its end, with all its children: the judge is
//!   there before it and after it.
//! - A call that its process's end interrupts (`exit_group` of another thread): heaptrace may have seen its result
//!   before its return. The programs join their threads; a call that is under way at the end fails the test.
//! - Which of an allocator's functions a call is of, where one calls another. The judge takes the outermost; heaptrace
//!   sees it by the return address. A function of which nothing is left but a jump to another one is not probed, nor
//!   judged: its calls are the other's.
//! - Frees by which glibc empties the cache of a thread that ends, of blocks that the program has freed before.
//! - Calls left by longjmp or an exception, which have no return: other tests.

mod programs;

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    judged::{self, Judge, Libraries, Table},
    report::Report,
    runner::{self, Test, end_to_end},
    running::{PATIENCE, Running},
};
use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How often another heaptrace comes and goes, in the short run and in the long one.
const ROUNDS: u32 = 3;
const ALL_ROUNDS: u32 = 100;

/// Prepares a program in a folder.
type Make = fn(&Path) -> Result<Subject>;

/// A program that is judged.
struct Subject {
    name: &'static str,
    /// What it is linked with is judged.
    linked: PathBuf,
    line: Vec<OsString>,
    /// What it ends with.
    code: i32,
    /// Brings it to its end, where a file ([`judged::end_file`]) does not.
    end: Option<fn(&Path) -> Result<()>>,
    /// Something to do for it, at each round.
    load: Option<fn(&Path) -> Result<()>>,
}

fn main() -> ExitCode {
    let test = |name: &str, rounds: u32, make: Make| {
        let rounds = judged::rounds(rounds);
        let meanwhile = match rounds {
            0 => String::new(),
            rounds => format!(", while another heaptrace comes and goes {rounds} times"),
        };
        end_to_end(format!("{name}: equal to a judge{meanwhile}"), move || judge(make, rounds))
            .needing(judged::unavailable())
    };
    let short = programs::SHORT.iter().map(|(name, make)| test(name, ROUNDS, *make));
    let long =
        programs::SHORT.iter().chain(programs::LONG).map(|(name, make)| test(name, ALL_ROUNDS, *make).slow());
    let once = programs::ONCE.iter().map(|(name, make)| test(name, 0, *make));
    let rest = programs::REST.iter().map(|(name, make)| test(name, 0, *make).slow());
    let tests: Vec<Test> = short.chain(once).chain(rest).chain(long).collect();
    runner::run(tests)
}

fn judge(make: Make, rounds: u32) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    // For servers that give up being root.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    let subject = make(folder)?;
    let libraries = Libraries::of(&subject.linked, folder)?;
    let judge = Judge::start(&libraries, folder)?;
    let end = || File::create(judged::end_file(folder)).map(drop).context("failed to make a file");
    if rounds == 0 {
        end()?;
    }
    let mut recorder = judged::record(&subject.line, &libraries, folder)?;
    let began = Instant::now();
    if rounds > 0 {
        let target = judged::command_of(&mut recorder, Path::new(&subject.line[0]))?;
        come_and_go(rounds, target, &subject, &mut recorder, folder)?;
        match subject.end {
            Some(end) => end(folder)?,
            None => end()?,
        }
    }
    let status = recorder.wait_at_most(PATIENCE * 2)?;
    ensure!(status.code() == Some(subject.code), "{}", recorder.describe(&format!("ended with {status}")));
    let took = began.elapsed();
    let judgement = judge.finish()?;
    let tallies = judged::tallies(folder)?;
    let said = judged::compare(&judgement, &tallies)?;
    println!("{}, {rounds} rounds in {:.1} s:\n{said}", subject.name, took.as_secs_f64());
    println!(
        "  the judge saw {} nested calls, {} left, {} frees of the allocator's own",
        judgement.nested, judgement.left, judgement.own
    );
    if rounds > ROUNDS {
        // Hundreds of processes, each with stacks of its own, take minutes to be told of.
        return Ok(());
    }
    ensure_reported(&heaptrace::report(folder)?, &tallies)
}

/// The report says what the BPF programs added up.
fn ensure_reported(report: &Report, tallies: &Table) -> Result<()> {
    /// Subjects that begin one program after another can have more sites than there is room for. What finds none is in
    /// the totals, without its function and stack.
    const NO_ROOM: [&str; 2] = ["stack_map_full", "growth_map_full"];
    let lost: Vec<_> = report.coverage.lost.iter().filter(|(_, count)| **count > 0).collect();
    ensure!(
        lost.iter().all(|(reason, _)| NO_ROOM.contains(&reason.as_str()))
            && report.coverage.missed_returns == 0,
        "{:?}",
        report.coverage
    );
    let add = |[count, bytes]: [u64; 2], [more, more_bytes]: [u64; 2]| [count + more, bytes + more_bytes];
    let reported = |function: Option<&str>| {
        let sites = report.sites.iter().filter(|site| function.is_none_or(|name| site.function == name));
        sites.map(|site| [site.alloc_count, site.alloc_bytes]).fold([0, 0], add)
    };
    if lost.is_empty() {
        for (function, row) in tallies {
            let figures = reported(Some(function.as_str()));
            ensure!(
                figures == row.allocated[..2],
                "the report has {figures:?} blocks and bytes of {function}, not {:?}",
                row.allocated
            );
        }
    }
    let figures = reported(None);
    let expected = tallies.values().map(|row| [row.allocated[0], row.allocated[1]]).fold([0, 0], add);
    ensure!(figures == expected, "the report has {figures:?} blocks and bytes, not {expected:?}");
    Ok(())
}

/// Another heaptrace traces the program for a moment, again and again.
fn come_and_go(
    rounds: u32,
    target: u32,
    subject: &Subject,
    recorder: &mut Running,
    folder: &Path,
) -> Result<()> {
    let others = folder.join("others");
    fs::create_dir(&others)?;
    if let Some(load) = subject.load {
        load(folder).with_context(|| recorder.describe("did not serve"))?;
    }
    for round in 0..rounds {
        let mut other = heaptrace::attach(&[target], &["--stack", "none", "--max-live", "65536"], &others)?;
        if let Some(load) = subject.load {
            load(folder)?;
        } else {
            // So that there are calls with both.
            thread::sleep(Duration::from_millis(20));
        }
        other.signal(libc::SIGINT)?;
        heaptrace::finish(&mut other).with_context(|| format!("in round {round}"))?;
        ensure!(recorder.poll()?.is_none(), "{}", recorder.describe("ended early"));
    }
    Ok(())
}
