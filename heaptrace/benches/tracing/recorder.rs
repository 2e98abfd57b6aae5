//! A `heaptrace record` of a running process, as users start it.

use anyhow::{Context as _, Result, bail, ensure};
use std::{
    io::{self, BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

/// The binary that this benchmark was built with.
pub fn own() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_heaptrace"))
}

/// See the module.
pub struct Recorder(Child);

impl Recorder {
    /// Starts `heaptrace` on process `pid`, to write `file`; returns once it is tracing.
    pub fn start(heaptrace: &Path, pid: u32, options: &[&str], file: &Path) -> Result<Self> {
        let mut child = Command::new(heaptrace)
            .args(["record", "-p", &pid.to_string(), "-o"])
            .arg(file)
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start {}", heaptrace.display()))?;
        let mut said = BufReader::new(child.stderr.take().context("no standard error")?);
        let mut line = String::new();
        while !line.starts_with("heaptrace: tracing") {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                bail!("{} ended: {}", heaptrace.display(), child.wait()?);
            }
        }
        // What else it says is nobody's to read, and it is not to wait for that.
        std::thread::spawn(move || io::copy(&mut said, &mut io::sink()));
        Ok(Self(child))
    }

    /// Tells it to end, and waits.
    pub fn stop(self) -> Result<Usage> {
        // SAFETY: not waited for yet, so the id is still the child's.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        wait(self.0)
    }
}

/// What a child took.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub peak_mb: f64,
    pub cpu_s: f64,
}

/// Waits for a child to end well.
pub fn wait(mut child: Child) -> Result<Usage> {
    // SAFETY: all-zero is a value of this plain C type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: valid pointers to locals; the child is ours and not waited for.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, &raw mut usage) };
    if waited < 0 {
        return Err(io::Error::last_os_error()).context("failed to wait");
    }
    ensure!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "status {status:#x}");
    // Reaped above; this only closes what is left of it.
    let _ = child.try_wait();
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Ok(Usage {
        peak_mb: usage.ru_maxrss as f64 * 1024.0 / 1e6,
        cpu_s: seconds(usage.ru_utime) + seconds(usage.ru_stime),
    })
}
