//! Whether this process may use BPF at all: what decides between running the end-to-end tests and listing them
//! as not run.

use std::io;

/// Why no end-to-end test can run here; `None` if they can.
///
/// Asks the kernel for the smallest map there is, as every tracing session needs one.
pub fn unavailable() -> Option<String> {
    // bpf(2): BPF_MAP_CREATE with type, key size, value size and entries of the first union member.
    const BPF_MAP_CREATE: libc::c_long = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    let attributes: [u32; 4] = [BPF_MAP_TYPE_ARRAY, 4, 8, 1];
    // SAFETY: the kernel reads `size_of_val(&attributes)` bytes and takes the rest of the union as zero.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_MAP_CREATE,
            attributes.as_ptr(),
            size_of_val(&attributes) as libc::c_long,
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Some(format!("the bpf system call is refused: {error}"));
    }
    // SAFETY: the descriptor was made above and nobody else knows it.
    unsafe { libc::close(fd as libc::c_int) };
    // SAFETY: no arguments, cannot fail.
    (unsafe { libc::geteuid() } != 0).then(|| "not root".to_owned())
}
