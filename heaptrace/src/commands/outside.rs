//! What a tracing command needs of the world around it: a place to write to, the time of day, the processor.

use crate::{
    created::{Place, folder_of, is_folder, place},
    error::{CannotTrace, Usage},
    process::{priority, system::MemoryInfo},
};
use anyhow::{Context as _, bail};
use rustix::fs::{Access, access};
use std::path::Path;

/// Fails before the work if the recording could not be written after it. A pipe is opened here: its reader may not wait.
pub(super) fn open_output(output: &Path) -> anyhow::Result<Place> {
    if output == Path::new("-") {
        bail!(Usage(
            "a recording is not written to standard output; name a file with -o (./- for one of that name)"
                .to_owned()
        ));
    }
    let folder = folder_of(output);
    if !is_folder(folder) {
        bail!(
            "failed to write {}: there is no folder {}; create it, or choose another with -o",
            output.display(),
            folder.display()
        );
    }
    let place = place(output).with_context(|| format!("failed to write {}", output.display()))?;
    access(folder, Access::WRITE_OK)
        .map_err(std::io::Error::from)
        .with_context(|| format!("failed to write {}: {}", output.display(), folder.display()))?;
    Ok(place)
}

/// Fails if the kernel's tables would take more than half of the memory that is free for it: others live here,
/// and the kernel would rather kill one of them than refuse.
pub(super) fn check_memory(tables: u64, available: Option<u64>) -> anyhow::Result<()> {
    if available.is_some_and(|available| tables > available / 2) {
        bail!(CannotTrace(format!(
            "the tables would take {} MB of memory, and {} MB are available, of which half may be taken; lower \
             --memory, --max-live, --max-sites, --max-frames, --max-processes or --max-threads",
            tables >> 20,
            available.unwrap_or(0) >> 20
        )));
    }
    Ok(())
}

/// Bytes of memory that can be had without swapping, if the kernel says so.
pub(super) fn available_memory() -> Option<u64> {
    MemoryInfo::read()?.bytes("MemAvailable")
}

/// The time of day where we are, `12:34:56`; empty if the C library cannot tell.
pub(super) fn clock() -> String {
    // SAFETY: a time of no fields that are pointers we would read.
    let mut time: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: valid pointers to locals, or none.
    let known = unsafe { libc::localtime_r(&libc::time(std::ptr::null_mut()), &raw mut time) };
    if known.is_null() {
        return String::new();
    }
    format!("{:02}:{:02}:{:02}", time.tm_hour, time.tm_min, time.tm_sec)
}

/// A process's claim on the processor, to be given back.
pub(super) struct Hurry {
    nice_before: i32,
}

impl Hurry {
    /// Asks for the processor at once when a child appears: on a busy machine it would else run for long before its
    /// probes are in place. Without the privilege nothing changes.
    pub fn begin() -> Self {
        let nice_before = priority::nice();
        priority::raise();
        Self { nice_before }
    }

    /// For the work at the end.
    pub fn end(self) {
        priority::set_nice(self.nice_before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_available_memory_may_be_taken() {
        assert!(check_memory(500, Some(1000)).is_ok());
        assert!(check_memory(1 << 40, None).is_ok());
        let refused = check_memory(501 << 20, Some(1000 << 20)).expect_err("refused");
        assert!(refused.is::<CannotTrace>());
        assert!(refused.to_string().contains("501 MB") && refused.to_string().contains("--max-live"));
    }

    #[test]
    fn this_machine_says_what_is_available() {
        assert!(available_memory().is_some_and(|bytes| bytes > 1 << 20));
    }
}
