//! Whether this machine lets us load BPF programs and set uprobes, asked of the kernel itself.

use std::{io, mem, path::Path};

use crate::machine::is_root;

/// `BPF_MAP_CREATE` of include/uapi/linux/bpf.h.
const MAP_CREATE: libc::c_long = 0;
/// `BPF_MAP_TYPE_HASH`.
const HASH: u32 = 1;

/// The head of the kernel's `union bpf_attr` for `BPF_MAP_CREATE`; it takes the rest as zero.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// Why the end-to-end tests cannot run here; `None` where they can.
pub fn refusal() -> Option<String> {
    if let Err(error) = create_map() {
        let hint = if is_root() { "" } else { "; run as root" };
        return Some(format!("the kernel refuses bpf(): {error}{hint}"));
    }
    // Registered by the kernel when it is built with CONFIG_UPROBE_EVENTS.
    let uprobes = Path::new("/sys/bus/event_source/devices/uprobe/type");
    (!uprobes.exists()).then(|| format!("the kernel has no uprobes ({} is not there)", uprobes.display()))
}

/// Creates a map and gives it back: the least that loading a program needs.
fn create_map() -> io::Result<()> {
    let attr = MapCreate { map_type: HASH, key_size: 4, value_size: 4, max_entries: 1 };
    // SAFETY: `attr` outlives the call and its size is passed with it; the kernel reads no further.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, MAP_CREATE, &raw const attr, mem::size_of::<MapCreate>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above returned this descriptor, and nothing else owns it.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}
