//! Whether the code that a process runs is its file's, with our probes in it. Sites are chosen by the file; where somebody
//! has changed the code in memory (live patches, instrumentation, text relocations), one could lie in the middle of
//! another instruction, and the kernel would put the file's byte back when the probe goes. And the kernel places nothing,
//! and says nothing, in code that is writable (`valid_vma`, kernel/events/uprobes.c, 6.18).

use super::mapped_code::{MappedCode, Stretch};
use crate::{
    probes::{plan::FilePlan, probe::Probe, refusal::Refusal},
    process::{
        maps::Mapping,
        object::{FileId, Object, Opened},
        one_inode::are_one_below,
        procfs::{self, ProcError},
    },
};
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// `int3`: a probe, another tracer's or a debugger's breakpoint, which only hides a byte.
const BREAKPOINT: u8 = 0xcc;

/// `call rel32`: what Linux from 6.18 makes of a probe on a long nop.
const CALL: u8 = 0xe8;

/// `nopl 0x0(%rax,%rax,1)`.
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// What code is compared with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The file's bytes.
    File,
    /// The same, and a breakpoint at each site.
    Probes,
}

/// Whether a process lacks the breakpoint of any of a file's sites, as one of its threads sees it.
pub fn lacks_breakpoints(thread: u32, plan: &FilePlan) -> bool {
    let Some(code) = MappedCode::now(thread) else { return false };
    let is_missing = |offset: u64| {
        let mut stretches = code.stretches(&plan.file, offset..offset + 1);
        stretches.any(|stretch| stretch.in_memory.iter().any(|byte| !is_probe(*byte)))
    };
    plan.probes.iter().any(|probe| probe.sites.iter().any(|site| is_missing(site.offset)))
}

/// What is not as expected in the code of a process as it is now.
pub fn fault_now<'a>(pid: u32, mut plans: impl Iterator<Item = &'a FilePlan>) -> Option<Refusal> {
    let code = MappedCode::now(procfs::thread_with_memory(pid))?;
    plans.find_map(|plan| fault_in(&code, plan, Expected::Probes))
}

/// What is not as expected in a process's code of the files of `plans`. Nothing can be said of what cannot be read.
pub fn fault(thread: u32, mappings: &[Mapping], plans: &[&FilePlan], expected: Expected) -> Option<Refusal> {
    let find = |code: &MappedCode<'_>| plans.iter().find_map(|plan| fault_in(code, plan, expected));
    find(&MappedCode::open(thread, mappings)?)?;
    // Not what another image has there, which the process has replaced its own with since.
    find(&MappedCode::now(thread)?)
}

fn fault_in(code: &MappedCode<'_>, plan: &FilePlan, expected: Expected) -> Option<Refusal> {
    let path = || plan.file.path.clone();
    plan.code.iter().flat_map(|range| code.stretches(&plan.file, range.clone())).find_map(|stretch| {
        if let Some(at) = changed_at(&stretch.in_file, &stretch.in_memory) {
            return Some(Refusal::CodeChanged { path: path(), offset: stretch.offset + at as u64 });
        }
        let mut sites =
            plan.probes.iter().flat_map(|probe| probe.sites.iter().map(move |s| (probe, s.offset)));
        let is_missing =
            |(_, offset): &(&Probe, u64)| byte_at(&stretch, *offset).is_some_and(|byte| !is_probe(byte));
        let (probe, offset) = sites.find(is_missing).filter(|_| expected == Expected::Probes)?;
        Some(Refusal::NoBreakpoint { path: path(), symbol: probe.symbol.clone(), offset })
    })
}

fn is_probe(byte: u8) -> bool {
    matches!(byte, BREAKPOINT | CALL)
}

fn byte_at(stretch: &Stretch, offset: u64) -> Option<u8> {
    stretch.in_memory.get(usize::try_from(offset.checked_sub(stretch.offset)?).ok()?).copied()
}

/// Whether all processes that map a file have its code about `offsets` as the file has it. `false` also where that cannot be
/// told, unless we may not look at all.
pub fn is_the_same_everywhere(file: &Object, offsets: &[u64]) -> bool {
    /// Longer than that it takes without.
    const AT_MOST: Duration = Duration::from_millis(500);
    let (ranges, began) = (ranges_about(offsets), Instant::now());
    let is_the_same = |pid| began.elapsed() < AT_MOST && is_the_same_in(pid, file, &ranges);
    procfs::all_pids().is_ok_and(|pids| pids.into_iter().all(is_the_same))
}

fn is_the_same_in(pid: u32, file: &Object, ranges: &[Range<u64>]) -> bool {
    let thread = procfs::thread_with_memory(pid);
    let mappings = match procfs::read_maps(thread) {
        Ok(mappings) => mappings,
        // What even root may not look into is taken for untouched.
        Err(ProcError::Denied { .. }) => return true,
        Err(error) => return error.is_gone(),
    };
    let mappings: Vec<Mapping> =
        mappings.into_iter().filter(|m| m.permissions.execute && is_of(thread, m, file)).collect();
    let maps = |range: &Range<u64>| {
        let has = |m: &Mapping| m.offset < range.end && range.start < m.offset + (m.end - m.start);
        mappings.iter().any(has)
    };
    let mut mapped = ranges.iter().filter(|range| maps(range)).peekable();
    if mapped.peek().is_none() {
        return true;
    }
    // A debugger's breakpoint looks like a probe's, and would go with it.
    if procfs::read_status(pid).is_ok_and(|status| status.tracer_pid != 0) {
        return false;
    }
    let Some(code) = MappedCode::open(thread, &mappings) else { return !procfs::exists(pid) };
    mapped.all(|range| {
        let mut stretches = code.stretches(file, range.clone()).peekable();
        stretches.peek().is_some()
            && stretches.all(|stretch| changed_at(&stretch.in_file, &stretch.in_memory).is_none())
    })
}

/// Whether a mapping is of `file`, and not of another one of its name, as containers have.
fn is_of(thread: u32, mapping: &Mapping, file: &Object) -> bool {
    if !file.is_behind(mapping) {
        return false;
    }
    let FileId { dev, inode } = file.id();
    if mapping.inode == inode && mapping.dev == (libc::major(dev), libc::minor(dev)) {
        return true;
    }
    let mapped = Opened::behind(thread, mapping).and_then(Object::read);
    mapped.map_or(true, |mapped| mapped.id() == file.id() || are_one_below(&mapped, file))
}

/// What lies about `offsets`, which are in order: few ranges, as each costs a look into each process.
fn ranges_about(offsets: &[u64]) -> Vec<Range<u64>> {
    const ABOUT: u64 = 16;
    const APART: u64 = 4096;
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for offset in offsets {
        let end = offset.saturating_add(ABOUT);
        match ranges.last_mut() {
            Some(last) if *offset < last.end + APART => last.end = end,
            _ => ranges.push(offset.saturating_sub(ABOUT)..end),
        }
    }
    ranges
}

/// The functions of files at whose probe sites a process has a breakpoint that the file does not have.
pub fn occupied(thread: u32, mappings: &[Mapping], plans: &[FilePlan]) -> Vec<String> {
    // Unreadable: then nothing can be said, and probes are placed as for any other process.
    let Some(code) = MappedCode::open(thread, mappings) else { return Vec::new() };
    plans.iter().flat_map(|plan| occupied_in(&code, plan)).collect()
}

fn occupied_in(code: &MappedCode<'_>, plan: &FilePlan) -> Vec<String> {
    let is_occupied = |offset: u64| {
        let mut stretches = code.stretches(&plan.file, offset..offset + 1);
        stretches.any(|byte| byte.in_memory == [BREAKPOINT] && byte.in_file != [BREAKPOINT])
    };
    let is_occupied = |probe: &&Probe| probe.sites.iter().any(|site| is_occupied(site.offset));
    let probes = plan.probes.iter().filter(is_occupied);
    probes.map(|probe| probe.symbol.clone()).collect()
}

/// Where the code differs, if not by breakpoints and what the kernel makes of probes.
fn changed_at(file: &[u8], mapped: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < file.len().min(mapped.len()) {
        if file[at..].starts_with(&NOP5) && is_probe(mapped[at]) {
            at += NOP5.len();
            continue;
        }
        if file[at] != mapped[at] && mapped[at] != BREAKPOINT {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::object::Opened;
    use std::{fs, os::fd::AsRawFd as _, ptr};

    const CODE: [u8; 10] = [0x53, 0x48, 0x89, 0xfb, 0x0f, 0x1f, 0x44, 0x00, 0x00, 0xc3];

    #[test]
    fn breakpoints_and_probed_nops_are_no_change() {
        assert_eq!(changed_at(&CODE, &CODE), None);
        let mut mapped = CODE;
        mapped[0] = 0xcc;
        assert_eq!(changed_at(&CODE, &mapped), None);
        mapped[4..9].copy_from_slice(&[0xe8, 1, 2, 3, 4]);
        assert_eq!(changed_at(&CODE, &mapped), None);
    }

    #[test]
    fn what_lies_near_is_looked_at_together() {
        assert_eq!(ranges_about(&[5, 100, 4000, 9000]), [0..4016, 8984..9016]);
        assert_eq!(ranges_about(&[]), []);
    }

    #[test]
    fn a_patch_of_any_process_is_seen() {
        // A file that nobody else maps.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("true");
        fs::copy("/bin/true", &path).expect("a copy");
        let file = Object::read(Opened::at(&path).expect("opened")).expect("an ELF file");
        let load = file.elf.loads.iter().find(|load| load.executable).expect("code");
        let (start, length) = (load.offset & !4095, 4096);
        let at = load.offset + 64;
        assert!(is_the_same_everywhere(&file, &[at]));

        let (code, execute) = (file.file().as_raw_fd(), libc::PROT_READ | libc::PROT_EXEC);
        // SAFETY: a mapping of its own, which nothing executes.
        let mapped =
            unsafe { libc::mmap(ptr::null_mut(), length, execute, libc::MAP_PRIVATE, code, start as i64) };
        assert_ne!(mapped, libc::MAP_FAILED);
        assert!(is_the_same_everywhere(&file, &[at]));
        // SAFETY: as above; the byte is within.
        unsafe {
            assert_eq!(libc::mprotect(mapped, length, libc::PROT_READ | libc::PROT_WRITE), 0);
            let byte = mapped.cast::<u8>().add((at - start) as usize);
            byte.write(!byte.read());
            assert_eq!(libc::mprotect(mapped, length, execute), 0);
        }
        assert!(!is_the_same_everywhere(&file, &[at]));
        // SAFETY: nobody uses it any more.
        assert_eq!(unsafe { libc::munmap(mapped, length) }, 0);
        assert!(is_the_same_everywhere(&file, &[at]));
    }

    #[test]
    fn a_patch_is_a_change() {
        let mut mapped = CODE;
        mapped[..2].copy_from_slice(&[0xeb, 0x10]);
        assert_eq!(changed_at(&CODE, &mapped), Some(0));
        mapped = CODE;
        mapped[9] = 0x90;
        assert_eq!(changed_at(&CODE, &mapped), Some(9));
    }
}
