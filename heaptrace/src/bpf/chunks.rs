//! A table that grows while tracing: arrays of one size in an array of maps, each added whole and never taken away. Who
//! grows it is another than who reads it.

use super::{array::SharedArray, error::LoadError, syscall::mmapable_array, taken};
use aya::{
    Ebpf,
    maps::{ArrayOfMaps, MapData},
};
use std::{
    io,
    sync::{Arc, OnceLock},
};

/// Chunks by their number, each set once, in order.
type Arrays<T> = Arc<[OnceLock<SharedArray<T>>]>;

/// The table as it is read.
pub(super) struct Chunks<T> {
    arrays: Arrays<T>,
    /// Elements of a chunk.
    entries: u32,
}

/// The table as it grows.
pub(super) struct NewChunks<T> {
    map: ArrayOfMaps<MapData, MapData>,
    arrays: Arrays<T>,
    entries: u32,
    count: u32,
}

/// The table in the map `name`, whose chunks have `entries` elements; the first `chunks` are added.
pub(super) fn take<T: Copy>(
    ebpf: &mut Ebpf,
    name: &str,
    entries: u32,
    chunks: u32,
) -> Result<(Chunks<T>, NewChunks<T>), LoadError> {
    let map: ArrayOfMaps<MapData, MapData> = taken::take(ebpf, name)?;
    let arrays: Arrays<T> = (0..map.len()).map(|_| OnceLock::new()).collect();
    let mut new = NewChunks { map, arrays: arrays.clone(), entries, count: 0 };
    for _ in 0..chunks {
        new.add().map_err(|source| LoadError::Maps { source })?;
    }
    Ok((Chunks { arrays, entries }, new))
}

impl<T: Copy> NewChunks<T> {
    /// Chunks so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The most that there can be.
    pub fn most(&self) -> u32 {
        self.arrays.len() as u32
    }

    /// Adds a chunk, which the BPF side finds from here on.
    ///
    /// # Errors
    /// `ENOMEM`; `E2BIG` if there are as many as there may be.
    pub fn add(&mut self) -> io::Result<()> {
        let at = self.arrays.get(self.count as usize).ok_or(io::Error::from_raw_os_error(libc::E2BIG))?;
        let array = mmapable_array(size_of::<T>() as u32, self.entries)?;
        let array = MapData::from_fd(array).map_err(io::Error::other)?;
        // Read before it is written.
        let memory = SharedArray::new(&array, self.entries)?;
        at.get_or_init(|| memory);
        self.map.set(self.count, &array, 0).map_err(io::Error::other)?;
        self.count += 1;
        Ok(())
    }
}

impl<T: Copy> Chunks<T> {
    /// Chunks without maps.
    #[cfg(test)]
    pub fn in_memory(entries: u32, chunks: u32) -> Self {
        let array = || OnceLock::from(SharedArray::in_memory(entries));
        Self { arrays: (0..chunks).map(|_| array()).collect(), entries }
    }

    /// Chunks so far.
    pub fn count(&self) -> u32 {
        self.arrays.iter().take_while(|array| array.get().is_some()).count() as u32
    }

    /// Elements so far.
    pub fn pointers(&self) -> impl Iterator<Item = *mut T> + '_ {
        (0..self.count() * self.entries).filter_map(|index| self.pointer(index))
    }

    pub fn pointer(&self, index: u32) -> Option<*mut T> {
        self.arrays.get((index / self.entries) as usize)?.get()?.pointer(index % self.entries)
    }

    /// As the kernel makes it.
    pub fn clear(&self, index: u32) {
        if let Some(array) = self.arrays.get((index / self.entries) as usize).and_then(OnceLock::get) {
            array.clear(index % self.entries);
        }
    }

    pub fn get(&self, index: u32) -> Option<T> {
        self.arrays.get((index / self.entries) as usize)?.get()?.get(index % self.entries)
    }
}
