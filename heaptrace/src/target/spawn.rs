//! Starting a command so that it can be probed before its first instruction: what it will run, known before anything
//! is set up for it, and a child that waits for a word before it execs.

use crate::process::{
    command::{self, Invocation},
    ldso::{self, Program, ProgramError},
};
use std::{
    ffi::{CStr, CString, NulError, OsString},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    #[error("the command holds a NUL byte")]
    Nul(#[from] NulError),
    #[error("a child process could not be made: {0}")]
    Fork(#[source] io::Error),
    #[error("{command}: {source}")]
    Exec { command: String, source: io::Error },
}

/// A command that can be run, in this process's environment.
#[derive(Debug)]
pub struct ResolvedCommand {
    invocation: Invocation,
    /// What the exec will map.
    pub program: Program,
}

impl ResolvedCommand {
    /// # Errors
    /// If it cannot be run.
    pub fn new(argv: &[OsString]) -> Result<Self, ProgramError> {
        let environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        let invocation = command::resolve(argv, std::env::var_os("PATH").as_deref())?;
        let program = ldso::program(&invocation, &environment)?;
        Ok(Self { invocation, program })
    }
}

/// A forked child that has not execed. If this is dropped before [`HeldChild::release`], the child exits
/// without running the command.
pub struct HeldChild {
    pid: u32,
    command: String,
    go: io::PipeWriter,
    failure: io::PipeReader,
}

impl HeldChild {
    /// Forks a child that will run `command`.
    pub fn fork(command: &ResolvedCommand) -> Result<Self, SpawnError> {
        let Invocation { file, arguments, program: _ } = &command.invocation;
        let file_c = CString::new(file.as_os_str().as_bytes())?;
        let owned: Vec<CString> =
            arguments.iter().map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?;
        let mut pointers: Vec<*const libc::c_char> = owned.iter().map(|word| word.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let (wait, go) = io::pipe().map_err(SpawnError::Fork)?;
        let (failure, report) = io::pipe().map_err(SpawnError::Fork)?;
        let (wait, report): (OwnedFd, OwnedFd) = (wait.into(), report.into());
        let go_fd = go.as_raw_fd();
        // SAFETY: until it execs or exits, the child calls async-signal-safe functions only, on memory that was
        // prepared before.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(SpawnError::Fork(io::Error::last_os_error())),
            0 => {
                // SAFETY: as above; the descriptors are the child's copies.
                unsafe { exec_when_told(wait.as_raw_fd(), go_fd, report.as_raw_fd(), &file_c, &pointers) }
            }
            pid => {
                // Ignored, as a parent may leave it to us, the kernel would wait for the child itself (wait(2)), and its PID could be
                // another's before we know of its end.
                // SAFETY: no handler of anybody's is replaced.
                unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
                let command = file.display().to_string();
                Ok(Self { pid: pid as u32, command, go, failure })
            }
        }
    }

    /// The child's PID, which the command will have.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets the child exec; returns once it has, or could not.
    pub fn release(self) -> Result<u32, SpawnError> {
        let Self { pid, command, mut go, mut failure } = self;
        let fail = |source| SpawnError::Exec { command: command.clone(), source };
        go.write_all(&[1]).map_err(fail)?;
        drop(go);
        // The pipe closes by exec, or holds why there was none.
        let mut errno = [0; 4];
        match failure.read_exact(&mut errno) {
            Ok(()) => Err(fail(io::Error::from_raw_os_error(i32::from_ne_bytes(errno)))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(pid),
            Err(error) => Err(fail(error)),
        }
    }
}

/// # Safety
/// Only in a freshly forked child; `argv` ends in a null pointer.
unsafe fn exec_when_told(wait: i32, go: i32, report: i32, file: &CStr, argv: &[*const libc::c_char]) -> ! {
    // SAFETY: async-signal-safe calls on our own descriptors and locals.
    unsafe {
        // Our copy of the writing end would keep the pipe open if the parent died.
        libc::close(go);
        let mut word = 0u8;
        if libc::read(wait, (&raw mut word).cast(), 1) == 1 {
            // Rust ignores SIGPIPE, and ignored signals stay so over exec.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            libc::execv(file.as_ptr(), argv.as_ptr());
            let errno = *libc::__errno_location();
            libc::write(report, (&raw const errno).cast(), 4);
        }
        libc::_exit(127)
    }
}
