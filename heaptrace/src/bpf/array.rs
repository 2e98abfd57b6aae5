//! Array maps, read through shared memory, without a system call.

use aya::maps::MapData;
use memmap2::{MmapOptions, MmapRaw};
use std::{io, marker::PhantomData, os::fd::AsFd as _};

/// An mmapable array map of `T`, which the kernel writes while we read: elements are copied out whole, and a
/// field may be newer than the one before it.
pub(super) struct SharedArray<T> {
    memory: MmapRaw,
    pub(super) entries: u32,
    element: PhantomData<T>,
}

impl<T: Copy> SharedArray<T> {
    pub(super) fn new(data: &MapData, entries: u32) -> io::Result<Self> {
        // Elements are laid out at multiples of 8 bytes (array_map_alloc, kernel/bpf/arraymap.c).
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let length = size_of::<T>() * entries as usize;
        let memory = MmapOptions::new().len(length.next_multiple_of(4096)).map_raw(&data.fd().as_fd())?;
        Ok(Self { memory, entries, element: PhantomData })
    }

    /// One without a map.
    #[cfg(test)]
    pub(super) fn in_memory(entries: u32) -> Self {
        let length = (size_of::<T>() * entries as usize).next_multiple_of(4096);
        let memory = MmapOptions::new().len(length).map_anon().expect("memory").into();
        Self { memory, entries, element: PhantomData }
    }

    pub(super) fn pointer(&self, index: u32) -> Option<*mut T> {
        // SAFETY: below `entries`, so within the mapping.
        (index < self.entries).then(|| unsafe { self.memory.as_mut_ptr().cast::<T>().add(index as usize) })
    }

    /// The first element, which every map has.
    pub(super) fn first(&self) -> *mut T {
        self.memory.as_mut_ptr().cast()
    }

    pub(super) fn get(&self, index: u32) -> Option<T> {
        // SAFETY: the pointer is into our mapping; T is plain data for which any bytes are a value.
        self.pointer(index).map(|at| unsafe { at.read_volatile() })
    }

    /// As the kernel makes it.
    pub(super) fn clear(&self, index: u32) {
        if let Some(at) = self.pointer(index) {
            // SAFETY: as in `get`.
            unsafe { at.write_bytes(0, 1) };
        }
    }

    pub(super) fn set(&self, index: u32, value: T) -> bool {
        // SAFETY: as in `get`.
        self.pointer(index).map(|at| unsafe { at.write_volatile(value) }).is_some()
    }
}
