//! `heaptrace leaks --trace growth` and `faults` against a program that knows whose each of its pages is.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    live::{Live, list, number},
    programs::Program,
    runner::{self, end_to_end, unprivileged},
    session::{Waiting, ledger_file},
    steps::Steps,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests = vec![unprivileged("options that choose blocks are a usage error", || {
        for options in [["--trace", "growth", "--min-size", "5"], ["--trace", "faults", "--max-size", "9"]] {
            let output = heaptrace_tests::heaptrace::output(&[&["leaks"], &options[..], &["true"]].concat())?;
            ensure!(output.status.code() == Some(2), "{options:?}: {}", output.status);
        }
        Ok(())
    })];
    for mode in ["growth", "faults"] {
        tests.push(end_to_end(
            format!("attach, {mode}: each print is what the program holds, to the byte"),
            move || attached(mode),
        ));
        tests.push(end_to_end(
            format!("command, {mode}: what it held at its end is in the last print"),
            move || command(mode),
        ));
        tests.push(end_to_end(
            format!("{mode}: calls that find no room in the ring are counted"),
            move || losses(mode),
        ));
    }
    tests.push(end_to_end("what processes held that are retired is not forgotten", retired));
    runner::run(tests)
}

/// By site: bytes that are mapped, and that were touched and are there.
type Held = BTreeMap<String, (u64, u64)>;

/// What the program says of a step.
fn listed(step: u32, folder: &Path) -> Result<Held> {
    let mut held = Held::new();
    for line in fs::read_to_string(ledger_file(folder)).context("no list")?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [of, site, mapped, touched] = words[..] else { anyhow::bail!("{line:?} is no line") };
        if of.parse::<u32>()? == step {
            held.insert(site.to_owned(), (mapped.parse()?, touched.parse()?));
        }
    }
    ensure!(held.len() > 5, "step {step} is not in the list");
    Ok(held)
}

/// The site that a row is of.
fn site_of(row: &Value) -> Option<&str> {
    let mut symbols = row["stack"].as_array()?.iter().filter_map(|frame| frame["symbol"].as_str());
    symbols.find(|symbol| symbol.starts_with("site_"))
}

/// Bytes by site, those of 0 left out.
fn printed(print: &Value) -> Result<BTreeMap<String, u64>> {
    let mut held = BTreeMap::new();
    for row in list(print, "rows")? {
        if let Some(site) = site_of(row) {
            *held.entry(site.to_owned()).or_default() += number(row, "bytes")?;
        }
    }
    Ok(held)
}

fn expected(mode: &str, listed: &Held) -> BTreeMap<String, u64> {
    let of = |(mapped, touched): &(u64, u64)| if mode == "growth" { *mapped } else { *touched };
    let held = listed.iter().map(|(site, held)| (site.clone(), of(held)));
    held.filter(|(_, bytes)| *bytes > 0).collect()
}

/// Pages that the kernel moves meanwhile (compaction, for somebody's huge page) fault again where they are touched next, and
/// count there: a stack's, say, at a site that touches none. Without such moves nothing is let pass.
struct Moved(u64);

impl Moved {
    const AT_MOST: u64 = 8 * 4096;

    fn count() -> Result<u64> {
        let statistics = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
        let of = statistics.lines().find_map(|line| line.strip_prefix("pgmigrate_success "));
        of.map_or(Ok(0), |count| Ok(count.parse()?))
    }

    fn so_far() -> Result<Self> {
        Ok(Self(Self::count()?))
    }

    fn agree(&self, mode: &str, found: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> bool {
        let sites = found.keys().chain(expected.keys()).collect::<BTreeSet<_>>();
        let of = |held: &BTreeMap<String, u64>, site| held.get(site).copied().unwrap_or_default();
        // Nothing is missing for that.
        let more = sites.into_iter().map(|site| of(found, site).checked_sub(of(expected, site)));
        let has_moved = || mode == "faults" && Self::count().is_ok_and(|count| count > self.0);
        more.sum::<Option<u64>>().is_some_and(|more| more == 0 || more <= Self::AT_MOST && has_moved())
    }
}

fn options(mode: &str) -> Vec<&str> {
    vec!["--trace", mode, "--older-than", "0s", "--top", "100000"]
}

fn nothing_lost(print: &Value) -> Result<()> {
    let lost = print["coverage"]["lost"].as_object().context("no losses")?;
    ensure!(lost.values().all(|count| *count == 0), "{lost:?}");
    Ok(())
}

fn attached(mode: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let moved = Moved::so_far()?;
    let mut steps = Steps::start_copy(&Program::C("holding").compile()?, folder)?;
    let options = [options(mode), vec!["--interval", "50ms"]].concat();
    let mut live = Live::attach("leaks", &[steps.pid()], &options, folder)?;
    ensure!(code::changed_bytes(steps.pid())? == 0, "code was changed");
    let mut seen = 0;
    for step in 1..=3 {
        steps.step(step, folder)?;
        let expected = expected(mode, &listed(step, folder)?);
        let mut last = BTreeMap::new();
        let prints = live
            .wait_for_print(&format!("step {step}"), seen, |print| {
                last = printed(print).unwrap_or_default();
                moved.agree(mode, &last, &expected)
            })
            .with_context(|| format!("the program has {expected:?}\nheaptrace has {last:?}"))?;
        seen = prints.len();
        let print = prints.last().context("no print")?;
        let unit = if mode == "growth" { "ranges" } else { "pages" };
        ensure!(print["unit"] == unit && print["mode"] == mode, "{print}");
        for row in list(print, "rows")?.iter().filter(|row| site_of(row).is_some()) {
            ensure!(row["is_exact"] == true && row["exited"] == false, "{row}");
            ensure!(mode == "growth" || number(row, "bytes")? == 4096 * number(row, "count")?, "{row}");
        }
    }
    steps.end(folder)?;
    let prints = live.finish(0)?;
    let last = prints.last().context("no print")?;
    nothing_lost(last)?;
    at_its_end(mode, last, folder, &moved)
}

/// What it held, and its child: of pages, whose child it is does not matter.
fn at_its_end(mode: &str, last: &Value, folder: &Path, moved: &Moved) -> Result<()> {
    let mut expected = expected(mode, &listed(3, folder)?);
    if mode == "growth" {
        expected.insert("site_child".to_owned(), 17 * 4096);
    }
    ensure!(last["last"] == true, "{last}");
    let mut found = printed(last)?;
    if mode == "faults" {
        // Nobody looked whether the page that was touched was a huge one.
        let (own, whole) = (found.remove("site_touch_huge"), expected.remove("site_touch_huge"));
        ensure!(own == Some(4096) || own == whole, "{own:?} of {whole:?}");
    }
    ensure!(moved.agree(mode, &found, &expected), "the program has {expected:?}\nheaptrace has {found:?}");
    let exact = mode == "growth";
    let rows = list(last, "rows")?.iter();
    for row in rows.filter(|row| site_of(row).is_some()) {
        ensure!(row["exited"] == true && row["is_exact"] == exact, "{row}");
    }
    Ok(())
}

fn command(mode: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Program::C("holding").compile()?;
    let moved = Moved::so_far()?;
    let ledger = ledger_file(folder);
    let environment = [("LEDGER_OUT", ledger.as_os_str())];
    let prints = Live::command("leaks", &options(mode), folder, &program, &[], &environment)?.finish(0)?;
    let last = prints.last().context("no print")?;
    nothing_lost(last)?;
    at_its_end(mode, last, folder, &moved)
}

/// More processes than there is room for at one time.
fn retired() -> Result<()> {
    const CHILDREN: usize = 60;
    let folder = TempDir::new()?;
    // Each has a record, and another one once it has exec'd; and so has sleep.
    let script = format!("i=0; while [ $i -lt {CHILDREN} ]; do /bin/true; i=$((i+1)); sleep 0.1; done");
    let options = [options("growth"), vec!["--max-processes", "160"]].concat();
    let shell = Path::new("/bin/sh");
    let prints = Live::command("leaks", &options, folder.path(), shell, &["-c", &script], &[])?.finish(0)?;
    let last = prints.last().context("no print")?;
    nothing_lost(last)?;
    let of = list(last, "rows")?.iter().filter(|row| row["comm"] == "true").map(|row| number(row, "pid"));
    let pids = of.collect::<Result<BTreeSet<u64>>>()?;
    ensure!(pids.len() == CHILDREN, "{} children held something in the end", pids.len());
    Ok(())
}

/// A ring of one page, and four threads that fill it.
fn losses(mode: &'static str) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("mappings").compile()?);
    command.arg(folder.join("list")).arg("4");
    let mut waiting = Waiting::start(command, folder)?;
    let options = [options(mode), vec!["--max-events", "1"]].concat();
    let live = Live::attach("leaks", &[waiting.target.pid()], &options, folder)?;
    // While it does not run, nobody reads the ring.
    let status = live.run.while_it_stands(|| {
        waiting.go()?;
        waiting.target.wait()
    })?;
    ensure!(status.success(), "the program failed");
    let prints = live.finish(0)?;
    let lost = number(prints.last().context("no print")?, "coverage.lost.ring_full")?;
    ensure!(lost > 0, "nothing was lost");
    Ok(())
}
