//! Another process's memory: read only, in windows, up to a limit.

use super::broken::Broken;
use crate::process::{patience, procfs};
use std::{io, ops::Range};

/// Memory that can be read while its owner changes it.
pub trait Memory {
    /// Fills `into` from `address`, all of it.
    ///
    /// # Errors
    /// If any byte of it cannot be read.
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()>;

    /// Its private mappings that can be written to, in order of address; none where they are not known.
    fn writable(&self) -> Vec<Range<u64>> {
        Vec::new()
    }
}

/// The memory of a process, by process_vm_readv(2): no ptrace, and the process is not stopped. Who reads much does so within a
/// look ([`patience::look`]), which each read is else.
#[derive(Clone, Copy, Debug)]
pub struct ProcessMemory {
    pub pid: u32,
}

impl Memory for ProcessMemory {
    fn read(&self, address: u64, into: &mut [u8]) -> io::Result<()> {
        if patience::is_looking() {
            let read = self.read_now(address, into);
            patience::beat();
            return read;
        }
        let (memory, length) = (*self, into.len());
        let read = move || {
            let mut bytes = vec![0; length];
            memory.read_now(address, &mut bytes).map(|()| bytes)
        };
        into.copy_from_slice(&patience::look(self.pid, read).flatten()?);
        Ok(())
    }

    fn writable(&self) -> Vec<Range<u64>> {
        let mappings = procfs::read_maps(self.pid).unwrap_or_default().into_iter();
        let private = mappings.filter(|m| m.permissions.read && m.permissions.write && !m.permissions.shared);
        private.map(|mapping| mapping.start..mapping.end).collect()
    }
}

impl ProcessMemory {
    fn read_now(self, address: u64, into: &mut [u8]) -> io::Result<()> {
        let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: into.len() };
        let pid = libc::pid_t::try_from(self.pid).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: `local` is all of `into`, which is borrowed mutably; the kernel checks `remote`.
        let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(read) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(read) if read == into.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What is read for one word where no more is expected to be used: x86_64's page.
const PAGE: u64 = 4096;

/// What is read once reads follow each other: larger ones are no faster.
const WINDOW: u64 = 64 << 10;

/// The most that one inspection reads: seconds of work. Heaps of many small blocks that are larger are not walked
/// to their end, and reported so.
pub const MOST_BYTES: u64 = 16 << 30;

/// Reads words through a window, and counts what was read. What it says can be a mixture of moments.
pub struct Reader<'a> {
    memory: &'a dyn Memory,
    window: Vec<u8>,
    start: u64,
    left: u64,
}

impl<'a> Reader<'a> {
    /// Reads at most about `most` bytes.
    pub fn new(memory: &'a dyn Memory, most: u64) -> Self {
        Self { memory, window: Vec::new(), start: 0, left: most }
    }

    /// The memory's private mappings that can be written to, in order of address.
    pub fn writable(&self) -> Vec<Range<u64>> {
        self.memory.writable()
    }

    /// Forgets what the window holds, so that it is read anew.
    pub fn refresh(&mut self) {
        self.window.clear();
    }

    /// The word at `address`.
    pub fn word(&mut self, address: u64) -> Result<u64, Broken> {
        if !address.is_multiple_of(8) {
            return Err(Broken::Misaligned(address));
        }
        // A list that runs in a circle within the window must end, too.
        self.left = self.left.checked_sub(8).ok_or(Broken::Limit)?;
        let at = match self.place(address) {
            Some(at) => at,
            None => {
                self.fill(address)?;
                self.place(address).ok_or(Broken::Unreadable(address))?
            }
        };
        let bytes = self.window.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u64::from_ne_bytes).ok_or(Broken::Unreadable(address))
    }

    /// `count` words from `address`.
    pub fn words(&mut self, address: u64, count: u64) -> Result<Vec<u64>, Broken> {
        (0..count).map(|i| self.word(offset(address, i * 8)?)).collect()
    }

    /// Where the word at `address` lies in the window.
    fn place(&self, address: u64) -> Option<usize> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        (at.checked_add(8)? <= self.window.len()).then_some(at)
    }

    fn fill(&mut self, address: u64) -> Result<(), Broken> {
        let start = address & !(PAGE - 1);
        let follows = !self.window.is_empty() && start == self.start.wrapping_add(self.window.len() as u64);
        let sizes = if follows { &[WINDOW, PAGE][..] } else { &[PAGE][..] };
        for &size in sizes {
            self.left = self.left.checked_sub(size).ok_or(Broken::Limit)?;
            self.window.resize(size as usize, 0);
            if self.memory.read(start, &mut self.window).is_ok() {
                self.start = start;
                return Ok(());
            }
        }
        self.window.clear();
        Err(Broken::Unreadable(address))
    }
}

/// `address + by`.
pub fn offset(address: u64, by: u64) -> Result<u64, Broken> {
    address.checked_add(by).ok_or(Broken::Unreadable(address))
}
