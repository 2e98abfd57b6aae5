//! Targets that put traps where heaptrace looks: it comes back, with what it was asked for, and takes little memory.

use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{
    heaptrace,
    programs::Program,
    runner::{self, end_to_end},
    running::{Running, wait_for_file},
};
use std::{
    ffi::CString,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::symlink, process::CommandExt as _},
    path::Path,
    process::{Command, ExitCode},
};
use tempfile::TempDir;

/// Bytes of data, thread stacks among it, that heaptrace gets by with, whatever is done to it.
const DATA: u64 = 500_000_000;

fn main() -> ExitCode {
    runner::run(vec![
        end_to_end("a FIFO as ld.so.preload", || preloaded(fifo)),
        end_to_end("a device without an end as ld.so.preload", || {
            preloaded(|path| Ok(symlink("/dev/zero", path)?))
        }),
        end_to_end("a ld.so.preload of a terabyte", || {
            preloaded(|path| Ok(fs::File::create(path)?.set_len(1 << 40)?))
        }),
        end_to_end("64 GB of arguments", || without_end("arguments")),
        end_to_end("64 GB of environment", || without_end("environment")),
    ])
}

fn fifo(path: &Path) -> Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a C string that lives through the call.
    let made = unsafe { libc::mkfifo(path.as_ptr(), 0o644) };
    if made == 0 { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}

/// The program `attacker`, once its trap is set.
fn attacker(arguments: &[&str], device: Option<&Path>, folder: &Path) -> Result<Running> {
    let ready = folder.join("attacker is ready");
    // It may have another root by then.
    let seen = device.map_or_else(|| ready.clone(), |root| root.join("ready"));
    let path = if device.is_some() { Path::new("/ready") } else { &ready };
    let mut command = Command::new(Program::C("attacker").compile()?);
    command.args(arguments).env("ATTACKER_READY", path);
    let mut attacker = Running::spawn(command, "attacker", folder)?;
    wait_for_file(&seen, &mut attacker)?;
    Ok(attacker)
}

fn preloaded(trap: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let folder = TempDir::new()?;
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("etc"))?;
    trap(&root.join("etc/ld.so.preload"))?;
    let name = root.to_str().context("not UTF-8")?;
    let attacker = attacker(&["preload", name], Some(&root), folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

fn without_end(what: &str) -> Result<()> {
    let folder = TempDir::new()?;
    let attacker = attacker(&[what], None, folder.path())?;
    ensure_all_come_back(attacker.pid(), folder.path())
}

/// Every command that looks at a process ends well, and in time, with little memory.
fn ensure_all_come_back(pid: u32, folder: &Path) -> Result<()> {
    let pid = pid.to_string();
    let file = heaptrace::record_file(folder);
    let file = file.to_str().context("not UTF-8")?;
    for arguments in [
        &["record", "-o", file, "-p", &pid, "-d", "1s"][..],
        &["report", file],
        &["doctor", &pid],
        &["inspect", &pid],
        &["stat", "-p", &pid, "-d", "1s"],
        &["watch", "-p", &pid, "-d", "1s"],
        &["leaks", "-p", &pid, "-d", "1s"],
    ] {
        let mut command = heaptrace::command(arguments)?;
        // SAFETY: setrlimit is async-signal-safe, and its argument is a local's.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit { rlim_cur: DATA, rlim_max: DATA };
                match libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let mut running = Running::spawn(command, "heaptrace", folder)?;
        let status = running.wait()?;
        ensure!(status.success(), "{}", running.describe(&format!("{arguments:?} ended with {status}")));
    }
    Ok(())
}
