//! What heaptrace answers to bad input, bad luck and impatience: exit codes, words, and what it leaves behind.

mod ends;
mod help;
mod open;
mod outputs;
mod recordings;
mod typed;

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::{self, Program},
    runner::{self, end_to_end, unprivileged},
    running::{PATIENCE, wait_until},
};
use std::{
    fs::{self},
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, ExitCode, Output},
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
        unprivileged("a pipe that nobody reads is refused at once", outputs::unread_pipe),
        unprivileged("a recording that leads to a pipe is refused at once", outputs::linked_recording),
        unprivileged(
            "a recording into a pipe that nobody reads is refused before anything is loaded",
            outputs::unread_recording,
        ),
        unprivileged("a recording has no place on standard output", || {
            usage(&["record", "-o", "-", "-p", "1"])
        }),
        unprivileged("a dash is standard output", outputs::dash),
        unprivileged("a bad command is refused before anything is loaded", bad_commands),
        unprivileged("man shows a page for each command, with its options and examples", help::pages),
        unprivileged("bash completes commands, options and values", help::completions),
        unprivileged(
            "an output with an unknown ending is refused with the endings there are",
            help::unknown_ending,
        ),
        unprivileged("an output replaces a link, not what it leads to", outputs::linked_output),
        unprivileged("standard output by its name is written to", outputs::named_stdout),
        end_to_end("the first word that is no option begins the command", typed::no_dashes),
        unprivileged(
            "a running process in a command's place is answered with what to type",
            typed::running_in_place_of_a_command,
        ),
        end_to_end("inspect and doctor take a PID as other commands do", typed::one_process),
        unprivileged("where there is no recording, it says to record first", typed::no_recording),
        end_to_end("a PID that nobody has is said to be nobody's", typed::nobody_there),
        end_to_end(
            "a report of a PID that is not in it names those that are",
            typed::no_such_pid_in_a_recording,
        ),
        end_to_end("children from before are told of, and traced with --tree", typed::children_before),
        end_to_end("a price is told beforehand, and a loss with what mends it", typed::prices_and_losses),
        end_to_end("names of processes and files give the terminal no orders", orders_in_names),
        end_to_end("no such process", no_such_process),
        end_to_end("no such command", no_such_command),
        end_to_end("a missing output folder is found before tracing", outputs::missing_folder),
        end_to_end("a target that is killed ends the recording", ends::killed_target),
        end_to_end("the time limit ends the recording", ends::time_limit),
        end_to_end("Ctrl-C ends the recording and keeps it", || ends::ended_by(libc::SIGINT)),
        end_to_end("SIGTERM ends the recording and keeps it", || ends::ended_by(libc::SIGTERM)),
        end_to_end("a terminal that closes ends the recording and keeps it", || ends::ended_by(libc::SIGHUP)),
        end_to_end("Ctrl-\\ ends the recording and keeps it", || ends::ended_by(libc::SIGQUIT)),
        end_to_end("under nohup it goes on when the terminal closes", ends::hung_up),
        end_to_end("a second Ctrl-C leaves at once", ends::interrupted_twice),
        end_to_end("Ctrl-C while it ends by itself is the first", ends::interrupted_at_the_end),
        end_to_end("Ctrl-C while it says that Ctrl-C ends it", ends::interrupted_at_once),
        end_to_end("the command's own exit code can be passed on", ends::propagated_exit),
        end_to_end("a command that outlives tracing is told of", ends::outlived),
        end_to_end("--kill ends the command, and nothing else", ends::killed_command),
        end_to_end("--kill does not wait for ever", ends::unheeding_command),
        end_to_end("a command has no descriptors but a shell's", ends::descriptors),
        end_to_end("a truncated record file is read as far as it goes", recordings::truncated),
        end_to_end("a corrupt record file is never believed", recordings::corrupt),
        end_to_end("a record file of the future is refused", recordings::future),
        end_to_end("a report of one process holds only that", recordings::one_process),
        end_to_end("report --open shows the page as who asked for it, in a file of theirs", open::shown),
        end_to_end("report --open opens no half page of a heaptrace that was killed", open::half),
        end_to_end("report --open says what is missing, and opens nothing then", open::refused),
        end_to_end("every format is written", recordings::formats),
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
    ensure_refused(&heaptrace::output(&["report", text(&file)?])?, &[USAGE], &["not-there.data"])
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
        // Those of events and of tables that run short are always there.
        for (options, expected) in [(&[][..], 2), (&["--verbose=bpf"], 3)] {
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
