//! System calls in a process that a SIGKILL of ours does not reach.
//!
//! The kernel does not write to another process's memory for a task that is about to die (`__get_user_pages`, mm/gup.c):
//! a probe that a killed thread was placing or taking away stays where it is ("failed to unregister, leaking uprobe" in
//! the kernel's log). So such calls are made by a child that has our memory and our descriptors (`CLONE_VM`,
//! `CLONE_FILES`) and is no thread of ours. If we are killed meanwhile it finishes its call, and what is still open it
//! closes as it ends, as any process does that nobody killed. So long, readers of our output see no end of it.

use std::{
    ffi::{CStr, c_int, c_long, c_void},
    io,
    mem::MaybeUninit,
    os::fd::{IntoRawFd as _, OwnedFd, RawFd},
    ptr,
};

/// The child does nothing but system calls; glibc's own posix_spawn(3) has 32 KiB for its.
const STACK_BYTES: usize = 64 << 10;

/// Another name than ours: who kills by name is not to find it.
const NAME: &CStr = c"ht-probes";

struct Call {
    number: c_long,
    arguments: [usize; 4],
    result: c_long,
}

/// Whether a process, by its parent and its name, is a child that makes a call for us.
pub fn is_child(parent: u32, comm: &str) -> bool {
    parent == std::process::id() && comm.as_bytes() == NAME.to_bytes()
}

/// A system call with up to four arguments, made apart, or by us if there can be no further process. Gives what it
/// returned.
///
/// # Errors
/// As the system call.
///
/// # Safety
/// As for the system call. It must not be one that changes what is a thread's or process's own.
pub unsafe fn syscall(number: c_long, arguments: [usize; 4]) -> io::Result<usize> {
    let mut call = Call { number, arguments, result: 0 };
    let argument = (&raw mut call).cast::<c_void>();
    let mut stack = Vec::<u128>::with_capacity(STACK_BYTES / size_of::<u128>());
    // SAFETY: the end of the allocation.
    let top = unsafe { stack.as_mut_ptr().add(stack.capacity()) };
    // By CLONE_VFORK tracing knows it as ours, too (heaptrace-ebpf, `forked`).
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_FS;
    let signals = SignalsBlocked::now();
    // SAFETY: the stack is the child's alone. This thread, whose thread-local storage the child uses, goes on when the child
    // has ended, or is killed; what the child uses of its memory stays.
    let pid = unsafe { libc::clone(child, top.cast(), flags, argument) };
    if pid < 0 {
        make(argument);
    } else {
        // It has no exit signal, and is waited for all the same with `__WALL`.
        // SAFETY: no pointers.
        while unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) } < 0
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
    drop(signals);
    // SAFETY: it is this function's, and nobody else has it any more.
    match unsafe { ptr::read_volatile(&raw const call.result) } {
        result @ 0.. => Ok(result as usize),
        error => Err(io::Error::from_raw_os_error(-error as i32)),
    }
}

/// System calls and nothing else: what takes a lock might wait for a thread that was killed.
extern "C" fn child(call: *mut c_void) -> c_int {
    // SAFETY: numbers, and a string that ends in NUL. They may fail: they only keep away what kills process groups, or by
    // name.
    unsafe {
        libc::syscall(libc::SYS_setpgid, 0, 0);
        libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME, NAME.as_ptr());
    }
    make(call);
    0
}

fn make(call: *mut c_void) {
    // SAFETY: what `syscall` has, which waits meanwhile.
    let call = unsafe { &mut *call.cast::<Call>() };
    let [first, second, third, fourth] = call.arguments;
    // SAFETY: by the caller of `syscall`.
    let result = unsafe { libc::syscall(call.number, first, second, third, fourth) };
    // SAFETY: a thread's own error; the child uses that of the thread that waits for it.
    call.result = if result < 0 { -c_long::from(unsafe { *libc::__errno_location() }) } else { result };
}

/// While this lives the thread takes no signals: the child, which begins with the thread's mask, would run our handlers.
struct SignalsBlocked(libc::sigset_t);

impl SignalsBlocked {
    fn now() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both are written here; neither call can fail with these arguments.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: a mask that the thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// A descriptor that is closed apart.
#[derive(Debug)]
pub struct ClosedApart(RawFd);

impl ClosedApart {
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd.into_raw_fd())
    }
}

impl Drop for ClosedApart {
    fn drop(&mut self) {
        // SAFETY: it is ours alone. Whatever close(2) says, it is closed.
        let _closed = unsafe { syscall(libc::SYS_close, [self.0 as usize, 0, 0, 0]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{Read as _, Write as _},
        os::fd::{AsRawFd as _, FromRawFd as _},
        thread,
    };

    #[test]
    fn memory_descriptors_and_errors_are_ours() {
        let (mut reader, mut writer) = io::pipe().expect("pipe");
        writer.write_all(b"seen").expect("room");
        let mut bytes = [0u8; 4];
        // SAFETY: the buffer has as many bytes.
        let read = unsafe {
            let buffer = bytes.as_mut_ptr() as usize;
            syscall(libc::SYS_read, [reader.as_raw_fd() as usize, buffer, bytes.len(), 0])
        };
        assert_eq!((read.expect("bytes"), &bytes), (4, b"seen"));
        // SAFETY: the new descriptor is nobody's.
        let copy = unsafe { syscall(libc::SYS_dup, [writer.as_raw_fd() as usize, 0, 0, 0]) }.expect("a copy");
        // SAFETY: as above.
        let copy = unsafe { OwnedFd::from_raw_fd(copy as i32) };
        drop(writer);
        drop(ClosedApart::new(copy));
        // The last one that could write is gone.
        assert_eq!(reader.read(&mut bytes).expect("the end"), 0);
        // SAFETY: no such descriptor.
        let error = unsafe { syscall(libc::SYS_dup, [usize::MAX, 0, 0, 0]) }.expect_err("no descriptor");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn it_is_another_process_with_another_name_which_takes_no_signals() {
        // SAFETY: no arguments.
        let [pid, group] = [libc::SYS_getpid, libc::SYS_getpgid]
            .map(|number| unsafe { syscall(number, [0; 4]) }.expect("a number") as i32);
        assert_ne!(pid, std::process::id() as i32);
        assert_ne!(group, rustix::process::getpgrp().as_raw_nonzero().get());
        let mut name = [0_u8; 16];
        // SAFETY: the buffer has the size that PR_GET_NAME wants.
        unsafe {
            syscall(libc::SYS_prctl, [libc::PR_GET_NAME as usize, name.as_mut_ptr() as usize, 0, 0])
                .expect("a name");
        }
        assert!(name.starts_with(NAME.to_bytes_with_nul()));

        let mask = |of_child| {
            let mut mask = 0_u64;
            let arguments = [libc::SIG_BLOCK as usize, 0, (&raw mut mask) as usize, size_of_val(&mask)];
            let [how, set, old, size] = arguments;
            // SAFETY: the mask that is written has the kernel's size.
            unsafe {
                if of_child {
                    syscall(libc::SYS_rt_sigprocmask, arguments).expect("a mask");
                } else {
                    libc::syscall(libc::SYS_rt_sigprocmask, how, set, old, size);
                }
            }
            mask
        };
        let before = mask(false);
        let term = 1 << (libc::SIGTERM - 1);
        assert_eq!((before & term, mask(true) & term), (0, term));
        assert_eq!(mask(false), before);
    }

    #[test]
    fn many_threads_at_once() {
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        // SAFETY: no arguments.
                        unsafe { syscall(libc::SYS_getpid, [0; 4]) }.expect("a PID");
                    }
                });
            }
        });
    }
}
