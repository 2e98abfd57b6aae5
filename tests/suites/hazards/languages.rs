//! Programs that are not what most are: Go's moving stacks, C libraries other than glibc, no C library at all.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    code,
    programs::{self, Program},
    runner::{Test, end_to_end},
    session::Waiting,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![
        end_to_end("command: a Go program without C", || go_is_refused(&Go::PURE, true)),
        end_to_end("attach: a Go program without C", || go_is_refused(&Go::PURE, false)),
        end_to_end("attach: a stripped Go program without C", || go_is_refused(&Go::STRIPPED, false)),
        end_to_end("attach: a Go program with its C library in it", || go_is_refused(&Go::STATIC, false)),
        end_to_end("attach: a Go program that calls C", go_and_c_attached),
        end_to_end("command: a Go program that calls C", go_and_c_started),
        end_to_end("attach: stripped and static", || stripped(Program::CStatic("plain"))),
        end_to_end("attach: musl, stripped and static", || stripped(Program::Musl("plain"))),
        end_to_end("command: stripped and static", || stripped_command(Program::CStatic("plain"))),
        end_to_end("command: musl, stripped and static", || stripped_command(Program::Musl("plain"))),
    ];
    for (name, program) in [
        ("static", Program::CStatic("plain")),
        ("musl, static", Program::Musl("plain")),
        ("musl, shared", Program::MuslShared("plain")),
    ] {
        tests.push(end_to_end(format!("attach: {name}"), move || attached(program)));
        tests.push(end_to_end(format!("command: {name}"), move || started(program)));
    }
    tests
}

fn attached(program: Program) -> Result<()> {
    let folder = TempDir::new()?;
    let waiting = target::plain(program, folder.path())?;
    let pid = waiting.target.pid();
    target::survives(waiting, pid, pid, folder.path())?;
    Ok(())
}

fn started(program: Program) -> Result<()> {
    let folder = TempDir::new()?;
    target::starts(&program.compile()?, folder.path())
}

/// A copy of the program in `folder`, without symbols.
fn strip(program: Program, folder: &Path) -> Result<PathBuf> {
    let stripped = folder.join("without-symbols");
    let status = Command::new("strip").arg("-o").arg(&stripped).arg(program.compile()?).status();
    ensure!(status.context("failed to run strip (binutils)")?.success(), "strip failed");
    Ok(stripped)
}

const NO_ALLOCATOR: [&str; 3] = ["no allocator was found in", "without-symbols", "do not strip"];

fn stripped(program: Program) -> Result<()> {
    let folder = TempDir::new()?;
    let program = strip(program, folder.path())?;
    let waiting = Waiting::start(target::command(&program, folder.path()), folder.path())?;
    let pid = waiting.target.pid();
    target::is_refused(waiting, pid, &NO_ALLOCATOR, folder.path())
}

fn stripped_command(program: Program) -> Result<()> {
    let folder = TempDir::new()?;
    target::is_not_started(&strip(program, folder.path())?, &NO_ALLOCATOR, folder.path())
}

/// A build of a Go program.
struct Go {
    name: &'static str,
    arguments: &'static [&'static str],
    cgo: bool,
}

impl Go {
    const PURE: Self = Self { name: "pure", arguments: &[], cgo: false };
    const STRIPPED: Self = Self { name: "pure", arguments: &["-ldflags", "-s -w"], cgo: false };
    const WITH_C: Self = Self { name: "cgo", arguments: &[], cgo: true };
    const STATIC: Self =
        Self { name: "cgo", arguments: &["-ldflags", "-linkmode external -extldflags -static"], cgo: true };

    /// Built anew in `folder`; Go's own cache makes that quick after the first time.
    fn build(&self, folder: &Path) -> Result<PathBuf> {
        let Self { name, arguments, cgo } = self;
        let sources = folder.join("sources");
        fs::create_dir(&sources)?;
        fs::copy(programs::source(&format!("go/{name}.go")), sources.join("main.go"))?;
        fs::write(sources.join("go.mod"), "module target\n")?;
        if *cgo {
            for file in ["ledger.c", "ledger.h"] {
                fs::copy(programs::source(&format!("c/{file}")), sources.join(file))?;
            }
        }
        let output = folder.join("go-program");
        let result = Command::new("go")
            .args(["build", "-o"])
            .arg(&output)
            .args(*arguments)
            .current_dir(&sources)
            .env("CGO_ENABLED", if *cgo { "1" } else { "0" })
            .env("GOCACHE", programs::cache()?.join("go"))
            .env("GOFLAGS", "-mod=mod")
            .env("GO111MODULE", "on")
            .output()
            .context("failed to run go (Debian package: golang-go)")?;
        ensure!(result.status.success(), "go failed\n{}", String::from_utf8_lossy(&result.stderr));
        fs::set_permissions(&output, fs::Permissions::from_mode(0o755))?;
        Ok(output)
    }
}

fn go_is_refused(go: &Go, command: bool) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = go.build(folder)?;
    let words = ["is a Go program", "go-program", "runtime/pprof"];
    if command {
        return target::is_not_started(&program, &words, folder);
    }
    let waiting = Waiting::start(target::command(&program, folder), folder)?;
    let pid = waiting.target.pid();
    target::is_refused(waiting, pid, &words, folder)
}

fn go_and_c_attached() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let program = Go::WITH_C.build(folder)?;
    let waiting = Waiting::start(target::command(&program, folder), folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace_tests::heaptrace::attach(&[pid], &[], folder)?;
    ensure!(code::changed_bytes_in(pid, |path| path.ends_with("/libc.so.6"))? > 0, "libc is not probed");
    ensure!(code::changed_bytes_in(pid, |path| path.ends_with("/go-program"))? == 0, "Go code was changed");
    waiting.go()?;
    let mut waiting = waiting;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    c_part_is_exact(&outcome)
}

fn go_and_c_started() -> Result<()> {
    let folder = TempDir::new()?;
    let program = Go::WITH_C.build(folder.path())?;
    let recorder = heaptrace_tests::heaptrace::command(&["record"])?;
    let (_, outcome) = target::record_command(recorder, &[&program], folder.path())?;
    c_part_is_exact(&outcome)
}

/// The runtime makes threads while it runs: some are killed by the exit, with a call under way.
fn c_part_is_exact(outcome: &heaptrace_tests::session::Outcome) -> Result<()> {
    use heaptrace_tests::compare::{self, Find, Slack};
    let notes = &outcome.report.coverage.notes;
    ensure!(
        notes.iter().any(|note| note.contains("is a Go program: only what C code in it allocates is traced")),
        "nothing says what of a Go program is traced: {notes:?}"
    );
    compare::with_slack(outcome, Find::Caller, Slack { attached_late: true, unledgered_site: None })
}
