//! What heaptrace can do as whom: the least capabilities that each target takes, what is said where one is missing,
//! and files that are the caller's own and nobody else's.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    caller::{self, CALLER, OTHER, as_user, open_folder},
    compare::{self, Find},
    heaptrace,
    ledger::Ledger,
    programs::Program,
    runner::{self, Test, end_to_end},
    running::Running,
    session::{self, Outcome, Waiting},
};
use std::{
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, ExitCode, Output},
};

const CANNOT_TRACE: i32 = 4;

/// By what each is needed for, in the order of the docs/privileges.md.
const OWN: &[&str] = &["bpf", "perfmon"];
const OTHERS: &[&str] = &["bpf", "perfmon", "sys_ptrace"];
const CLOSED: &[&str] = &["bpf", "perfmon", "sys_ptrace", "dac_read_search"];

const STATIC: &[&str] = &["-static"];

fn main() -> ExitCode {
    let family = Program::C("family");
    let closed = Program::CWith("family", STATIC);
    runner::run(vec![
        recorded("the caller's own process", OWN, CALLER, family, Place::Open),
        recorded("another user's process", OTHERS, OTHER, family, Place::Open),
        recorded("a static program that others may not read", CLOSED, OTHER, closed, Place::Closed),
        recorded("a static program in a closed folder, deleted,", OTHERS, OTHER, closed, Place::Deleted),
        refused("without any", &[], "CAP_BPF and CAP_PERFMON are missing", CALLER, family),
        refused("without CAP_BPF", &["perfmon", "sys_ptrace"], "CAP_BPF is missing", CALLER, family),
        refused("without CAP_PERFMON", &["bpf", "sys_ptrace"], "CAP_PERFMON is missing", CALLER, family),
        refused("without CAP_SYS_PTRACE", OWN, "with CAP_SYS_PTRACE", OTHER, family),
        refused("without CAP_DAC_READ_SEARCH", OTHERS, "with CAP_DAC_READ_SEARCH", OTHER, closed),
        end_to_end("a record file is for its owner only", record_file),
        end_to_end("the cache is the caller's, and nothing is made in another's home", caches),
        end_to_end("a report reads with the caller's own rights", foreign_record),
        end_to_end("a setuid heaptrace refuses to run", setuid),
    ])
}

/// Where the traced program lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Open,
    /// In a folder that only its user may enter, and readable for nobody else.
    Closed,
    /// In such a folder, and no more when tracing begins.
    Deleted,
}

/// A ledger program of `user`, that waits.
fn waiting(program: Program, user: u32, place: Place, folder: &Path) -> Result<Waiting> {
    let home = folder.join("home");
    fs::create_dir(&home)?;
    let file = home.join("program");
    caller::copy(&program.compile()?, &file)?;
    chown(&home, Some(user), Some(user))?;
    if place != Place::Open {
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
    }
    if place == Place::Closed {
        chown(&file, Some(user), Some(user))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o700))?;
    }
    let mut command = as_user(user, &file)?;
    command.args(["1", "10"]).env("LEDGER_OUT", session::ledger_file(folder));
    let waiting = Waiting::start(command, folder)?;
    if place == Place::Deleted {
        fs::remove_file(file)?;
    }
    Ok(waiting)
}

fn record(capabilities: &[&str], pid: u32, folder: &Path) -> Result<Command> {
    let file = heaptrace::record_file(folder);
    let file = file.to_str().context("the temporary folder's name is not UTF-8")?;
    caller::heaptrace(capabilities, &["record", "-o", file, "-p", &pid.to_string()], folder)
}

fn recorded(what: &str, with: &'static [&str], user: u32, program: Program, place: Place) -> Test {
    end_to_end(format!("{what} is recorded exactly with {}", with.join(", ")), move || {
        let folder = open_folder()?;
        let folder = folder.path();
        let mut waiting = waiting(program, user, place, folder)?;
        let pid = waiting.target.pid();
        let mut recorder = Running::spawn(record(with, pid, folder)?, "heaptrace", folder)?;
        recorder.wait_for_line("heaptrace: tracing")?;
        waiting.go()?;
        let status = waiting.target.wait()?;
        heaptrace::finish(&mut recorder)?;
        let outcome = Outcome {
            report: heaptrace::report(folder)?,
            ledger: Ledger::read(&session::ledger_file(folder))?,
            target: Some((pid, status)),
        };
        outcome.ensure_success()?;
        if with == CLOSED && Path::new("/sys/kernel/tracing/events/syscalls").exists() {
            let notes = &outcome.report.coverage.notes;
            ensure!(
                !notes.iter().any(|note| note.contains("brk and mmap")),
                "tracefs was not read: {notes:?}"
            );
        }
        compare::exactly(&outcome, Find::Caller)
    })
}

fn refused(what: &str, with: &'static [&str], word: &'static str, user: u32, program: Program) -> Test {
    end_to_end(format!("{what} it says so"), move || {
        let folder = open_folder()?;
        let place = if program == Program::C("family") { Place::Open } else { Place::Closed };
        let waiting = waiting(program, user, place, folder.path())?;
        let output = record(with, waiting.target.pid(), folder.path())?.output()?;
        ensure_failed(&output, CANNOT_TRACE, word)?;
        ensure!(!heaptrace::record_file(folder.path()).exists(), "it left a record file all the same");
        Ok(())
    })
}

fn ensure_failed(output: &Output, code: i32, word: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "ended with {}, not {code}; said {said}", output.status);
    ensure!(said.contains(word), "should say {word:?}; said {said}");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

/// Whatever the umask, and whatever was there before.
fn record_file() -> Result<()> {
    let folder = open_folder()?;
    let folder = folder.path();
    let file = heaptrace::record_file(folder);
    fs::write(&file, "earlier")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    let waiting = waiting(Program::C("family"), CALLER, Place::Open, folder)?;
    let mut command = record(OWN, waiting.target.pid(), folder)?;
    // SAFETY: umask cannot fail and touches nothing of this process.
    unsafe {
        command.pre_exec(|| {
            libc::umask(0);
            Ok(())
        });
    }
    let mut recorder = Running::spawn(command, "heaptrace", folder)?;
    recorder.wait_for_line("heaptrace: tracing")?;
    waiting.go()?;
    heaptrace::finish(&mut recorder)?;
    let metadata = fs::metadata(&file)?;
    ensure!(metadata.mode() & 0o7777 == 0o600, "its mode is {:o}", metadata.mode() & 0o7777);
    ensure!(metadata.uid() == CALLER, "it belongs to {}", metadata.uid());
    ensure!(fs::read(folder.join("heaptrace.data.old"))? == b"earlier", "the earlier file is not kept");
    Ok(())
}

fn caches() -> Result<()> {
    let folder = open_folder()?;
    let folder = folder.path();
    let [own, other] = ["own", "other"].map(|name| folder.join(name));
    for (home, user) in [(&own, CALLER), (&other, OTHER)] {
        fs::create_dir(home)?;
        chown(home, Some(user), Some(user))?;
    }
    // As /tmp: where everybody could put another folder in a home's place, no cache is made.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o1777))?;
    // Nothing but our own care keeps the caller out of it.
    fs::set_permissions(&other, fs::Permissions::from_mode(0o777))?;
    let waiting = waiting(Program::C("family"), CALLER, Place::Open, folder)?;
    for home in [&own, &other] {
        let mut command = record(OWN, waiting.target.pid(), folder)?;
        command.env("HOME", home).args(["-d", "10ms"]);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let cache = own.join(".cache/heaptrace");
    let metadata = fs::metadata(&cache).context("no cache was made in the caller's home")?;
    ensure!(metadata.uid() == CALLER && metadata.mode() & 0o777 == 0o700, "{metadata:?}");
    let mut tables = 0;
    for table in fs::read_dir(cache)? {
        let metadata = table?.metadata()?;
        ensure!(metadata.uid() == CALLER && metadata.mode() & 0o777 == 0o600, "{metadata:?}");
        tables += 1;
    }
    ensure!(tables > 0, "the cache is empty");
    ensure!(fs::read_dir(other)?.next().is_none(), "something was made in another user's home");
    Ok(())
}

fn foreign_record() -> Result<()> {
    let folder = open_folder()?;
    let file = folder.path().join("foreign.data");
    let name = file.to_str().context("the temporary folder's name is not UTF-8")?;
    let made = heaptrace::command(&[&["record", "-o", name], heaptrace::COMMAND].concat())?
        .arg(Program::C("family").compile()?)
        .args(["1", "10"])
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let output = caller::heaptrace(CLOSED, &["report", name], folder.path())?.output()?;
    ensure_failed(&output, 1, "permission denied")?;
    chown(&file, Some(CALLER), Some(CALLER))?;
    let output = caller::heaptrace(CLOSED, &["report", name], folder.path())?.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn setuid() -> Result<()> {
    let folder = open_folder()?;
    let binary = folder.path().join("heaptrace");
    caller::copy(heaptrace::binary()?, &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o4755))?;
    let name = std::ffi::CString::new(binary.as_os_str().as_encoded_bytes())?;
    // SAFETY: plain data, for which zeros are a value; then a path and a pointer to it.
    let mut system: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    ensure!(unsafe { libc::statvfs(name.as_ptr(), &raw mut system) } == 0, "statvfs failed");
    if system.f_flag & libc::ST_NOSUID != 0 {
        println!("SKIPPED: temporary files are on a file system without setuid");
        return Ok(());
    }
    let output = as_user(CALLER, &binary)?.args(["report", "nothing.data"]).output()?;
    // setpriv leaves the bounding set empty, and root's capabilities with it; the user is what counts here.
    ensure_failed(&output, CANNOT_TRACE, "setuid")
}
