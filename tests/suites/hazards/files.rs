//! Files that are not what they were when the process mapped them.

use super::target;
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{self, Program},
    runner::{Test, end_to_end},
    running::{Running, wait_for_file},
    session::Waiting,
};
use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub fn tests() -> Vec<Test> {
    let changes: [(&str, Change); 4] = [
        ("a C library that was replaced", |private| replace(&private.libc)),
        ("a C library that was deleted", |private| Ok(fs::remove_file(&private.libc)?)),
        ("a program that was replaced", |private| replace(&private.program)),
        ("a C library whose folder is gone", |private| {
            Ok(fs::remove_dir_all(private.libc.parent().context("no folder")?)?)
        }),
    ];
    let mut tests = Vec::new();
    for (name, change) in changes {
        tests.push(end_to_end(format!("attach: {name}"), move || before(change)));
        tests.push(end_to_end(format!("attach: {name} while tracing"), move || meanwhile(change)));
    }
    tests.push(end_to_end("attach: a C library that is written to before a fork", written_to));
    for given in ["a stranger's FUSE server gives", "root's FUSE server gives"] {
        tests.push(end_to_end(format!("attach: a program that {given}"), move || served(given)));
    }
    tests
}

type Change = fn(&Private) -> Result<()>;

/// A program and a C library that nobody else runs with.
struct Private {
    program: PathBuf,
    libc: PathBuf,
}

impl Private {
    fn new(folder: &Path) -> Result<Self> {
        let program = folder.join("plain");
        programs::copy(&Program::C("plain").compile()?, &program)?;
        let maps = fs::read_to_string("/proc/self/maps")?;
        let mut paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
        let system = paths.find(|path| path.ends_with("/libc.so.6")).context("no libc.so.6 is mapped")?;
        let libc = folder.join("lib/libc.so.6");
        fs::create_dir(folder.join("lib"))?;
        fs::copy(system, &libc)?;
        Ok(Self { program, libc })
    }

    fn start(&self, folder: &Path) -> Result<Waiting> {
        let mut command = target::command(&self.program, folder);
        command
            .env("LD_LIBRARY_PATH", folder.join("lib"))
            .env("PLAIN_HALF", folder.join("half"))
            .env("PLAIN_GO_ON", folder.join("go-on"));
        let waiting = Waiting::start(command, folder)?;
        let maps = fs::read_to_string(format!("/proc/{}/maps", waiting.target.pid()))?;
        ensure!(maps.contains(self.libc.to_str().context("not UTF-8")?), "it runs with another C library");
        Ok(waiting)
    }
}

/// As a package manager does: another file under the name, here one that is no program at all.
fn replace(path: &Path) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, "an upgrade\n".repeat(100_000))?;
    Ok(fs::rename(new, path)?)
}

/// A child is probed by what its parent's file was found to be. Written to in place, with its old time and build ID, it
/// is another one.
fn written_to() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let private = Private::new(folder)?;
    let go = folder.join("go");
    let script = format!("until [ -e {go} ]; do :; done; (sleep 0.5; :); exit 23", go = go.display());
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &script]).env("LD_LIBRARY_PATH", folder.join("lib"));
    let mut shell = Running::spawn(command, "sh", folder)?;
    let maps = format!("/proc/{}/maps", shell.pid());
    let begun = Instant::now();
    while !fs::read_to_string(&maps)?.contains(private.libc.to_str().context("not UTF-8")?) {
        ensure!(begun.elapsed() < Duration::from_secs(10), "it runs with another C library");
    }
    let mut recorder = heaptrace::attach(&[shell.pid()], &[], folder)?;
    // Of a function that nobody calls.
    write_to_function(&private.libc, "pvalloc")?;
    fs::write(&go, "")?;
    let status = shell.wait()?;
    ensure!(status.code() == Some(23), "the shell ended with {status}");
    heaptrace::finish(&mut recorder)?;
    let file = heaptrace::record_file(folder);
    let output = heaptrace::output(&["report", file.to_str().context("not UTF-8")?])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains("was written to while it was traced"), "the child is not refused\n{said}");
    Ok(())
}

/// Changes the first byte of an exported function in place, and puts the file's time back.
fn write_to_function(library: &Path, name: &str) -> Result<()> {
    let bytes = fs::read(library)?;
    let elf = object::File::parse(bytes.as_slice())?;
    let function = elf.dynamic_symbols().find(|symbol| symbol.name() == Ok(name));
    let address = function.with_context(|| format!("no {name}"))?.address();
    let mut segments = elf.segments().map(|segment| (segment.address(), segment.file_range()));
    let holds = |(start, (_, size)): &(u64, (u64, u64))| (*start..start + size).contains(&address);
    let (start, (offset, _)) = segments.find(holds).context("no segment holds it")?;
    let at = offset + (address - start);
    let file = File::options().write(true).open(library)?;
    let modified = file.metadata()?.modified()?;
    file.write_all_at(&[bytes[usize::try_from(at)?] ^ 1], at)?;
    Ok(file.set_modified(modified)?)
}

/// The server always answers; one that did not would stop every tracer here. Its file system is mounted for the program alone.
fn served(given: &str) -> Result<()> {
    /// Of `served`, where FUSE cannot be mounted.
    const CANNOT_MOUNT: i32 = 77;
    const STRANGER: &str = "65534";
    let user = if given.starts_with("root") { "0" } else { STRANGER };
    let server = Program::C("served").compile()?;
    let start = |folder: &Path, program: Program| -> Result<Option<Waiting>> {
        let mounted = folder.join("mounted");
        fs::create_dir(&mounted)?;
        let program = program.compile()?;
        if target::command(&server, folder).arg(user).arg(&mounted).arg("/bin/true").status()?.code()
            == Some(CANNOT_MOUNT)
        {
            println!("skipped: FUSE cannot be mounted here");
            return Ok(None);
        }
        let mut command = target::command(&server, folder);
        command.arg(user).arg(&mounted).arg(program);
        Ok(Some(Waiting::start(command, folder)?))
    };
    // What has its allocation functions from elsewhere is traced: the kernel reads the file that is probed.
    let own = TempDir::new()?;
    let Some(waiting) = start(own.path(), Program::C("plain"))? else { return Ok(()) };
    let pid = waiting.target.pid();
    target::survives(waiting, pid, pid, own.path())?;

    let own = TempDir::new()?;
    let Some(mut waiting) = start(own.path(), Program::CStatic("plain"))? else { return Ok(()) };
    let pid = waiting.target.pid();
    if user == STRANGER {
        let words = ["a FUSE server of user 65534", "--allow-fuse"];
        let output = heaptrace::output(&["doctor", &pid.to_string()])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(words.iter().all(|word| said.contains(word)), "{said}");
        target::is_refused(waiting, pid, &words, own.path())?;

        let own = TempDir::new()?;
        let Some(mut waiting) = start(own.path(), Program::CStatic("plain"))? else { return Ok(()) };
        let pid = waiting.target.pid();
        let mut recorder = heaptrace::attach(&[pid], &["--allow-fuse"], own.path())?;
        waiting.go()?;
        let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, own.path())?;
        return heaptrace_tests::compare::exactly(&outcome, heaptrace_tests::compare::Find::Caller);
    }
    // Whose it is, is told by fusectl alone, where it is mounted in another namespace than ours.
    if fs::read_dir("/sys/fs/fuse/connections").is_ok_and(|mut folder| folder.next().is_some()) {
        target::survives(waiting, pid, pid, own.path())?;
    } else {
        println!("skipped: fusectl is not mounted here");
        waiting.go()?;
        waiting.target.wait()?;
    }
    Ok(())
}

fn before(change: Change) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let private = Private::new(folder)?;
    let waiting = private.start(folder)?;
    change(&private)?;
    fs::write(folder.join("go-on"), "")?;
    let pid = waiting.target.pid();
    target::survives(waiting, pid, pid, folder)?;
    Ok(())
}

fn meanwhile(change: Change) -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let private = Private::new(folder)?;
    let mut waiting = private.start(folder)?;
    let pid = waiting.target.pid();
    let mut recorder = heaptrace::attach(&[pid], &[], folder)?;
    waiting.go()?;
    wait_for_file(&folder.join("half"), &mut waiting.target)?;
    change(&private)?;
    fs::write(folder.join("go-on"), "")?;
    let outcome = target::ends_well(&mut waiting.target, &mut recorder, pid, pid, folder)?;
    heaptrace_tests::compare::exactly(&outcome, heaptrace_tests::compare::Find::Caller)
}
