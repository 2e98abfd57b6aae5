//! Return probes of another tracer than heaptrace: the kernel's counters, which go when they are dropped.

use anyhow::{Context as _, Result, ensure};
use std::{
    ffi::CString,
    fs::{self, File},
    io::{Error, Read as _},
    os::{fd::FromRawFd as _, unix::ffi::OsStrExt as _},
    path::Path,
    process::Command,
};

/// Counts the returns of one function in one process.
#[derive(Debug)]
pub struct ReturnProbe {
    counter: File,
}

/// `struct perf_event_attr` as far as its second version.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    /// The file's name.
    config1: u64,
    /// The offset in the file.
    config2: u64,
}

/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: libc::c_ulong = 8;

impl ReturnProbe {
    /// Probes `function` of `program`, which process `pid` runs.
    ///
    /// # Errors
    /// When the program has no such function, or the kernel refuses.
    pub fn new(pid: u32, program: &Path, function: &str) -> Result<Self> {
        let kind = fs::read_to_string("/sys/bus/event_source/devices/uprobe/type")
            .context("the kernel has no events of kind uprobe")?;
        let path = CString::new(program.as_os_str().as_bytes())?;
        let attributes = Attributes {
            kind: kind.trim().parse()?,
            size: size_of::<Attributes>() as u32,
            config: 1,
            config1: path.as_ptr() as u64,
            config2: offset(program, function)?,
            ..Attributes::default()
        };
        // SAFETY: the attributes and the path they point at live until the call has returned.
        let result = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attributes,
                pid as libc::pid_t,
                -1,
                -1,
                CLOSE_ON_EXEC,
            )
        };
        if result < 0 {
            return Err(Error::last_os_error()).with_context(|| format!("failed to probe {function}"));
        }
        // SAFETY: the call has just given this descriptor, and nobody else has it.
        Ok(Self { counter: unsafe { File::from_raw_fd(result as i32) } })
    }

    /// How many returns there were, of the process's first thread.
    pub fn count(&mut self) -> Result<u64> {
        let mut count = [0; 8];
        self.counter.read_exact(&mut count).context("failed to read a counter")?;
        Ok(u64::from_ne_bytes(count))
    }
}

/// Where `function` begins in the file: in programs that the tests link, the same as its address.
fn offset(program: &Path, function: &str) -> Result<u64> {
    let output = Command::new("nm").arg(program).output().context("failed to run nm (binutils)")?;
    ensure!(output.status.success(), "nm failed");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut symbols = text.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let symbol = symbols.find(|symbol| symbol.len() == 3 && symbol[2] == function);
    let symbol = symbol.with_context(|| format!("there is no function {function}"))?;
    u64::from_str_radix(symbol[0], 16).context("nm says no address")
}
