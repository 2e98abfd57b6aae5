//! Runs one guest in QEMU's software emulation, and reads from its console what became of each job.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use crate::step;

/// How long a guest may run. Its tests take a quarter of an hour, and more than half an hour on a busy machine.
const LIMIT: Duration = Duration::from_secs(3600);

/// What the kernel prints when it is in trouble.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "BUG:",
    "Oops",
    "general protection fault",
    "WARNING: CPU",
    "soft lockup",
    "rcu_sched detected",
];

/// One job's end.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub name: String,
    pub passed: bool,
    pub seconds: f64,
    /// What a passed job wants known: its lines that begin with `note: `.
    pub notes: Vec<String>,
}

/// What the console told.
#[derive(Debug, Default, PartialEq)]
pub struct Console {
    pub release: String,
    pub done: Vec<Done>,
    /// Panics, failures of the guest's own, or no end.
    pub trouble: Vec<String>,
    current: Option<Done>,
    finished: bool,
}

impl Console {
    /// Takes the next line.
    pub fn line(&mut self, line: &str) {
        let line = line.trim_end();
        if let Some(release) = line.strip_prefix("@@ kernel ") {
            self.release = release.to_owned();
        } else if let Some(name) = line.strip_prefix("@@ job ") {
            self.current =
                Some(Done { name: name.to_owned(), passed: false, seconds: 0.0, notes: Vec::new() });
        } else if let Some(end) = line.strip_prefix("@@ end ") {
            let (code, seconds) = end.split_once(' ').unwrap_or((end, ""));
            if let Some(mut job) = self.current.take() {
                // `passed` so far says that the test was there and ran.
                job.passed &= code == "0";
                job.seconds = seconds.parse().unwrap_or(0.0);
                self.done.push(job);
            }
        } else if line == "@@ done" {
            self.finished = true;
        } else if line.starts_with("@@ ") || TROUBLE.iter().any(|sign| line.contains(sign)) {
            self.trouble.push(line.to_owned());
        } else if let Some(job) = &mut self.current {
            // A filter that fits no test gives a good exit code too.
            job.passed |= line.starts_with("test result: ok. 1 passed");
            job.notes.extend(line.strip_prefix("note: ").map(str::to_owned));
        }
    }

    /// The console is closed.
    pub fn end(&mut self) {
        if let Some(job) = self.current.take() {
            self.trouble.push(format!("{} did not end", job.name));
        }
        if !self.finished {
            self.trouble.push("the guest did not come to its end".to_owned());
        }
    }
}

/// A guest that is killed when it is no longer wanted.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots `image` with `initramfs`; its console goes to `log` and, as far as it is about tests, to ours.
pub fn run(image: &Path, initramfs: &Path, log: &Path) -> Result<Console> {
    let mut command = Command::new(format!("qemu-system-{}", std::env::consts::ARCH));
    // On one thread: with a thread for each CPU, QEMU 7.2 now and then ran a breakpoint that the kernel, patching
    // its own code, had already taken back on all CPUs ("Oops: int3" in syscall_trace_enter).
    command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048", "-nodefaults"]);
    command.args([
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
        "-serial",
        "stdio",
    ]);
    command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
    command.args(["-append", "console=ttyS0 loglevel=5 oops=panic panic=-1 mitigations=off"]);
    step::announce("guest", &command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start qemu; Debian package: qemu-system-x86")?;
    let mut guest = Guest(child);
    let out = guest.0.stdout.take().context("qemu has no output")?;
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut log =
        std::fs::File::create(log).with_context(|| format!("failed to create {}", log.display()))?;
    let deadline = Instant::now() + LIMIT;
    let mut console = Console::default();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(log, "{}", line.trim_end()).context("failed to write the guest's log")?;
                console.line(&line);
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                console.trouble.push(format!("stopped after {} s", LIMIT.as_secs()));
                break;
            }
        }
    }
    console.end();
    Ok(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(text: &str) -> Console {
        let mut console = Console::default();
        text.lines().for_each(|line| console.line(line));
        console.end();
        console
    }

    #[test]
    fn a_job_passes_only_if_its_test_ran_and_its_code_is_0() {
        let ok = "test result: ok. 1 passed; 0 failed";
        let text = format!(
            "@@ kernel 6.1\r\n@@ job a\r\nnote: x\n{ok}\n@@ end 0 1.5\n@@ job b\ntest result: ok. 0 passed\n\
             @@ end 0 1\n@@ job c\n{ok}\n@@ end 101 1\n@@ done\n"
        );
        let console = console(&text);
        assert_eq!(console.release, "6.1");
        assert!(console.trouble.is_empty());
        assert_eq!(console.done.iter().map(|job| job.passed).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!((console.done[0].seconds, console.done[0].notes.as_slice()), (1.5, &["x".to_owned()][..]));
    }

    #[test]
    fn a_panic_an_early_end_and_a_job_without_end_are_trouble() {
        assert_eq!(console("@@ done\n").trouble.len(), 0);
        assert_eq!(console("").trouble.len(), 1);
        assert_eq!(console("@@ job a\n").trouble.len(), 2);
        assert_eq!(console("[ 1.0] Kernel panic - not syncing\n@@ done\n").trouble.len(), 1);
        assert_eq!(console("@@ failed: no such file\n@@ done\n").trouble.len(), 1);
    }
}
