//! Programs whose symbols take as long to be found as a test wants: the debug file beside them, whose checksum is asked for, is
//! large enough that the child which reads it can be stopped meanwhile.

use crate::{
    programs,
    running::{PATIENCE, wait_until},
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Zeros that take no place on the disk.
const DEBUG_FILE_BYTES: u64 = 1 << 30;

/// A copy of `program` in `folder` that says of a large file that it is its debug file. It keeps its symbol table.
pub fn copy(program: &Path, folder: &Path) -> Result<PathBuf> {
    let (copied, link) = (folder.join("program"), folder.join("link"));
    programs::copy(program, &copied)?;
    File::create(folder.join("large"))?.set_len(DEBUG_FILE_BYTES)?;
    // The name, padded to four bytes, and a checksum that the file does not have.
    fs::write(&link, b"large\0\0\0\x01\x02\x03\x04")?;
    let mut command = Command::new("objcopy");
    command.args(["--strip-debug", "--add-section"]);
    command.arg(format!(".gnu_debuglink={}", link.display())).arg(&copied);
    let status = command.status().context("failed to run objcopy")?;
    ensure!(status.success(), "objcopy ended with {status}");
    Ok(copied)
}

/// The child of heaptrace that looks for symbols; it is stopped.
pub struct Stopped(libc::pid_t);

impl Stopped {
    /// Waits until the child of heaptrace, as `pid`, is at the large file: before that it may still have to close what it has of
    /// heaptrace's, for which probes that are to go wait.
    pub fn child_of(pid: u32) -> Result<Self> {
        let mut found = None;
        wait_until(PATIENCE, || {
            found = child_named(pid, "heaptrace-names")?.filter(|child| has_read(*child) > 16 << 20);
            Ok(found.is_some())
        })
        .context("no symbols were looked for")?;
        let child = found.context("no child")?;
        signal(child, libc::SIGSTOP)?;
        Ok(Self(child))
    }

    /// Lets it go on.
    pub fn go_on(self) -> Result<()> {
        signal(self.0, libc::SIGCONT)
    }
}

fn signal(pid: libc::pid_t, signal: libc::c_int) -> Result<()> {
    // SAFETY: takes no pointers. The child is there until heaptrace has its answer, for which it reads a large file.
    if unsafe { libc::kill(pid, signal) } != 0 {
        bail!("failed to send signal {signal} to {pid}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}

/// Bytes.
fn has_read(pid: libc::pid_t) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok()).unwrap_or(0)
}

fn child_named(parent: u32, name: &str) -> Result<Option<libc::pid_t>> {
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // PID (COMM) STATE PARENT; a comm has at most 15 bytes.
        let Some((before, after)) = stat.rsplit_once(") ") else { continue };
        let is_named = before.split_once('(').is_some_and(|(_, comm)| comm == name);
        if is_named && after.split(' ').nth(1) == Some(&parent.to_string()) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
