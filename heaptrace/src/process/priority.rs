//! A thread's claim on the processor.

use rustix::process::{getpriority_process, setpriority_process};

/// Asks for the processor at once for the calling thread. Without the privilege nothing changes.
pub fn raise() {
    set_nice(-20);
}

/// Sets the calling thread's nice value: on Linux each thread has its own (setpriority(2)).
pub fn set_nice(nice: i32) {
    let _ = setpriority_process(None, nice);
}

/// The calling thread's nice value.
pub fn nice() -> i32 {
    getpriority_process(None).unwrap_or(0)
}
