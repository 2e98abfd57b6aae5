//! Executable mappings of the whole machine as the kernel makes them, from perf events: short-lived processes
//! and unloaded libraries are known even when nobody could read their /proc any more.

use super::system;
use perf_event::{Builder, Clock, SampleFlag, Sampler, events::Software};
use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt as _, path::PathBuf};

/// What happened to a process's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The image is about to be replaced by an exec: what follows belongs to the new one.
    Exec,
    /// A file, or memory without one, was mapped executable.
    Mapped { start: u64, end: u64, offset: u64, dev: (u32, u32), inode: u64, path: Option<PathBuf> },
}

/// A change, and when and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeChange {
    pub pid: u32,
    /// `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    pub change: Change,
}

/// Bytes of ring buffer for each CPU: some thousand mappings between two reads.
const RING_BYTES: usize = 512 << 10;

/// One event a CPU. Dropping it ends the watch.
pub struct MappingWatch {
    samplers: Vec<Sampler>,
    /// Changes that came while the rings were read: an earlier one of the same process may lie in a ring that had been read
    /// already, as a process changes its CPU between an exec's beginning and what that maps.
    held: Vec<CodeChange>,
    lost: u64,
}

impl MappingWatch {
    /// Watches all CPUs that are online.
    pub fn start() -> io::Result<Self> {
        let samplers = online_cpus()?
            .into_iter()
            .map(|cpu| {
                Builder::new(Software::DUMMY)
                    .any_pid()
                    .one_cpu(cpu)
                    .mmap(true)
                    .mmap2(true)
                    .comm(true)
                    .comm_exec(true)
                    .sample_id_all(true)
                    .sample(SampleFlag::TIME)
                    .clockid(Clock::MONOTONIC)
                    .enabled(true)
                    .build()?
                    .sampled(RING_BYTES)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { samplers, held: Vec::new(), lost: 0 })
    }

    /// What happened since the last call and before this one, at `now_ns` (`CLOCK_MONOTONIC`), in order of time.
    pub fn read(&mut self, now_ns: u64) -> Vec<CodeChange> {
        let mut changes = std::mem::take(&mut self.held);
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.next_record() {
                match decode(record.ty(), record.misc(), &record.to_contiguous()) {
                    Decoded::Change(change) => changes.push(change),
                    Decoded::Lost(count) => self.lost += count,
                    Decoded::Nothing => {}
                }
            }
        }
        self.held = later_than(now_ns, &mut changes);
        changes
    }

    /// Changes that found no room in a ring.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

/// Puts changes in order of time, and takes out those that are later.
fn later_than(time_ns: u64, changes: &mut Vec<CodeChange>) -> Vec<CodeChange> {
    changes.sort_by_key(|change| change.time_ns);
    changes.split_off(changes.partition_point(|change| change.time_ns <= time_ns))
}

/// The numbers of the online CPUs: `0-3,8`.
fn online_cpus() -> io::Result<Vec<usize>> {
    let list = system::read_text("/sys/devices/system/cpu/online")?;
    let broken = || io::Error::new(io::ErrorKind::InvalidData, format!("online CPUs: {list}"));
    let mut cpus = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().map_err(|_| broken());
        cpus.extend(number(first)?..=number(last)?);
    }
    Ok(cpus)
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Change(CodeChange),
    Lost(u64),
    Nothing,
}

/// include/uapi/linux/perf_event.h
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_COMM: u32 = 3;
const PERF_RECORD_MMAP2: u32 = 10;
const PERF_RECORD_MISC_COMM_EXEC: u16 = 1 << 13;

/// Decodes one record's body, which ends in its time (`sample_id_all` with `PERF_SAMPLE_TIME` only).
pub(crate) fn decode(kind: u32, misc: u16, body: &[u8]) -> Decoded {
    decode_fields(kind, misc, body).unwrap_or(Decoded::Nothing)
}

fn decode_fields(kind: u32, misc: u16, body: &[u8]) -> Option<Decoded> {
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let long = |at: usize| Some(u64::from_ne_bytes(body.get(at..at + 8)?.try_into().ok()?));
    let time_at = body.len().checked_sub(8)?;
    let change = |change| -> Option<Decoded> {
        Some(Decoded::Change(CodeChange { pid: word(0)?, time_ns: long(time_at)?, change }))
    };
    match kind {
        // id, lost
        PERF_RECORD_LOST => Some(Decoded::Lost(long(8)?)),
        PERF_RECORD_COMM if misc & PERF_RECORD_MISC_COMM_EXEC != 0 => change(Change::Exec),
        // pid, tid, addr, len, pgoff, maj, min, ino, ino_generation, prot, flags, filename
        PERF_RECORD_MMAP2 => {
            let name = body.get(64..time_at)?.split(|byte| *byte == 0).next()?;
            let path = (name != b"//anon").then(|| PathBuf::from(OsStr::from_bytes(name)));
            let (start, length) = (long(8)?, long(16)?);
            change(Change::Mapped {
                start,
                end: start.checked_add(length)?,
                offset: long(24)?,
                dev: (word(32)?, word(36)?),
                inode: long(40)?,
                path,
            })
        }
        _ => Some(Decoded::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mmap2(name: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend([77u32, 78].map(u32::to_ne_bytes).concat());
        body.extend([0x1000u64, 0x2000, 0x400].map(u64::to_ne_bytes).concat());
        body.extend([8u32, 1].map(u32::to_ne_bytes).concat());
        body.extend([99u64, 1].map(u64::to_ne_bytes).concat());
        body.extend([5u32, 2].map(u32::to_ne_bytes).concat());
        body.extend(name);
        body.resize(64 + (name.len() + 8) / 8 * 8, 0);
        body.extend(123u64.to_ne_bytes());
        body
    }

    #[test]
    fn a_mapping_is_decoded() {
        let path = Some(PathBuf::from("/lib/x.so"));
        let change =
            Change::Mapped { start: 0x1000, end: 0x3000, offset: 0x400, dev: (8, 1), inode: 99, path };
        let expected = CodeChange { pid: 77, time_ns: 123, change };
        assert_eq!(decode(PERF_RECORD_MMAP2, 2, &mmap2(b"/lib/x.so")), Decoded::Change(expected));
    }

    #[test]
    fn anonymous_memory_has_no_path() {
        let Decoded::Change(CodeChange { change: Change::Mapped { path, .. }, .. }) =
            decode(PERF_RECORD_MMAP2, 2, &mmap2(b"//anon"))
        else {
            panic!("a mapping")
        };
        assert_eq!(path, None);
    }

    #[test]
    fn only_an_exec_is_a_change_of_name_that_matters() {
        let mut body = mmap2(b"");
        body.truncate(40);
        assert!(matches!(decode(PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC, &body), Decoded::Change(_)));
        assert_eq!(decode(PERF_RECORD_COMM, 0, &body), Decoded::Nothing);
    }

    #[test]
    fn what_came_meanwhile_waits_for_what_came_before_it() {
        let at = |time_ns| CodeChange { pid: 7, time_ns, change: Change::Exec };
        let mut changes = vec![at(12), at(8), at(11), at(10)];
        let held = later_than(10, &mut changes);
        assert_eq!((changes, held), (vec![at(8), at(10)], vec![at(11), at(12)]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_without_panic(kind in 0u32..20, misc: u16, body: Vec<u8>) {
            decode(kind, misc, &body);
        }
    }
}
