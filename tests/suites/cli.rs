//! What heaptrace answers to bad input, bad luck and impatience: exit codes, words, and what it leaves behind.

use anyhow::{Context as _, Result, bail, ensure};
use heaptrace_tests::{
    code, compare, heaptrace,
    programs::{self, Program},
    report::Report,
    runner::{self, end_to_end, unprivileged},
    running::{PATIENCE, Running, wait_for_file, wait_until},
    session::{self, Session, Start, Waiting},
};
use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::fd::AsRawFd as _,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
    time::Duration,
};
use tempfile::TempDir;

const CANNOT_TRACE: i32 = 4;
const USAGE: i32 = 2;

fn main() -> ExitCode {
    runner::run(vec![
        unprivileged("an unknown flag is a usage error", || {
            usage(&["record", "--no-such-flag", "--", "true"])
        }),
        unprivileged("an unknown command is a usage error", || usage(&["no-such-command"])),
        unprivileged("a missing target is a usage error", || usage(&["record"])),
        unprivileged("two kinds of target are a usage error", || usage(&["record", "-p", "1", "--", "true"])),
        unprivileged("a PID that is no number is a usage error", || usage(&["record", "-p", "12x"])),
        unprivileged("a duration that is none is a usage error", || {
            usage(&["record", "-d", "soon", "--", "true"])
        }),
        unprivileged("a report of a missing file says so", missing_record),
        unprivileged("a report of another kind of file says so", foreign_record),
        unprivileged("without privilege it says which is missing", without_privilege),
        unprivileged("errors give the terminal no orders", orders_in_errors),
        unprivileged("a pipe that nobody reads is refused at once", unread_pipe),
        unprivileged("a recording that leads to a pipe is refused at once", linked_recording),
        unprivileged(
            "a recording into a pipe that nobody reads is refused before anything is loaded",
            unread_recording,
        ),
        unprivileged("a recording has no place on standard output", || {
            usage(&["record", "-o", "-", "-p", "1"])
        }),
        unprivileged("a dash is standard output", dash),
        unprivileged("a bad command is refused before anything is loaded", bad_commands),
        unprivileged("an output replaces a link, not what it leads to", linked_output),
        unprivileged("standard output by its name is written to", named_stdout),
        end_to_end("names of processes and files give the terminal no orders", orders_in_names),
        end_to_end("no such process", no_such_process),
        end_to_end("no such command", no_such_command),
        end_to_end("a missing output folder is found before tracing", missing_folder),
        end_to_end("a target that is killed ends the recording", killed_target),
        end_to_end("the time limit ends the recording", time_limit),
        end_to_end("Ctrl-C ends the recording and keeps it", || ended_by(libc::SIGINT)),
        end_to_end("SIGTERM ends the recording and keeps it", || ended_by(libc::SIGTERM)),
        end_to_end("a terminal that closes ends the recording and keeps it", || ended_by(libc::SIGHUP)),
        end_to_end("Ctrl-\\ ends the recording and keeps it", || ended_by(libc::SIGQUIT)),
        end_to_end("under nohup it goes on when the terminal closes", hung_up),
        end_to_end("a second Ctrl-C leaves at once", interrupted_twice),
        end_to_end("Ctrl-C while it ends by itself is the first", interrupted_at_the_end),
        end_to_end("Ctrl-C while it says that Ctrl-C ends it", interrupted_at_once),
        end_to_end("the command's own exit code can be passed on", propagated_exit),
        end_to_end("a truncated record file is read as far as it goes", truncated),
        end_to_end("a corrupt record file is never believed", corrupt),
        end_to_end("a record file of the future is refused", future),
        end_to_end("a report of one process holds only that", one_process),
        end_to_end("every format is written", formats),
        end_to_end("the BPF programs log if they are asked to", logged),
        end_to_end("where nothing is logged there is no ring for it", without_log),
    ])
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

/// Ends with `code` and says each of `words` on its error output.
fn ensure_refused(output: &Output, codes: &[i32], words: &[&str]) -> Result<()> {
    let said = stderr(output);
    ensure!(
        output.status.code().is_some_and(|code| codes.contains(&code)),
        "ended with {}, not {codes:?}; said {said}",
        output.status
    );
    for word in words {
        ensure!(said.contains(word), "should say {word:?}; said {said}");
    }
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}

fn usage(arguments: &[&str]) -> Result<()> {
    let folder = TempDir::new()?;
    let output = heaptrace::command(arguments)?.current_dir(folder.path()).output()?;
    ensure_refused(&output, &[USAGE], &[])?;
    ensure!(!stderr(&output).is_empty(), "it gives no reason");
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "it wrote a file all the same");
    Ok(())
}

fn missing_record() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("not-there.data");
    ensure_refused(&heaptrace::output(&["report", text(&file)?])?, &[1], &["not-there.data"])
}

fn foreign_record() -> Result<()> {
    let folder = TempDir::new()?;
    let file = folder.path().join("foreign.data");
    for content in
        [&b""[..], b"HEAP", b"\x7fELF and then something else entirely, long enough for any header"]
    {
        fs::write(&file, content)?;
        ensure_refused(&heaptrace::output(&["report", text(&file)?])?, &[1], &["foreign.data"])?;
    }
    Ok(())
}

/// heaptrace as a user who may not trace, with `folder` as its place: a copy of the binary, for the build folder may be
/// closed to others.
fn as_nobody(folder: &Path) -> Result<Command> {
    const NOBODY: u32 = 65534;
    let binary = folder.join("heaptrace");
    programs::copy(heaptrace::binary()?, &binary)?;
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o777))?;
    let mut command = Command::new(binary);
    command.current_dir(folder);
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        chown(folder, Some(NOBODY), Some(NOBODY))?;
        command.uid(NOBODY).gid(NOBODY);
    }
    Ok(command)
}

fn without_privilege() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = as_nobody(folder.path())?;
    command.args(["record", "-o", "out.data"]).args(heaptrace::COMMAND).args(["/bin/sh", "-c", "touch ran"]);
    let output = command.output()?;
    ensure_refused(&output, &[CANNOT_TRACE], &[])?;
    let said = stderr(&output);
    ensure!(
        ["CAP_", "root"].iter().any(|word| said.contains(word)),
        "it does not say which privilege: {said}"
    );
    ensure!(!folder.path().join("ran").exists(), "it ran the command all the same");
    Ok(())
}

/// Who may load nothing is told of the command all the same, so it is looked at before.
fn bad_commands() -> Result<()> {
    let folder = TempDir::new()?;
    let at = |name: &str| folder.path().join(name);
    for (name, content, mode) in [
        ("plain", "echo", 0o644),
        ("broken", "#!/no/such/interpreter", 0o755),
        ("binary", "\u{1}\0", 0o755),
        ("another's", "echo", 0o700),
    ] {
        fs::write(at(name), content)?;
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode))?;
    }
    let mut expected = vec![
        ("/no/such/program", "/no/such/program: no such file"),
        ("no-such-program", "no-such-program: command not found"),
        ("/usr", "/usr: is a directory"),
        ("./plain", "./plain: is not an executable file"),
        ("./broken", "the interpreter of ./broken, /no/such/interpreter: no such file"),
        ("./binary", "./binary: neither a program nor a script"),
    ];
    // SAFETY: no arguments, cannot fail.
    if unsafe { libc::geteuid() } == 0 {
        expected.push(("./another's", "./another's: Permission denied"));
    }
    for (command, words) in expected {
        for tracing in ["record", "leaks", "stat", "watch"] {
            let output = as_nobody(folder.path())?.args([tracing, "-o", "out", "--", command]).output()?;
            ensure_refused(&output, &[CANNOT_TRACE], &["cannot start the command", words])?;
        }
    }
    let left = fs::read_dir(folder.path())?.count();
    ensure!(left == 5, "{left} files, of which 5 were there before");
    Ok(())
}

fn no_such_process() -> Result<()> {
    let folder = TempDir::new()?;
    let mut gone = Command::new("true").spawn()?;
    gone.wait()?;
    let pid = gone.id().to_string();
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["record", "-o", text(&file)?, "-p", &pid])?;
    ensure_refused(&output, &[CANNOT_TRACE], &[&pid])
}

fn no_such_command() -> Result<()> {
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(
        &[&["record", "-o", text(&file)?], heaptrace::COMMAND, &["/no/such/program"]].concat(),
    )?;
    ensure_refused(&output, &[1, USAGE, CANNOT_TRACE], &["/no/such/program"])
}

fn missing_folder() -> Result<()> {
    let folder = TempDir::new()?;
    let (file, ran) = (folder.path().join("missing/heaptrace.data"), folder.path().join("ran"));
    let output = heaptrace::output(
        &[&["record", "-o", text(&file)?], heaptrace::COMMAND, &["touch", text(&ran)?]].concat(),
    )?;
    ensure_refused(&output, &[1, USAGE], &["missing"])?;
    ensure!(!ran.exists(), "the command ran before the output was looked at");
    Ok(())
}

/// A traced program that has allocated its 100 blocks and lives on.
struct Idle {
    folder: TempDir,
    waiting: Waiting,
    recorder: Running,
}

impl Idle {
    fn traced(options: &[&str]) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut command = Command::new(Program::C("idle").compile()?);
        command
            .env("LEDGER_OUT", session::ledger_file(folder.path()))
            .env("IDLE_DONE", folder.path().join("done"))
            .env("IDLE_END", folder.path().join("end"));
        let mut waiting = Waiting::start(command, folder.path())?;
        let recorder = heaptrace::attach(&[waiting.target.pid()], options, folder.path())?;
        waiting.go()?;
        wait_for_file(&folder.path().join("done"), &mut waiting.target)?;
        Ok(Self { folder, waiting, recorder })
    }

    fn pid(&self) -> u32 {
        self.waiting.target.pid()
    }

    /// The record file, read, with the 75 blocks that the program holds.
    fn report(&self) -> Result<Report> {
        let report = heaptrace::report(self.folder.path())?;
        let sites = report.sites_of(self.pid());
        let idle =
            sites.filter(|site| compare::site_function(site, compare::Find::Caller) == Some("site_idle"));
        let found = compare::total(idle);
        ensure!((found.alloc_count, found.live_count) == (100, 75), "the recording has {found}");
        Ok(report)
    }

    /// Lets the program end, which it must do as if nothing had been.
    fn end(mut self) -> Result<()> {
        ensure!(code::changed_bytes(self.pid())? == 0, "probes were left behind");
        File::create(self.folder.path().join("end"))?;
        let status = self.waiting.target.wait()?;
        ensure!(status.code() == Some(21), "the target ended with {status}");
        Ok(())
    }
}

fn killed_target() -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.waiting.target.signal(libc::SIGKILL)?;
    idle.waiting.target.wait()?;
    heaptrace::finish(&mut idle.recorder)?;
    let report = idle.report()?;
    let process = report.process(idle.pid()).context("the target is not in the report")?;
    ensure!(process.exited, "the report does not say that the target has ended");
    Ok(())
}

fn time_limit() -> Result<()> {
    let mut idle = Idle::traced(&["-d", "3s"])?;
    heaptrace::finish(&mut idle.recorder)?;
    // Read without regard to the program's blocks: how far it got in the time is not known.
    let report = heaptrace::report(idle.folder.path())?;
    ensure!(report.duration_s >= 2.9, "it recorded for {} s of 3", report.duration_s);
    ensure!(report.coverage.finished, "the recording is not finished");
    idle.end()
}

fn ended_by(signal: libc::c_int) -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.recorder.signal(signal)?;
    heaptrace::finish(&mut idle.recorder)?;
    let report = idle.report()?;
    ensure!(report.coverage.finished, "the recording is not finished");
    idle.end()
}

fn hung_up() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut sleeping = Command::new("sleep").arg("100").spawn()?;
    let mut command = Command::new("nohup");
    command.arg(heaptrace::binary()?).args(["record", "-p", &sleeping.id().to_string(), "-o"]);
    command.arg(heaptrace::record_file(folder));
    let told = (|| {
        let mut recorder = Running::spawn(command, "heaptrace", folder)?;
        recorder.wait_for_line("heaptrace: tracing")?;
        recorder.signal(libc::SIGHUP)?;
        std::thread::sleep(Duration::from_millis(500));
        ensure!(recorder.poll()?.is_none(), "{}", recorder.describe("has ended"));
        recorder.signal(libc::SIGINT)?;
        heaptrace::finish(&mut recorder)?;
        ensure!(heaptrace::report(folder)?.duration_s >= 0.4, "it ended by the first signal");
        Ok(())
    })();
    sleeping.kill()?;
    sleeping.wait()?;
    told
}

/// Nobody reads what it says, so it is held there.
fn interrupted_at_once() -> Result<()> {
    let folder = TempDir::new()?;
    let folder = folder.path();
    let mut command = Command::new(Program::C("idle").compile()?);
    command.env("LEDGER_OUT", session::ledger_file(folder)).env("IDLE_END", folder.join("end"));
    let mut waiting = Waiting::start(command, folder)?;
    let (mut reader, mut writer) = std::io::pipe()?;
    let filler = fill(&mut writer)?;
    let mut command = heaptrace::command(&["record", "-p", &waiting.target.pid().to_string(), "-o"])?;
    let mut recorder = command.arg(heaptrace::record_file(folder)).stderr(writer).spawn()?;
    drop(command);
    let pid = recorder.id();
    // write(2, ...
    let says = || Ok(fs::read_to_string(format!("/proc/{pid}/syscall"))?.starts_with("1 0x2 "));
    wait_until(PATIENCE, says).context("it says nothing")?;
    // SAFETY: a child of ours that was not waited for.
    ensure!(unsafe { libc::kill(pid as libc::pid_t, libc::SIGINT) } == 0, "it is gone");
    let mut said = Vec::new();
    reader.read_to_end(&mut said)?;
    let said = String::from_utf8_lossy(&said[filler..]).into_owned();
    let status = recorder.wait()?;
    ensure!(status.success() && said.contains("stopped"), "ended with {status}, and said {said}");
    ensure!(heaptrace::report(folder)?.coverage.finished, "the recording is not finished");
    File::create(folder.join("end"))?;
    waiting.go()?;
    waiting.target.wait().map(|_| ())
}

/// Fills a pipe; gives the bytes that are in it.
fn fill(writer: &mut std::io::PipeWriter) -> Result<usize> {
    let fd = writer.as_raw_fd();
    // SAFETY: changes a flag of a descriptor that is open.
    let nonblocking =
        |on: bool| unsafe { libc::fcntl(fd, libc::F_SETFL, if on { libc::O_NONBLOCK } else { 0 }) };
    ensure!(nonblocking(true) == 0, "fcntl failed");
    let mut filled = 0;
    for size in [4096, 1] {
        while let Ok(count) = writer.write(&[b' '; 4096][..size]) {
            filled += count;
        }
    }
    ensure!(nonblocking(false) == 0, "fcntl failed");
    Ok(filled)
}

fn interrupted_twice() -> Result<()> {
    let mut idle = Idle::traced(&[])?;
    idle.recorder.signal(libc::SIGINT)?;
    idle.recorder.signal(libc::SIGINT)?;
    idle.recorder.wait_at_most(Duration::from_secs(20)).context("it stays")?;
    ensure!(!idle.recorder.stderr().contains("panicked"), "{}", idle.recorder.describe("panicked"));
    // Detaching is the kernel's then, and may come after the exit.
    wait_until(PATIENCE, || Ok(code::changed_bytes(idle.pid())? == 0)).context("probes were left behind")?;
    idle.end()
}

/// Once the probes are gone, it writes the rest.
fn interrupted_at_the_end() -> Result<()> {
    let mut idle = Idle::traced(&["-d", "1s"])?;
    wait_until(PATIENCE, || Ok(code::changed_bytes(idle.pid())? == 0)).context("the probes stay")?;
    idle.recorder.signal(libc::SIGINT)?;
    heaptrace::finish(&mut idle.recorder)?;
    ensure!(idle.report()?.coverage.finished, "the recording is not finished");
    idle.end()
}

fn propagated_exit() -> Result<()> {
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let program = Program::C("ending").compile()?;
    for (options, expected) in [(&[][..], 0), (&["--propagate-exit"][..], 9)] {
        let mut command = heaptrace::command(&["record", "-o", text(&file)?])?;
        let output = command.args(options).args(heaptrace::COMMAND).arg(&program).arg("exit").output()?;
        let code = output.status.code();
        ensure!(code == Some(expected), "ended with {code:?}, not {expected}; said {}", stderr(&output));
    }
    Ok(())
}

/// A good record file, in a folder.
fn recorded() -> Result<(TempDir, PathBuf)> {
    let folder = TempDir::new()?;
    let file = heaptrace::record_file(folder.path());
    let mut command = heaptrace::command(&[&["record", "-o", text(&file)?], heaptrace::COMMAND].concat())?;
    let output = command.arg(Program::C("family").compile()?).args(["1", "10"]).output()?;
    ensure!(output.status.success(), "recording ended with {}: {}", output.status, stderr(&output));
    Ok((folder, file))
}

fn json_report(file: &Path) -> Result<Output> {
    heaptrace::output(&["report", text(file)?, "--view", "alloc", "--format", "json"])
}

fn finished(output: &Output) -> Result<bool> {
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    Ok(report.coverage.finished)
}

fn truncated() -> Result<()> {
    let (folder, file) = recorded()?;
    let whole = fs::read(&file)?;
    ensure!(finished(&json_report(&file)?)?, "the whole file does not count as finished");
    let cut = folder.path().join("cut.data");
    let eighths = (0..8).map(|part| whole.len() * part / 8);
    for length in eighths.chain([1, 9, 13, whole.len() - 1]).filter(|&length| length < whole.len()) {
        fs::write(&cut, &whole[..length])?;
        let output = json_report(&cut)?;
        match output.status.code() {
            Some(0) => ensure!(!finished(&output)?, "{length} bytes count as a finished recording"),
            _ => ensure_refused(&output, &[1], &["cut.data"])
                .with_context(|| format!("cut to {length} bytes"))?,
        }
    }
    Ok(())
}

fn corrupt() -> Result<()> {
    let (folder, file) = recorded()?;
    let whole = fs::read(&file)?;
    let bad = folder.path().join("bad.data");
    // Every header byte, and places all over the rest.
    let places = (0..whole.len()).filter(|at| *at < 24 || at % (whole.len() / 24 + 1) == 0);
    for at in places {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(&bad, &bytes)?;
        let output = json_report(&bad)?;
        match output.status.code() {
            Some(0) => {
                ensure!(!finished(&output)?, "byte {at} is wrong and the recording counts as finished")
            }
            _ => {
                ensure_refused(&output, &[1], &["bad.data"]).with_context(|| format!("byte {at} is wrong"))?
            }
        }
    }
    Ok(())
}

fn future() -> Result<()> {
    let (_folder, file) = recorded()?;
    let mut bytes = fs::read(&file)?;
    // Eight bytes of magic, then the version, little-endian.
    let Some(version) = bytes.get_mut(8..12) else { bail!("the file has no header") };
    version.copy_from_slice(&9999_u32.to_le_bytes());
    fs::write(&file, bytes)?;
    ensure_refused(&json_report(&file)?, &[1], &["newer", "9999"])
}

fn one_process() -> Result<()> {
    let session = Session::new(Program::C("process"), &["fork"]).options(&["--exact-children"]);
    let folder = TempDir::new()?;
    let outcome = session.record_in(Start::Command, folder.path())?;
    ensure!(
        outcome.report.processes.len() == 2,
        "two processes were recorded: {:?}",
        outcome.report.processes
    );
    let pid = outcome.report.processes[0].pid;
    let file = heaptrace::record_file(folder.path());
    let output = heaptrace::output(&["report", text(&file)?, "--format", "json", "--pid", &pid.to_string()])?;
    let report: Report = serde_json::from_slice(&output.stdout).context("a report that is none")?;
    ensure!(report.processes.iter().all(|process| process.pid == pid), "another process is in the report");
    ensure!(!report.sites.is_empty(), "the process has no sites");
    ensure!(report.sites.iter().all(|site| site.pid == pid), "another process's site is in the report");
    Ok(())
}

fn formats() -> Result<()> {
    let (folder, file) = recorded()?;
    for (format, sign) in
        [("text", "site_malloc_a"), ("folded", "site_malloc_a"), ("svg", "</svg>"), ("json", "{")]
    {
        let out = folder.path().join(format);
        let arguments = ["report", text(&file)?, "--view", "alloc", "--format", format];
        let output = heaptrace::output(&arguments)?;
        ensure!(output.status.success(), "{format}: {}", stderr(&output));
        let printed = String::from_utf8(output.stdout)?;
        ensure!(printed.contains(sign), "the {format} report has no {sign:?}");
        let to_file = heaptrace::output(&[&arguments[..], &["-o", text(&out)?]].concat())?;
        ensure!(to_file.status.success(), "{format}: {}", stderr(&to_file));
        ensure!(fs::read_to_string(&out)?.contains(sign), "the {format} file has no {sign:?}");
    }
    Ok(())
}

/// A name that clears the screen, and begins a line of its own.
const ORDERS: &str = "\u{1b}[2J\nall fine";

fn ensure_harmless(what: &str, printed: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(printed)?;
    let order = text.chars().find(|c| c.is_control() && *c != '\n');
    ensure!(order.is_none(), "{what} holds {order:?}: {text:?}");
    ensure!(!text.lines().any(|line| line.starts_with("all fine")), "{what} has a line by others: {text:?}");
    Ok(())
}

fn orders_in_errors() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join(ORDERS);
    for arguments in [&["report", text(&path)?][..], &["report", "-o", text(&path.join("x"))?, text(&path)?]]
    {
        let output = heaptrace::output(arguments)?;
        ensure!(!output.status.success());
        ensure_harmless("the error", &output.stderr)?;
        ensure!(stderr(&output).contains("\\x1b[2J\\x0aall fine"), "{}", stderr(&output));
    }
    Ok(())
}

fn orders_in_names() -> Result<()> {
    let folder = TempDir::new()?;
    let program = folder.path().join(ORDERS);
    fs::copy("/bin/sleep", &program)?;
    let mut sleeping = Command::new(&program).arg("100").spawn()?;
    let pid = sleeping.id().to_string();
    let told = (|| {
        wait_until(PATIENCE, || Ok(fs::read_to_string(format!("/proc/{pid}/comm"))?.starts_with('\u{1b}')))?;
        for arguments in [
            &["doctor", &pid][..],
            &["inspect", &pid],
            &["inspect", &pid, "--format", "svg"],
            &["record", "--comm", ORDERS, "-d", "1s", "-o", text(&folder.path().join("x.data"))?],
            &["report", text(&folder.path().join("x.data"))?],
            &["stat", "-p", &pid, "-d", "1s"],
            &["leaks", "-p", &pid, "-d", "1s"],
            &["watch", "-p", &pid, "-d", "1s"],
            &["top", "-p", &pid, "-d", "2s", "--format", "text"],
        ] {
            let output = heaptrace::output(arguments)?;
            ensure_harmless(&format!("the output of {arguments:?}"), &output.stdout)?;
            ensure_harmless(&format!("the standard error of {arguments:?}"), &output.stderr)?;
        }
        Ok(())
    })();
    sleeping.kill()?;
    sleeping.wait()?;
    told
}

/// A report of a file that is none, into `output`: what is looked at first is the output.
fn report_to(output: &Path) -> Result<Output> {
    heaptrace::output(&["report", "-o", text(output)?, "/dev/null"])
}

fn unread_pipe() -> Result<()> {
    let folder = TempDir::new()?;
    let pipe = folder.path().join("pipe");
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    let output = report_to(&pipe)?;
    ensure!(output.status.code() == Some(1) && stderr(&output).contains("nobody reads this pipe"));
    Ok(())
}

/// Who may load nothing is told of the pipe all the same.
fn unread_recording() -> Result<()> {
    let folder = TempDir::new()?;
    let mut command = as_nobody(folder.path())?;
    ensure!(Command::new("mkfifo").args(["-m", "666"]).arg(folder.path().join("pipe")).status()?.success());
    chown(folder.path().join("pipe"), Some(fs::metadata(folder.path())?.uid()), None)?;
    let output = command.args(["record", "-o", "pipe", "--", "true"]).output()?;
    ensure_refused(&output, &[1], &["failed to write pipe: nobody reads this pipe"])
}

fn dash() -> Result<()> {
    let folder = TempDir::new()?;
    let own = std::process::id().to_string();
    for format in ["text", "json"] {
        let arguments = ["inspect", &own, "--format", format, "-o", "-"];
        let output = heaptrace::command(&arguments)?.current_dir(folder.path()).output()?;
        ensure!(output.status.success() && !output.stdout.is_empty(), "{}", stderr(&output));
    }
    ensure!(fs::read_dir(folder.path())?.next().is_none(), "it wrote a file");
    Ok(())
}

fn linked_recording() -> Result<()> {
    let folder = TempDir::new()?;
    let (pipe, link) = (folder.path().join("pipe"), folder.path().join("heaptrace.data"));
    ensure!(Command::new("mkfifo").arg(&pipe).status()?.success());
    std::os::unix::fs::symlink(&pipe, &link)?;
    let mut report =
        Running::spawn(heaptrace::command(&["report", text(&link)?])?, "heaptrace", folder.path())?;
    let status = report.wait_at_most(Duration::from_secs(30))?;
    ensure!(
        !status.success() && report.stderr().contains("a link to what is no file"),
        "{}",
        report.stderr()
    );
    Ok(())
}

fn linked_output() -> Result<()> {
    let folder = TempDir::new()?;
    let (link, anothers) = (folder.path().join("link"), folder.path().join("another's"));
    fs::write(&anothers, "kept")?;
    std::os::unix::fs::symlink(&anothers, &link)?;
    // Without a recording nothing is replaced at all.
    ensure!(!report_to(&link)?.status.success() && fs::symlink_metadata(&link)?.is_symlink());
    let own = std::process::id().to_string();
    let output = heaptrace::output(&["inspect", &own, "-o", text(&link)?])?;
    ensure!(output.status.success(), "{}", stderr(&output));
    ensure!(fs::read_to_string(&anothers)? == "kept", "it was written through the link");
    let written = fs::symlink_metadata(&link)?;
    ensure!(written.is_file() && written.permissions().mode() & 0o777 == 0o600, "{written:?}");
    ensure!(fs::read_dir(folder.path())?.count() == 2, "something was left");
    Ok(())
}

fn named_stdout() -> Result<()> {
    let folder = TempDir::new()?;
    let (file, own) = (folder.path().join("file"), std::process::id().to_string());
    let mut command = heaptrace::command(&["inspect", &own, "-o", "/dev/stdout"])?;
    ensure!(command.stdout(File::create(&file)?).status()?.success());
    ensure!(fs::read_to_string(&file)?.starts_with("process"), "nothing in the file");
    ensure!(fs::symlink_metadata("/dev/stdout")?.is_symlink(), "/dev/stdout was replaced");
    Ok(())
}

/// A table of 64 places is too small for what the program holds.
fn logged() -> Result<()> {
    for asked in [false, true] {
        let folder = TempDir::new()?;
        let mut command = heaptrace::command(&["stat", "-o", "stat", "--max-live", "64"])?;
        command.args(asked.then_some("--verbose=bpf")).args(heaptrace::COMMAND);
        command.arg(Program::C("family").compile()?).args(["1", "60"]);
        let output = command.current_dir(folder.path()).output()?;
        let said = stderr(&output);
        let lines = said.lines().filter(|line| line.starts_with("heaptrace: bpf: process "));
        let full = lines.filter(|line| line.contains(": no room for the block of ")).count();
        // Ten a second of a kind, and some seconds at most.
        ensure!(if asked { (10..200).contains(&full) } else { full == 0 }, "{full} lines; said {said}");
        ensure!(said.contains("more lines were not logged") == asked, "{said}");
    }
    Ok(())
}

fn without_log() -> Result<()> {
    /// include/uapi/linux/bpf.h
    const RING: &str = "map_type:\t27\n";
    let mut sleeping = Command::new("sleep").arg("100").spawn()?;
    let pid = sleeping.id();
    let told = (|| {
        for (options, expected) in [(&[][..], 1), (&["--verbose=bpf"], 2)] {
            let folder = TempDir::new()?;
            let mut recorder = heaptrace::attach(&[pid], options, folder.path())?;
            let files = fs::read_dir(format!("/proc/{}/fdinfo", recorder.pid()))?;
            let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
            let rings = texts.filter(|text| text.contains(RING)).count();
            recorder.signal(libc::SIGINT)?;
            heaptrace::finish(&mut recorder)?;
            ensure!(rings == expected, "{rings} rings with {options:?}");
        }
        Ok(())
    })();
    sleeping.kill()?;
    sleeping.wait()?;
    told
}
