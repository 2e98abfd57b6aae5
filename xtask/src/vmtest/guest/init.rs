//! The guest's first process: mounts what tests need, runs the jobs of `/jobs` one after the other, and turns
//! the machine off. Compiled by rustc alone, statically.
//!
//! A job is a line of fields parted by tabs: its name, the program, its arguments. Lines that begin with `@@` are
//! for the host.

use std::{
    ffi::{CString, c_char, c_int, c_ulong, c_void},
    fs,
    io::{self, Write as _},
    process::{Command, Stdio},
    time::Instant,
};

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn reboot(command: c_int) -> c_int;
    fn sync();
}

/// include/uapi/linux/reboot.h
const POWER_OFF: c_int = 0x4321_fedc;

fn main() {
    match run() {
        Ok(()) => say("@@ done"),
        Err(error) => say(&format!("@@ failed: {error}")),
    }
    // SAFETY: no arguments that could be wrong; process 1 may do it.
    unsafe {
        sync();
        reboot(POWER_OFF);
    }
}

fn run() -> io::Result<()> {
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev")] {
        mounted(kind, target)?;
    }
    say(&format!("@@ kernel {}", fs::read_to_string("/proc/sys/kernel/osrelease")?.trim()));
    for job in fs::read_to_string("/jobs")?.lines() {
        let mut fields = job.split('\t');
        let (Some(name), Some(program)) = (fields.next(), fields.next()) else { continue };
        say(&format!("@@ job {name}"));
        let start = Instant::now();
        let status = Command::new(program)
            .args(fields)
            .env_clear()
            .envs([
                ("PATH", "/usr/bin:/bin"),
                ("HEAPTRACE_BIN", "/usr/bin/heaptrace"),
                ("HEAPTRACE_TEST_GUEST", "1"),
            ])
            .stdin(Stdio::null())
            .current_dir("/tmp")
            .status();
        let seconds = start.elapsed().as_secs_f64();
        match status {
            Ok(status) => say(&format!("@@ end {} {seconds:.1}", status.code().unwrap_or(-1))),
            Err(error) => say(&format!("@@ failed: {program}: {error}")),
        }
    }
    Ok(())
}

fn mounted(kind: &str, target: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let (kind, target) = (CString::new(kind)?, CString::new(target)?);
    // SAFETY: strings that end in NUL and outlive the call.
    match unsafe { mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A line of its own, whatever was printed before.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    // Without a console nobody would see the error either.
    let _ = writeln!(out, "\n{line}").and_then(|()| out.flush());
}
