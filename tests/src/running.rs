//! Child processes with a time limit: output goes to files, and whatever is still there at the end is killed.

use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    fs::File,
    io, mem,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How long a handshake or an exit may take before a test fails. Generous: it is no measurement, and an emulated guest on a
/// busy machine takes more than a minute for what else takes two seconds.
pub const PATIENCE: Duration = Duration::from_secs(180);

const POLL: Duration = Duration::from_millis(3);

/// A process that a test started, in a process group of its own.
pub struct Running {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
    status: Option<ExitStatus>,
    peak_bytes: u64,
}

impl Running {
    /// Starts `command`; its output goes to `NAME.stdout` and `NAME.stderr` in `folder`.
    pub fn spawn(mut command: Command, name: &str, folder: &Path) -> Result<Self> {
        let stdout = folder.join(format!("{name}.stdout"));
        let stderr = folder.join(format!("{name}.stderr"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).context("failed to create an output file")?)
            .stderr(File::create(&stderr).context("failed to create an output file")?)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("failed to start {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), stdout, stderr, status: None, peak_bytes: 0 })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Where its output goes.
    pub fn stdout_file(&self) -> PathBuf {
        self.stdout.clone()
    }

    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// Sends `signal` to the process alone, unless its end was already seen.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        if self.status.is_none() {
            // SAFETY: the child has not been waited for, so the id is still its own.
            let result = unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
            if result != 0 {
                return Err(std::io::Error::last_os_error()).context("failed to send a signal");
            }
        }
        Ok(())
    }

    /// Does `work` while the process stands still.
    pub fn while_it_stands<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.signal(libc::SIGSTOP)?;
        let done = work();
        self.signal(libc::SIGCONT)?;
        done
    }

    /// Sends `signal` to its process group, unless its end was already seen.
    pub fn signal_group(&self, signal: libc::c_int) -> Result<()> {
        if self.status.is_none() {
            // SAFETY: the leader has not been waited for, so the group's id is still its own.
            let result = unsafe { libc::kill(-(self.pid() as libc::pid_t), signal) };
            if result != 0 {
                return Err(std::io::Error::last_os_error()).context("failed to send a signal");
            }
        }
        Ok(())
    }

    /// The exit status, if the process has ended.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            let mut status = 0;
            // SAFETY: all-zero is a value of this plain C type.
            let mut usage: libc::rusage = unsafe { mem::zeroed() };
            let pid = self.pid() as libc::pid_t;
            // Not by `child`, which would not say what it took. SAFETY: valid pointers to locals.
            match unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) } {
                0 => {}
                ended if ended == pid => {
                    self.status = Some(ExitStatus::from_raw(status));
                    self.peak_bytes = usage.ru_maxrss as u64 * 1024;
                }
                _ => return Err(io::Error::last_os_error()).context("failed to wait for a process"),
            }
        }
        Ok(self.status)
    }

    /// The most memory that it, or a child that it waited for, had resident; 0 before it has ended.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.wait_at_most(PATIENCE)
    }

    /// Waits for the end of the process, and fails with its error output after `limit`.
    pub fn wait_at_most(&mut self, limit: Duration) -> Result<ExitStatus> {
        let mut status = None;
        wait_until(limit, || {
            status = self.poll()?;
            Ok(status.is_some())
        })
        .with_context(|| self.describe("did not end"))?;
        status.ok_or_else(|| anyhow!("no exit status"))
    }

    /// Waits until a line of the error output begins with `prefix`; fails if the process ends first.
    pub fn wait_for_line(&mut self, prefix: &str) -> Result<()> {
        let said = |text: &str| text.lines().any(|line| line.starts_with(prefix));
        let mut ended = None;
        wait_until(PATIENCE, || {
            // Looked at before the output, so that what was written last is not missed.
            ended = self.poll()?;
            Ok(said(&self.stderr()) || ended.is_some())
        })
        .with_context(|| self.describe(&format!("never said {prefix:?}")))?;
        match ended {
            Some(status) if !said(&self.stderr()) => {
                bail!("{}", self.describe(&format!("ended ({status}) without saying {prefix:?}")))
            }
            _ => Ok(()),
        }
    }

    /// `problem` with the process's name and what it wrote.
    pub fn describe(&self, problem: &str) -> String {
        format!(
            "{} {problem}\n--- its stderr\n{}--- its stdout\n{}---",
            self.name,
            self.stderr(),
            self.stdout()
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group may outlive its leader (a command that heaptrace started), so it is killed either way. Its id
        // is not reused while a member lives; with none left, the call fails with ESRCH.
        if self.status.is_none() {
            // SAFETY: the leader has not been waited for, so the group's id is still its own.
            unsafe { libc::kill(-(self.pid() as libc::pid_t), libc::SIGKILL) };
            // Nothing to be done about an error here.
            drop(self.child.wait());
        }
    }
}

/// Polls `condition` until it holds.
///
/// # Errors
/// When `condition` fails, or does not hold within `limit`.
pub fn wait_until(limit: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + limit;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("gave up after {limit:?}");
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Waits until `process` has brought about `condition`; fails if it ends first. `what` follows "did not".
pub fn wait_while_running(
    process: &mut Running,
    what: &str,
    mut condition: impl FnMut() -> bool,
) -> Result<()> {
    wait_until(PATIENCE, || {
        // Looked at before the condition, which the process may have met with its last act.
        let ended = process.poll()?;
        match (condition(), ended) {
            (true, _) => Ok(true),
            (false, None) => Ok(false),
            (false, Some(status)) => bail!("it ended early: {status}"),
        }
    })
    .with_context(|| process.describe(&format!("did not {what}")))
}

/// Waits until `process` has made `file`; fails if it ends first.
pub fn wait_for_file(file: &Path, process: &mut Running) -> Result<()> {
    wait_while_running(process, &format!("make {}", file.display()), || file.exists())
}

fn read_lossy(path: &Path) -> String {
    // A file that cannot be read shows as empty in messages.
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
