//! The dynamic linker's own list of what it has loaded, in the order in which it searches for symbols: the executable, what was
//! preloaded, what is needed, what was opened since (`struct r_debug` and `struct link_map`: link.h, elf/link.h; musl's
//! ldso/dynlink.c has the same). All of it is the process's to write: nothing is believed but addresses, which are looked up
//! among its mappings, and there is a bound for each walk.

use super::{patience, procfs};
use std::{io, os::unix::fs::FileExt as _};

/// uapi/linux/auxvec.h
const AT_PHDR: u64 = 3;
const AT_PHENT: u64 = 4;
const AT_PHNUM: u64 = 5;

/// uapi/linux/elf.h
const PT_DYNAMIC: u32 = 2;
const PT_PHDR: u32 = 6;
const PHDR_BYTES: u64 = 56;
const DT_NULL: u64 = 0;
const DT_DEBUG: u64 = 21;

/// More than any program has, of each.
const MOST_HEADERS: u64 = 64;
const MOST_ENTRIES: u64 = 1024;
const MOST_FILES: usize = 1 << 16;

/// Addresses of the dynamic sections of what process `pid` has loaded, in the linker's order; `None` where it has no such list:
/// a static program, one that its linker has not come to yet, one that its linker was started with by hand.
pub fn dynamic_sections(pid: u32) -> Option<Vec<u64>> {
    let auxv = procfs::read(pid, "auxv").ok()?;
    let memory = procfs::open(pid, "mem").ok()?;
    let read = move |address, into: &mut [u8]| {
        memory.read_exact_at(into, address)?;
        patience::beat();
        Ok(())
    };
    patience::look(pid, move || sections(&auxv, &read)).ok().flatten()
}

/// Fills a buffer from an address.
type Read<'a> = &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>;

fn sections(auxv: &[u8], read: Read<'_>) -> Option<Vec<u64>> {
    let value = |wanted: u64| {
        let mut pairs = auxv.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..])));
        pairs.find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let (headers, count) = (value(AT_PHDR)?, value(AT_PHNUM)?);
    if value(AT_PHENT)? != PHDR_BYTES || count > MOST_HEADERS {
        return None;
    }
    let (mut dynamic, mut base) = (None, None);
    for index in 0..count {
        let mut header = [0; PHDR_BYTES as usize];
        read(headers.checked_add(index * PHDR_BYTES)?, &mut header).ok()?;
        let (kind, address) = (u32::from_le_bytes(header[..4].try_into().ok()?), number(&header[16..24]));
        match kind {
            PT_PHDR => base = Some(headers.wrapping_sub(address)),
            PT_DYNAMIC => dynamic = Some(address),
            _ => {}
        }
    }
    // Without PT_PHDR it lies where it says.
    let dynamic = dynamic?.wrapping_add(base.unwrap_or(0));
    let debug = debug_of(dynamic, read)?;
    let mut link = word(debug.checked_add(8)?, read)?;
    let mut found = Vec::new();
    while link != 0 {
        if found.len() >= MOST_FILES {
            return None;
        }
        found.push(word(link.checked_add(16)?, read)?);
        link = word(link.checked_add(24)?, read)?;
    }
    (!found.is_empty()).then_some(found)
}

/// Where the linker keeps `struct r_debug`, by the dynamic section of the program.
fn debug_of(dynamic: u64, read: Read<'_>) -> Option<u64> {
    for index in 0..MOST_ENTRIES {
        let mut entry = [0; 16];
        read(dynamic.checked_add(index * 16)?, &mut entry).ok()?;
        match number(&entry[..8]) {
            DT_NULL => return None,
            DT_DEBUG => return Some(number(&entry[8..])).filter(|debug| *debug != 0),
            _ => {}
        }
    }
    None
}

fn word(address: u64, read: Read<'_>) -> Option<u64> {
    let mut bytes = [0; 8];
    read(address, &mut bytes).ok()?;
    Some(u64::from_le_bytes(bytes))
}

/// Of eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::maps::Mapping;
    use proptest::prelude::*;

    #[test]
    fn this_process_has_the_program_first_and_libc_behind() {
        let sections = dynamic_sections(std::process::id()).expect("a list");
        let mappings: Vec<Mapping> = procfs::read_maps(std::process::id()).expect("mappings");
        let files: Vec<String> = sections
            .iter()
            .filter_map(|section| {
                let holds = |mapping: &&Mapping| (mapping.start..mapping.end).contains(section);
                let file = mappings.iter().find(holds)?.file()?;
                Some(file.display().to_string())
            })
            .collect();
        let exe = procfs::exe(std::process::id()).expect("a program");
        assert_eq!(files.first().map(String::as_str), exe.to_str(), "{files:?}");
        assert!(files.iter().any(|file| file.contains("libc.so")), "{files:?}");
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn a_list_that_never_ends_is_none() {
        // A program header at 0: PT_DYNAMIC at 0x100; there DT_DEBUG, 0x200; there, after the version, a link to 0x300.
        let mut memory = vec![0_u8; 0x400];
        let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &words(&[2, 0, 0x100]));
        put(0x100, &words(&[DT_DEBUG, 0x200]));
        put(0x200, &words(&[1, 0x300]));
        // Its next one is itself.
        put(0x300, &words(&[0, 0, 0x1234, 0x300]));
        let read = |address: u64, into: &mut [u8]| {
            let from = usize::try_from(address).map_err(io::Error::other)?;
            let bytes = from.checked_add(into.len()).and_then(|to| memory.get(from..to));
            into.copy_from_slice(bytes.ok_or_else(|| io::Error::other("not mapped"))?);
            Ok(())
        };
        let auxv = words(&[AT_PHDR, 0, AT_PHENT, PHDR_BYTES, AT_PHNUM, 1, 0, 0]);
        assert_eq!(sections(&auxv, &read), None);
        let ends = |address: u64, into: &mut [u8]| {
            read(address, into)?;
            if address == 0x318 {
                into.fill(0);
            }
            Ok(())
        };
        assert_eq!(sections(&auxv, &ends), Some(vec![0x1234]));
    }

    proptest! {
        #[test]
        fn any_memory_is_walked_without_panic(auxv: Vec<u8>, bytes in prop::collection::vec(any::<u8>(), 64..512)) {
            let read = |address: u64, into: &mut [u8]| {
                for (at, byte) in into.iter_mut().enumerate() {
                    *byte = bytes[(address.wrapping_add(at as u64) % bytes.len() as u64) as usize];
                }
                Ok(())
            };
            let _ = sections(&auxv, &read);
            let _ = sections(&words(&[AT_PHDR, 0, AT_PHENT, PHDR_BYTES, AT_PHNUM, 8]), &read);
        }
    }
}
