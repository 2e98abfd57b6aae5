//! libbpf-tools' memleak, if `HEAPTRACE_BENCH_MEMLEAK` says how to run it.

use anyhow::{Context as _, Result, bail};
use std::{
    env,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::target::Target;

/// A running memleak. Dropped, it is told to end and waited for.
pub struct Memleak(Child);

/// The command, by words.
pub fn command() -> Option<Vec<String>> {
    let words: Vec<String> =
        env::var("HEAPTRACE_BENCH_MEMLEAK").ok()?.split_whitespace().map(str::to_owned).collect();
    (!words.is_empty()).then_some(words)
}

impl Memleak {
    /// Starts it on process `pid`.
    pub fn of(words: &[String], pid: u32) -> Result<Self> {
        let (program, arguments) = words.split_first().context("no command")?;
        let child = Command::new(program)
            .args(arguments)
            // One report, in an hour.
            .args(["-p", &pid.to_string(), "3600", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start {program}"))?;
        Ok(Self(child))
    }

    /// Starts it on `target`, and returns once all its probes are in place.
    pub fn attach(words: &[String], target: &mut Target) -> Result<Self> {
        let mut memleak = Self::of(words, target.pid())?;
        let started = Instant::now();
        // It doesn't say when it is ready: until the cost has stayed the same for a second, it is not.
        let mut steady = Vec::new();
        while started.elapsed() < Duration::from_secs(30) {
            if let Some(status) = memleak.0.try_wait()? {
                bail!("memleak ended: {status}");
            }
            steady.push(target.pairs(2_000)?);
            if steady.len() > 10 {
                let last = &steady[steady.len() - 10..];
                let smallest = last.iter().copied().fold(f64::INFINITY, f64::min);
                if smallest > 1_000.0 && last.iter().all(|cost| *cost < 1.3 * smallest) {
                    return Ok(memleak);
                }
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("memleak did not get ready")
    }
}

impl Drop for Memleak {
    fn drop(&mut self) {
        // SAFETY: not waited for yet, so the id is still the child's.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        // Nothing to be done about an error.
        let _ = self.0.wait();
    }
}
