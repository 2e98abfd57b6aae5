//! A thread's claim on the processor.

/// Asks for the processor at once for the calling thread. Without the privilege nothing changes.
pub fn raise() {
    set_nice(-20);
}

/// Sets the calling thread's nice value: on Linux each thread has its own (setpriority(2)).
pub fn set_nice(nice: i32) {
    // SAFETY: no pointers; 0 is this thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
}
