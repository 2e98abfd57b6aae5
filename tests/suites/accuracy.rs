//! Bytes and counts against the programs' own ledgers, per process and per site.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    compare::{self, Find, Slack},
    heaptrace,
    programs::Program,
    report::Site,
    runner::{self, Test, end_to_end},
    session::{Session, Start},
};
use std::{path::Path, process::ExitCode, time::Duration};
use tempfile::TempDir;

fn main() -> ExitCode {
    let mut tests = Vec::new();
    for start in Start::BOTH {
        let mut case = |name: &str, program, arguments: &[&str], find| {
            tests.push(exact(name, start, Session::new(program, arguments), find));
        };
        let c = Program::C;
        case("malloc family in one thread", c("family"), &["1", "30"], Find::Caller);
        case("malloc family in 8 threads", c("family"), &["8", "150"], Find::Caller);
        let bare = Program::COmitFramePointer("family");
        case("malloc family without frame pointers", bare, &["2", "30"], Find::Caller);
        for (name, flags) in [("static", &["-static"]), ("static PIE", &["-static-pie"])] {
            let program = Program::CWith("family", flags);
            case(&format!("malloc family, {name}"), program, &["2", "30"], Find::Caller);
        }
        case("blocks freed by another thread", c("cross"), &["5000"], Find::Caller);
        case("longjmp and signal handlers", c("control"), &[], Find::Caller);
        case("blocks allocated inside libc", c("inlibc"), &[], Find::Caller);
        case("callers that only their callers tell apart", c("twins"), &[], Find::AnyFrame);
        let bare = Program::COmitFramePointer("twins");
        case("the same without frame pointers", bare, &[], Find::AnyFrame);
        case("C++ new, containers, exceptions", Program::Cpp("objects"), &[], Find::AnyFrame);
        for (name, flags) in
            [("dynamic", &[][..]), ("static", &["-static"]), ("static PIE", &["-static-pie"])]
        {
            let program = Program::CppLinked("headed", flags);
            case(
                &format!("operator new with a header before each block, {name}"),
                program,
                &[],
                Find::AnyFrame,
            );
        }
        case("Rust collections", Program::Rust("collections"), &[], Find::AnyFrame);
        tests.push(million(start));
        tests.push(many_stacks(start));
        tests.push(plugin(start));
        tests.push(bound(start));
        tests.push(apart(start, "deepbind", Program::C("dynamic"), &["-DAPART"]));
        tests.push(apart(start, "namespace", Program::C("dynamic"), &["-DAPART"]));
        // The C library is there twice, and nobody calls the first one's malloc.
        let beside = Program::CLinked("dynamic", &[], &["-ljemalloc"]);
        tests.push(apart(start, "namespace", beside, &["-DAPART", "-DPLAIN"]));
        tests.push(jemalloc(start));
    }
    tests.push(end_to_end("command: 10,000,000 live blocks", ten_million).slow());
    tests.push(end_to_end("attach: in the middle of a busy run", busy));
    for (option, reason) in [
        ("--max-sites=3", "stack_map_full"),
        ("--max-frames=2", "stack_map_full"),
        ("--max-live=10", "live_map_full"),
    ] {
        tests.push(end_to_end(format!("command: nothing is lost silently with {option}"), move || {
            full_table(option, reason)
        }));
    }
    for mode in ["exact", "growth", "faults"] {
        let name = format!("attach, {mode}: brk, mmap, munmap and mremap to the byte");
        tests.push(end_to_end(name, move || growth(mode)));
    }
    runner::run(tests)
}

/// What a table has no room for is in `lost`, and what is kept is right.
fn full_table(option: &'static str, reason: &str) -> Result<()> {
    let session = Session::new(Program::C("many"), &["blocks", "1000"]);
    let folder = TempDir::new()?;
    // The ledger speaks of sites, which are what gets lost here.
    let unlimited = session.clone().record_in(Start::Command, folder.path())?.report;
    let folder = TempDir::new()?;
    let limited = session.options(&[option]).record_in(Start::Command, folder.path())?.report;
    let (all, kept) = (&unlimited.processes[0], &limited.processes[0]);
    ensure!(kept.alloc_count + kept.lost_count == all.alloc_count, "kept {kept:?} of {all:?}");
    ensure!(kept.alloc_bytes + kept.lost_bytes == all.alloc_bytes, "kept {kept:?} of {all:?}");
    let lost = limited.coverage.lost.get(reason).copied().unwrap_or_default();
    ensure!(lost > 0 && lost >= kept.lost_count, "{:?}", limited.coverage);
    ensure!(kept.lost_count == 0 || reason == "live_map_full", "sites that are lost lose no block: {kept:?}");
    Ok(())
}

/// The growth view's sites add up to the process's totals, and lead to the program's own `main`.
fn growth_by_stack(folder: &Path) -> Result<()> {
    let report = heaptrace::view(folder, "growth")?;
    let process = &report.processes[0];
    let of = |names: &[&str]| -> u64 {
        let sites = report.sites.iter().filter(|site| names.contains(&site.function.as_str()));
        sites.map(|site| site.alloc_bytes).sum()
    };
    ensure!(
        of(&["mmap", "mremap"]) == process.mmap_bytes,
        "mmap: {} in {process:?}",
        of(&["mmap", "mremap"])
    );
    // What was given back afterwards stays growth.
    ensure!(of(&["brk"]) >= 1 << 20, "brk: {}", of(&["brk"]));
    let from_main = |site: &&Site| site.stack.iter().any(|frame| frame.symbol.as_deref() == Some("main"));
    let own: u64 = report.sites.iter().filter(from_main).map(|site| site.alloc_bytes).sum();
    ensure!(own >= 1_000_001, "{own} bytes were mapped below main");
    Ok(())
}

fn growth(mode: &'static str) -> Result<()> {
    let record = |arguments: &[&str]| -> Result<_> {
        let folder = TempDir::new()?;
        let session = Session::new(Program::C("growth"), arguments).options(&["--trace", mode]);
        let mut report = session.attach_report(folder.path(), "growth")?;
        ensure!(report.mode == mode, "{}", report.mode);
        compare::nothing_lost(&report)?;
        Ok((folder, report.processes.remove(0)))
    };
    let ((_, idle), (folder, busy)) = (record(&[])?, record(&["grow"])?);
    growth_by_stack(folder.path())?;
    let pages = |bytes: u64| bytes.next_multiple_of(4096);
    let (mapped, unmapped, grown, shrunk) = (pages(1_000_001), 8192, pages(3_000_001), pages(5003));
    let mmap = mapped + (grown - (mapped - unmapped));
    let munmap = unmapped + (grown - shrunk);
    let difference = (
        busy.brk_bytes - idle.brk_bytes,
        busy.mmap_bytes - idle.mmap_bytes,
        busy.munmap_bytes - idle.munmap_bytes,
    );
    ensure!(difference == ((1 << 20) - 3 * 4096, mmap, munmap), "brk, mmap, munmap: {difference:?}");
    let faults =
        heaptrace::view(folder.path(), "faults")?.sites.iter().map(|site| site.alloc_count).sum::<u64>();
    ensure!((faults > 0) == (mode == "faults"), "{faults} page faults");
    if mode == "exact" {
        return Ok(());
    }
    // Of blocks it says nothing rather than that there are none.
    ensure!(busy.alloc_count == 0, "{busy:?}");
    let file = heaptrace::record_file(folder.path());
    let file = file.to_str().context("the temporary folder's name is not UTF-8")?;
    for view in ["live", "alloc", "sizes", "rss"] {
        let output = heaptrace::output(&["report", file, "--view", view])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && said.contains("has no blocks"), "{view}: {said}");
    }
    let output = heaptrace::output(&["report", file])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && said.contains(&format!("{mode} mode (calls that map memory")),
        "{said}"
    );
    ensure!(said.contains(&format!("# View: {mode}")) && !said.contains("blocks not freed"), "{said}");
    Ok(())
}

fn exact(name: &str, start: Start, session: Session, find: Find) -> Test {
    end_to_end(format!("{}: {name}", start.name()), move || {
        let outcome = session.record(start)?;
        outcome.ensure_success()?;
        compare::exactly(&outcome, find)
    })
}

/// More than the table has room for before it grows.
fn million(start: Start) -> Test {
    let session = Session::new(Program::CWith("many", &["-DLEDGER_BITS=22"]), &["blocks", "1500000"]);
    exact("1,500,000 live blocks", start, session, Find::Caller)
}

/// With room for as many blocks, and a few of the program's own.
fn ten_million() -> Result<()> {
    let session = Session::new(Program::CWith("many", &["-DLEDGER_BITS=24"]), &["blocks", "10000000"])
        .options(&["--max-live", "10001000"])
        .at_most(Duration::from_secs(600));
    compare::exactly(&session.record(Start::Command)?, Find::Caller)
}

fn many_stacks(start: Start) -> Test {
    const STACKS: usize = 20_000;
    end_to_end(format!("{}: 20,000 distinct stacks", start.name()), move || {
        let session = Session::new(Program::C("many"), &["stacks", &STACKS.to_string()])
            .options(&["--max-sites", "40000"]);
        let outcome = session.record(start)?;
        outcome.ensure_success()?;
        compare::exactly(&outcome, Find::Caller)?;
        let deep = outcome.report.sites.iter().filter(|site| {
            compare::site_function(site, Find::Caller) == Some("site_deep") && site.alloc_count == 1
        });
        let found = deep.count();
        ensure!(found == STACKS, "{found} sites of one block each, where {STACKS} were made");
        Ok(())
    })
}

fn plugin(start: Start) -> Test {
    end_to_end(format!("{}: a library opened while tracing", start.name()), move || {
        let library = Program::CLibrary("plugin").compile()?;
        let outcome =
            Session::new(Program::C("dynamic"), &["plugin", &library.to_string_lossy()]).record(start)?;
        outcome.ensure_success()?;
        compare::exactly(&outcome, Find::Caller)
    })
}

/// A plugin that is bound to an allocator of its own, beside the C library's.
fn bound(start: Start) -> Test {
    end_to_end(format!("{}: a plugin with an allocator of its own", start.name()), move || {
        let library = Program::CLibraryWith("bound", &["-Wl,-Bsymbolic"]).compile()?;
        let session = Session::new(Program::C("dynamic"), &["bound", &library.to_string_lossy()]);
        let outcome = session.record(start)?;
        outcome.ensure_success()?;
        compare::with_slack(
            &outcome,
            Find::Caller,
            Slack { attached_late: start == Start::Command, unledgered_site: None },
        )
    })
}

/// A plugin whose functions come before all others' for itself alone.
fn apart(start: Start, how: &'static str, program: Program, flags: &'static [&'static str]) -> Test {
    let name = format!("{}: {how}, {flags:?}", start.name());
    end_to_end(name, move || {
        let library = Program::CLibraryWith("bound", flags).compile()?;
        let outcome = Session::new(program, &[how, &library.to_string_lossy()]).record(start)?;
        outcome.ensure_success()?;
        let slack = Slack { attached_late: start == Start::Command, unledgered_site: None };
        compare::with_slack(&outcome, Find::Caller, slack)
    })
}

/// The allocator itself is opened while tracing: the program waits until there are probes in it, or gives up
/// waiting and allocates all the same.
fn jemalloc(start: Start) -> Test {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    end_to_end(format!("{}: jemalloc opened while tracing", start.name()), move || {
        ensure!(Path::new(LIBRARY).exists(), "{LIBRARY} is missing (Debian package: libjemalloc2)");
        // Its thread-local storage is larger than what glibc sets aside for libraries that come late.
        let room = ("GLIBC_TUNABLES", "glibc.rtld.optional_static_tls=16384");
        let session = Session::new(Program::C("dynamic"), &["jemalloc", LIBRARY]).environment(room.0, room.1);
        let outcome = session.record(start)?;
        outcome.ensure_success()?;
        compare::with_slack(&outcome, Find::Caller, Slack { attached_late: true, unledgered_site: None })
    })
}

/// Threads allocate while the probes are set: of their blocks only what must hold is checked, but what is
/// allocated after heaptrace said that it is tracing is exact.
fn busy() -> Result<()> {
    // 4 threads hold 64 blocks each, so no more can be live, whatever was missed while attaching.
    const MOST_LIVE: u64 = 4 * 64;
    let outcome = Session::new(Program::C("busy"), &[]).record(Start::Attach)?;
    outcome.ensure_success()?;
    compare::with_slack(
        &outcome,
        Find::Caller,
        Slack { attached_late: true, unledgered_site: Some("site_worker") },
    )?;
    let workers = compare::total(
        outcome
            .report
            .sites
            .iter()
            .filter(|site| compare::site_function(site, Find::Caller) == Some("site_worker")),
    );
    ensure!(workers.alloc_count > 0, "the busy threads are not in the report");
    ensure!(workers.alloc_bytes == 333 * workers.alloc_count, "sizes are wrong: {workers}");
    ensure!(workers.live_count <= MOST_LIVE, "{MOST_LIVE} blocks can be live at most: {workers}");
    Ok(())
}
