//! What a tracing command needs of the world around it: a place to write to, the host's name, the processor.

use crate::{model::Host, process::procfs};
use anyhow::{Context as _, bail};
use std::path::Path;

/// Fails before the work if the file could not be written after it.
pub(super) fn check_output(output: &Path) -> anyhow::Result<()> {
    let folder = match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        bail!(
            "failed to write {}: there is no folder {}; create it, or choose another with -o",
            output.display(),
            folder.display()
        );
    }
    if output.is_dir() {
        bail!("failed to write {}: it is a folder", output.display());
    }
    let folder_c = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes())?;
    // SAFETY: a NUL-terminated path.
    if unsafe { libc::access(folder_c.as_ptr(), libc::W_OK) } != 0 {
        return Err(std::io::Error::last_os_error())
            .with_context(|| format!("failed to write {}: {}", output.display(), folder.display()));
    }
    Ok(())
}

/// What the recording says of this machine.
pub(super) fn host() -> Host {
    Host { kernel: procfs::kernel_release(), arch: std::env::consts::ARCH.to_owned() }
}

/// A process's claim on the processor, to be given back.
pub(super) struct Hurry {
    nice_before: i32,
}

impl Hurry {
    /// Asks for the processor at once when a child appears: on a busy machine it would else run for long before its
    /// probes are in place. Without the privilege nothing changes.
    pub fn begin() -> Self {
        // SAFETY: no pointers; 0 is this process.
        let nice_before = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        set_nice(-20);
        Self { nice_before }
    }

    /// For the work at the end.
    pub fn end(self) {
        set_nice(self.nice_before);
    }
}

fn set_nice(nice: i32) {
    // SAFETY: as above.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
