//! The symbols that a stripped file keeps in itself, compressed: the section `.gnu_debugdata`, an ELF file in an xz stream, as
//! Fedora and its kin build all programs (gdb's manual, "MiniDebugInfo"). Of those that others made, no more is unpacked than
//! programs have.

use super::elf;
use object::ReadRef;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use xz4rust::{XzDecoder, XzReader};

const SECTION: &[u8] = b".gnu_debugdata";

/// The most bytes of the section. A browser's has some 6 MiB.
const MAX_PACKED: u64 = 16 << 20;

/// The most bytes of what is in it.
const MAX_UNPACKED: u64 = 64 << 20;

/// The most bytes of a dictionary: that of `xz -9`.
const MAX_DICTIONARY: usize = 64 << 20;

/// Bytes that are unpacked at a time.
const BUFFER: NonZeroUsize = NonZeroUsize::new(64 << 10).expect("is not 0");

/// Whether a file has such a section, whatever is in it.
pub fn is_there<'data, R: ReadRef<'data>>(data: R) -> bool {
    section(data).is_some()
}

/// The ELF file in a file's section; `None` where there is none, it is broken, or larger than any program's.
pub fn unpacked<'data, R: ReadRef<'data>>(data: R) -> Option<Vec<u8>> {
    let (offset, size) = section(data)?;
    let packed = data.read_bytes_at(offset, Some(size).filter(|size| *size <= MAX_PACKED)?).ok()?;
    unpack(packed, MAX_UNPACKED)
}

/// Offset and size.
fn section<'data, R: ReadRef<'data>>(data: R) -> Option<(u64, u64)> {
    let (header, endian) = elf::header(data).ok()?;
    let sections = header.sections(endian, data).ok()?;
    let (_, section) = sections.section_by_name(endian, SECTION)?;
    section.file_range(endian)
}

/// What an xz stream holds, if that is at most so many bytes.
fn unpack(packed: &[u8], most: u64) -> Option<Vec<u8>> {
    let decoder = XzDecoder::in_heap_with_alloc_dict_size(0, MAX_DICTIONARY);
    let reader = XzReader::new_with_buffer_size_and_decoder(Cursor::new(packed.to_vec()), BUFFER, decoder);
    let mut unpacked = Vec::new();
    reader.take(most + 1).read_to_end(&mut unpacked).ok()?;
    (unpacked.len() as u64 <= most).then_some(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::test_elf::TestElf;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"a symbol table";

    /// `xz` of it.
    const PACKED: &[u8] = &[
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46, 0x02, 0x00, 0x21, 0x01, 0x16,
        0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x0d, 0x61, 0x20, 0x73, 0x79, 0x6d, 0x62, 0x6f,
        0x6c, 0x20, 0x74, 0x61, 0x62, 0x6c, 0x65, 0x00, 0x00, 0x00, 0xd4, 0x44, 0x51, 0x97, 0xfb, 0xce, 0x06,
        0xc2, 0x00, 0x01, 0x26, 0x0e, 0x08, 0x1b, 0xe0, 0x04, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x04, 0x59, 0x5a,
    ];

    #[test]
    fn what_a_file_has_is_unpacked() {
        let file = TestElf { debug_data: Some(PACKED), ..TestElf::default() }.build();
        assert!(is_there(file.as_slice()));
        assert_eq!(unpacked(file.as_slice()).as_deref(), Some(TEXT));
        let without = TestElf::default().build();
        assert!(!is_there(without.as_slice()) && unpacked(without.as_slice()).is_none());
    }

    #[test]
    fn what_is_too_large_or_broken_is_not() {
        assert_eq!(unpack(PACKED, TEXT.len() as u64).as_deref(), Some(TEXT));
        assert_eq!(unpack(PACKED, TEXT.len() as u64 - 1), None);
        assert_eq!(unpack(&PACKED[..PACKED.len() - 1], 100), None);
        let mut damaged = PACKED.to_vec();
        damaged[30] ^= 1;
        assert_eq!(unpack(&damaged, 100), None);
        // A dictionary of 4 GiB.
        let mut greedy = PACKED.to_vec();
        greedy[16] = 40;
        let checksum = crc32fast::hash(&greedy[12..20]);
        greedy[20..24].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(unpack(&greedy, 100), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_without_panic(mut bytes: Vec<u8>, cut in 0..PACKED.len()) {
            let _ = unpack(&bytes, 1000);
            bytes.splice(..0, PACKED[..cut].iter().copied());
            let _ = unpack(&bytes, 1000);
        }
    }
}
