//! The few bpf(2) commands that aya 0.14 has no call for.

use crate::process::apart;
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// include/uapi/linux/bpf.h, `enum bpf_cmd`.
pub const BPF_MAP_CREATE: libc::c_int = 0;
pub const BPF_PROG_LOAD: libc::c_int = 5;
pub const BPF_BTF_LOAD: libc::c_int = 18;
pub const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
pub const BPF_MAP_DELETE_BATCH: libc::c_int = 27;
pub const BPF_LINK_CREATE: libc::c_int = 28;
pub const BPF_ENABLE_STATS: libc::c_int = 32;

/// Calls bpf(2).
///
/// # Safety
/// `attr` must be what the kernel expects for `cmd`, and what it points to must be valid for the call.
pub unsafe fn bpf<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: by the caller; the size bounds what the kernel reads of `attr`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for commands that give a descriptor.
///
/// # Safety
/// As for [`bpf`].
pub unsafe fn bpf_fd<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: by the caller; a non-negative result is a new descriptor that nobody else owns.
    unsafe { bpf(cmd, attr).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

/// The same apart from us: for probes, which somebody who is killed meanwhile would leave behind.
///
/// # Safety
/// As for [`bpf`].
pub unsafe fn bpf_fd_apart<T>(cmd: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    let arguments = [cmd as usize, std::ptr::from_mut(attr).addr(), size_of::<T>(), 0];
    // SAFETY: by the caller; a result is a new descriptor that nobody else owns.
    unsafe { apart::syscall(libc::SYS_bpf, arguments).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
}

/// The start of `union bpf_attr`'s part for `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Default)]
pub struct MapAttr {
    pub map_type: u32,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
}

/// A new array map that can be mapped, of `entries` values.
///
/// # Errors
/// As bpf(2).
pub fn mmapable_array(value_size: u32, entries: u32) -> io::Result<OwnedFd> {
    // include/uapi/linux/bpf.h
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    const BPF_F_MMAPABLE: u32 = 1 << 10;
    let mut attr = MapAttr {
        map_type: BPF_MAP_TYPE_ARRAY,
        key_size: 4,
        value_size,
        max_entries: entries,
        map_flags: BPF_F_MMAPABLE,
    };
    // SAFETY: the attribute is as the command wants it.
    unsafe { bpf_fd(BPF_MAP_CREATE, &mut attr) }
}

/// `union bpf_attr`, part `batch`.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Reads a whole hash map in batches of `chunk` and hands each entry to `each`. Entries that come and go
/// meanwhile may or may not be seen. `K` and `V` must have the map's key and value sizes.
pub fn for_each_entry<K: Copy + Default, V: Copy + Default>(
    map: BorrowedFd<'_>,
    chunk: usize,
    mut each: impl FnMut(K, V),
) -> io::Result<()> {
    let mut size = chunk.max(16);
    let (mut keys, mut values) = (vec![K::default(); size], vec![V::default(); size]);
    // A hash map's batch position is a u32; 8 bytes leave room (kernel/bpf/hashtab.c).
    let (mut position, mut next) = (0u64, 0u64);
    let mut first = true;
    loop {
        let mut attr = BatchAttr {
            in_batch: if first { 0 } else { (&raw const position) as u64 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: size as u32,
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: keys and values have room for `count` entries each, positions for 8 bytes.
        let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attr) };
        let done = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket holds more than a batch: the kernel wants larger buffers.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                size *= 2;
                keys.resize(size, K::default());
                values.resize(size, V::default());
                continue;
            }
            Err(error) => return Err(error),
        };
        for (key, value) in keys.iter().zip(&values).take(attr.count as usize) {
            each(*key, *value);
        }
        if done {
            return Ok(());
        }
        position = next;
        first = false;
    }
}

/// Deletes `keys` from a hash map; keys that are not there are no error. `K` must have the map's key size.
pub fn delete_entries<K: Copy>(map: BorrowedFd<'_>, keys: &[K]) -> io::Result<Vec<K>> {
    let mut deleted = Vec::with_capacity(keys.len());
    let mut rest = keys;
    while !rest.is_empty() {
        let mut attr = BatchAttr {
            keys: rest.as_ptr() as u64,
            count: rest.len() as u32,
            map_fd: map.as_raw_fd() as u32,
            ..BatchAttr::default()
        };
        // SAFETY: `keys` holds `count` keys.
        match unsafe { bpf(BPF_MAP_DELETE_BATCH, &mut attr) } {
            Ok(_) => {
                deleted.extend_from_slice(rest);
                break;
            }
            // The key after those deleted is not there.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                deleted.extend_from_slice(rest.get(..attr.count as usize).unwrap_or_default());
                rest = rest.get(attr.count as usize + 1..).unwrap_or_default();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(deleted)
}
