//! The system calls of the child: memory, its one socket, and reading what it has open. Nothing else is carried out.
//!
//! Libraries open files by path, so an attempt to do that ends in a signal handler that looks at the path: one that
//! names an open descriptor is answered with a duplicate of it, every other with "no such file". Nothing rests on the
//! handler: whatever code does in its place has the same system calls, none of which opens anything.

use seccompiler::{
    BpfProgram, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::{
    ffi::{CStr, c_int, c_void},
    io, ptr,
};

/// What paths that name descriptors begin with.
pub const DESCRIPTORS: &str = "/proc/self/fd/";

/// Has the kernel carry out nothing but what is listed here, in this thread, which is the only one.
///
/// # Errors
/// What failed, in words.
pub fn install() -> Result<(), String> {
    let program = filter().map_err(|error| format!("seccomp filter: {error}"))?;
    handle().map_err(|error| format!("SIGSYS: {error}"))?;
    seccompiler::apply_filter(&program).map_err(|error| format!("seccomp: {error}"))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let is = |argument, value: c_int| {
        SeccompCondition::new(argument, Dword, SeccompCmpOp::Eq, u64::from(value as u32))
    };
    let lacks = |argument, bits: c_int| {
        SeccompCondition::new(argument, Dword, SeccompCmpOp::MaskedEq(u64::from(bits as u32)), 0)
    };
    let no_pointer = |argument| SeccompCondition::new(argument, Qword, SeccompCmpOp::Eq, 0);
    let always = [
        libc::SYS_brk,
        libc::SYS_clock_gettime,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_fstat,
        libc::SYS_futex,
        libc::SYS_getpid,
        libc::SYS_getrandom,
        libc::SYS_gettid,
        libc::SYS_lseek,
        libc::SYS_madvise,
        libc::SYS_mremap,
        libc::SYS_munmap,
        libc::SYS_pread64,
        libc::SYS_read,
        libc::SYS_recvmsg,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sched_yield,
        libc::SYS_sigaltstack,
    ];
    let own = std::process::id() as c_int;
    let some = [
        (libc::SYS_fcntl, vec![vec![is(1, libc::F_DUPFD_CLOEXEC)?], vec![is(1, libc::F_GETFD)?]]),
        (
            libc::SYS_mmap,
            vec![
                vec![lacks(2, libc::PROT_EXEC)?, lacks(3, libc::MAP_SHARED)?],
                // Files: memory that several may write would be in no limit.
                vec![is(2, libc::PROT_READ)?, lacks(3, libc::MAP_ANONYMOUS)?],
            ],
        ),
        (libc::SYS_mprotect, vec![vec![lacks(2, libc::PROT_EXEC)?]]),
        // Without an address, it goes to the other end of the socket.
        (libc::SYS_sendto, vec![vec![is(0, libc::STDIN_FILENO)?, no_pointer(4)?]]),
        // abort(3): else it would go round in circles.
        (libc::SYS_tgkill, vec![vec![is(0, own)?, is(2, libc::SIGABRT)?]]),
    ];
    let some = some.into_iter().map(|(number, rules)| {
        let rules = rules.into_iter().map(SeccompRule::new).collect::<Result<_, _>>()?;
        Ok((number, rules))
    });
    let rules = always.into_iter().map(|number| Ok((number, Vec::new()))).chain(some);
    let rules = rules.collect::<Result<_, seccompiler::BackendError>>()?;
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}

fn handle() -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = refused;
    action.sa_sigaction = handler as usize;
    action.sa_flags = libc::SA_SIGINFO;
    // SAFETY: the handler keeps to what is allowed in one: system calls, and no memory but its arguments.
    match unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the place of a system call that was not carried out. The kernel has put its number and arguments back into the
/// registers (`syscall_rollback`, kernel/seccomp.c).
extern "C" fn refused(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO, the third argument is a ucontext_t of our own.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let argument = |register: c_int| registers[register as usize];
    let [number, first, second, third, fourth, fifth] =
        [libc::REG_RAX, libc::REG_RDI, libc::REG_RSI, libc::REG_RDX, libc::REG_R10, libc::REG_R8]
            .map(argument);
    let result = match number {
        libc::SYS_open => named(first).and_then(duplicate),
        libc::SYS_openat => named(second).and_then(duplicate),
        libc::SYS_stat | libc::SYS_lstat => {
            named(first).and_then(|file| stat(file, second as *mut libc::stat))
        }
        libc::SYS_newfstatat => {
            named_or_open(first, second, fourth).and_then(|file| stat(file, third as *mut libc::stat))
        }
        libc::SYS_statx => {
            named_or_open(first, second, third).and_then(|file| statx(file, fifth as *mut libc::statx))
        }
        libc::SYS_access | libc::SYS_faccessat | libc::SYS_readlink | libc::SYS_readlinkat => {
            Err(libc::ENOENT)
        }
        _ => Err(libc::ENOSYS),
    };
    registers[libc::REG_RAX as usize] = match result {
        Ok(value) => value.into(),
        Err(error) => (-error).into(),
    };
}

/// The descriptor that a path names.
fn named(path: i64) -> Result<c_int, c_int> {
    if path == 0 {
        return Err(libc::EFAULT);
    }
    // SAFETY: libc's functions pass on the string that they were given.
    let path = unsafe { CStr::from_ptr(path as *const _) };
    descriptor(path.to_bytes()).ok_or(libc::ENOENT)
}

fn descriptor(path: &[u8]) -> Option<c_int> {
    let digits = path.strip_prefix(DESCRIPTORS.as_bytes())?;
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i32, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i32::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The same, where an empty path with `AT_EMPTY_PATH` stands for `directory` itself.
fn named_or_open(directory: i64, path: i64, flags: i64) -> Result<c_int, c_int> {
    let is_empty = path == 0
        // SAFETY: as in `named`.
        || unsafe { *(path as *const u8) } == 0;
    match is_empty && flags as c_int & libc::AT_EMPTY_PATH != 0 {
        true => Ok(directory as c_int),
        false => named(path),
    }
}

fn duplicate(file: c_int) -> Result<c_int, c_int> {
    // SAFETY: plain numbers.
    made(unsafe { libc::fcntl(file, libc::F_DUPFD_CLOEXEC, 3) })
}

fn stat(file: c_int, to: *mut libc::stat) -> Result<c_int, c_int> {
    // SAFETY: the caller of the system call gave room for it. Not libc's fstat, which may come here again.
    made(unsafe { libc::syscall(libc::SYS_fstat, file, to) } as c_int)
}

/// What Rust's standard library reads of it.
fn statx(file: c_int, to: *mut libc::statx) -> Result<c_int, c_int> {
    if to.is_null() {
        return Err(libc::EFAULT);
    }
    // SAFETY: all zeroes is a valid stat.
    let mut from: libc::stat = unsafe { std::mem::zeroed() };
    stat(file, &raw mut from)?;
    // SAFETY: all zeroes is a valid statx.
    let mut filled: libc::statx = unsafe { std::mem::zeroed() };
    filled.stx_mask = libc::STATX_BASIC_STATS;
    filled.stx_blksize = from.st_blksize as u32;
    filled.stx_nlink = from.st_nlink as u32;
    filled.stx_uid = from.st_uid;
    filled.stx_gid = from.st_gid;
    filled.stx_mode = from.st_mode as u16;
    filled.stx_ino = from.st_ino;
    filled.stx_size = from.st_size as u64;
    filled.stx_blocks = from.st_blocks as u64;
    filled.stx_mtime.tv_sec = from.st_mtime;
    filled.stx_mtime.tv_nsec = from.st_mtime_nsec as u32;
    filled.stx_dev_major = libc::major(from.st_dev);
    filled.stx_dev_minor = libc::minor(from.st_dev);
    // SAFETY: the caller of the system call gave room for it.
    unsafe { to.write(filled) };
    Ok(0)
}

fn made(result: c_int) -> Result<c_int, c_int> {
    if result < 0 { Err(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, os::fd::AsRawFd as _, path::Path, thread};

    #[test]
    fn only_a_descriptor_by_its_number_is_a_path() {
        assert_eq!(descriptor(b"/proc/self/fd/7"), Some(7));
        assert_eq!(descriptor(b"/proc/self/fd/120"), Some(120));
        let others = [
            "",
            "/",
            "/proc/self/fd/",
            "/proc/self/fd/7/x",
            "/proc/self/fd/7.dwp",
            "/proc/self/fd/99999999999",
        ];
        for path in others {
            assert_eq!(descriptor(path.as_bytes()), None, "{path}");
        }
    }

    /// The filter is one thread's, so the other tests go on without it.
    #[test]
    fn behind_the_filter_open_files_are_there_and_nothing_else_is() {
        let program = Path::new("/proc/self/exe");
        let size = program.metadata().expect("metadata").len();
        let file = File::open(program).expect("open");
        let path = format!("{DESCRIPTORS}{}", file.as_raw_fd());
        let seen = thread::spawn(move || {
            install().expect("filter");
            let again = File::open(&path).and_then(|file| file.metadata()).map(|metadata| metadata.len());
            let named = std::fs::metadata(&path).map(|metadata| metadata.len());
            let others = ["/proc/self/exe", "/etc/passwd", "/dev/zero", "/"]
                .map(|path| (File::open(path).map(drop).map_err(|e| e.kind()), Path::new(path).exists()));
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").map(drop).map_err(|e| e.raw_os_error());
            (again.ok(), named.ok(), others, socket)
        });
        let (again, named, others, socket) = seen.join().expect("the thread");
        assert_eq!((again, named), (Some(size), Some(size)));
        assert_eq!(others, [(Err(io::ErrorKind::NotFound), false); 4]);
        assert_eq!(socket, Err(Some(libc::ENOSYS)));
    }
}
