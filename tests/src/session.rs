//! One recording of one test program, with the handshake that makes it exact.

use crate::{
    code, heaptrace,
    ledger::Ledger,
    programs::Program,
    report::Report,
    running::{PATIENCE, Running, wait_for_file},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};
use tempfile::TempDir;

/// How tracing begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `heaptrace record -- PROGRAM`: from the first instruction.
    Command,
    /// `heaptrace record -p PID`: the program has run for a while, and waits.
    Attach,
}

impl Start {
    pub const BOTH: [Self; 2] = [Self::Command, Self::Attach];

    /// For test names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Attach => "attach",
        }
    }
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Session {
    pub program: Program,
    pub arguments: Vec<String>,
    /// Further options of `heaptrace record`.
    pub options: Vec<&'static str>,
    /// Started as by default: its children are exact.
    exact_by_default: bool,
    /// Further environment of the program.
    pub environment: Vec<(&'static str, &'static str)>,
    /// How long it may take.
    at_most: Duration,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub report: Report,
    pub ledger: Ledger,
    /// PID and exit status of the program, where the harness was its parent.
    pub target: Option<(u32, ExitStatus)>,
}

impl Session {
    pub fn new(program: Program, arguments: &[&str]) -> Self {
        Self {
            program,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            options: Vec::new(),
            exact_by_default: false,
            environment: Vec::new(),
            at_most: PATIENCE,
        }
    }

    /// For a program that takes longer than others may.
    #[must_use]
    pub fn at_most(mut self, at_most: Duration) -> Self {
        self.at_most = at_most;
        self
    }

    /// With further options of `heaptrace record`.
    #[must_use]
    pub fn options(mut self, options: &[&'static str]) -> Self {
        self.options.extend(options);
        self
    }

    /// With children that are exact without being asked for; the program has a C library of its own then.
    #[must_use]
    pub fn exact_by_default(mut self) -> Self {
        self.exact_by_default = true;
        self
    }

    /// With a variable in the program's environment.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Runs the program untraced, to learn how it ends.
    pub fn untraced(&self) -> Result<ExitStatus> {
        let folder = TempDir::new()?;
        let program = self.program.compile()?;
        Running::spawn(self.target(&program, folder.path()), "untraced", folder.path())?.wait()
    }

    /// Runs the program under `heaptrace record`.
    pub fn record(&self, start: Start) -> Result<Outcome> {
        self.record_in(start, TempDir::new()?.path())
    }

    /// Same, leaving the record file and what was printed in `folder`.
    pub fn record_in(&self, start: Start, folder: &Path) -> Result<Outcome> {
        let program = self.program.compile()?;
        if self.exact_by_default || self.options.contains(&"--exact-children") {
            copy_libc(folder)?;
        }
        let target = match start {
            Start::Command => {
                self.record_command(&program, folder)?;
                None
            }
            Start::Attach => Some(self.record_attached(&program, folder)?),
        };
        Ok(Outcome {
            report: heaptrace::report(folder)?,
            ledger: Ledger::read(&ledger_file(folder))?,
            target,
        })
    }

    /// Records the program once it runs, and reads no ledger.
    pub fn attach_report(&self, folder: &Path, view: &str) -> Result<Report> {
        self.record_attached(&self.program.compile()?, folder)?;
        heaptrace::view(folder, view)
    }

    fn record_command(&self, program: &Path, folder: &Path) -> Result<()> {
        let mut command = heaptrace::command(&["record", "-o"])?;
        command
            .arg(heaptrace::record_file(folder))
            .args(&self.options)
            .args(if self.exact_by_default { &["--"] } else { heaptrace::before_command(&self.options) })
            .arg(program)
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .envs(own_libraries(folder))
            .env("LEDGER_OUT", ledger_file(folder));
        no_core_dump(&mut command);
        let mut recorder = Running::spawn(command, "heaptrace", folder)?;
        recorder.wait_at_most(self.at_most)?;
        heaptrace::finish(&mut recorder)
    }

    fn record_attached(&self, program: &Path, folder: &Path) -> Result<(u32, ExitStatus)> {
        let mut waiting = Waiting::start(self.target(program, folder), folder)?;
        let pid = waiting.target.pid();
        let mut recorder = heaptrace::attach(&[pid], &self.options, folder)?;
        let bare = self.options.contains(&"growth") || self.options.contains(&"faults");
        let changed = code::changed_bytes(pid)?;
        ensure!(
            (changed == 0) == bare,
            "heaptrace says it is tracing, and {changed} bytes of code were changed"
        );
        waiting.go()?;
        let status = waiting.target.wait()?;
        heaptrace::finish(&mut recorder)?;
        Ok((pid, status))
    }

    fn target(&self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().copied())
            .envs(own_libraries(folder))
            .env("LEDGER_OUT", ledger_file(folder));
        no_core_dump(&mut command);
        command
    }
}

/// A test program that waits to be told to go on.
pub struct Waiting {
    pub target: Running,
    go: PathBuf,
}

impl Waiting {
    /// Starts `command` and returns once it waits. `folder` gets its handshake files and output.
    pub fn start(mut command: Command, folder: &Path) -> Result<Self> {
        let (ready, go) = (folder.join("ready"), folder.join("go"));
        command.env("LEDGER_READY", &ready).env("LEDGER_GO", &go);
        let mut target = Running::spawn(command, "target", folder)?;
        wait_for_file(&ready, &mut target)?;
        Ok(Self { target, go })
    }

    /// Lets the program go on.
    pub fn go(&self) -> Result<()> {
        fs::write(&self.go, "go").context("failed to say go")
    }
}

/// Where the programs of a session in `folder` write their ledgers.
pub fn ledger_file(folder: &Path) -> PathBuf {
    folder.join("ledger")
}

/// Probes for all processes go by file: what is run with [`own_libraries`] has a C library that nobody else maps.
pub fn copy_libc(folder: &Path) -> Result<()> {
    let maps = fs::read_to_string("/proc/self/maps").context("failed to read /proc/self/maps")?;
    let paths = maps.lines().filter_map(|line| line.split_ascii_whitespace().nth(5));
    let libc =
        paths.into_iter().find(|path| path.ends_with("/libc.so.6")).context("no libc.so.6 is mapped")?;
    let own = folder.join(OWN_LIBRARIES);
    fs::create_dir_all(&own)?;
    fs::copy(libc, own.join("libc.so.6")).with_context(|| format!("failed to copy {libc}"))?;
    Ok(())
}

/// Has the sessions of two folders share the C library of one of them.
pub fn share_libc(folder: &Path, with: &Path) -> Result<()> {
    let libraries = with.join(OWN_LIBRARIES);
    fs::create_dir_all(&libraries)?;
    fs::hard_link(folder.join(OWN_LIBRARIES).join("libc.so.6"), libraries.join("libc.so.6"))
        .context("failed to link a libc.so.6")
}

const OWN_LIBRARIES: &str = "lib";

/// Makes the dynamic linker take the session's own C library, if it has one.
pub fn own_libraries(folder: &Path) -> Option<(&'static str, PathBuf)> {
    let own = folder.join(OWN_LIBRARIES);
    own.is_dir().then_some(("LD_LIBRARY_PATH", own))
}

/// Programs that abort on purpose leave no files behind.
pub fn no_core_dump(command: &mut Command) {
    // SAFETY: setrlimit is async-signal-safe and touches nothing of this process.
    unsafe {
        command.pre_exec(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            match libc::setrlimit(libc::RLIMIT_CORE, &none) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
}

impl Outcome {
    /// Fails unless the program ended with code 0, where that is known.
    pub fn ensure_success(&self) -> Result<()> {
        match self.target {
            Some((_, status)) if !status.success() => bail!("the program ended with {status}"),
            _ => Ok(()),
        }
    }
}
