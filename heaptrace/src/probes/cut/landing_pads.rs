//! The table of a function's calls by which the C++ unwinder finds where an exception goes on (the language-specific
//! data area of the Itanium C++ ABI, exception handling level II, as gcc's unwind-pe.h encodes it).

use std::ops::Range;

/// Calls whose exceptions go on at the pad.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    pub calls: Range<u64>,
    pub pad: u64,
}

/// The most call sites of a function: ten times what any allocator has.
const MAX_SITES: usize = 4096;

const OMITTED: u8 = 0xff;

/// Reads the table, which begins at the first byte, of the function at `start`. Call sites without a pad are left
/// out. `None` where it makes no sense.
pub fn read(bytes: &[u8], start: u64) -> Option<Vec<CallSite>> {
    let mut reader = Reader(bytes);
    let base = match reader.byte()? {
        OMITTED => start,
        // Relative to places that are not known here.
        _ => return None,
    };
    if reader.byte()? != OMITTED {
        reader.unsigned()?;
    }
    let encoding = reader.byte()?;
    let length = usize::try_from(reader.unsigned()?).ok()?;
    let mut table = Reader(reader.0.get(..length)?);
    let mut sites = Vec::new();
    while !table.0.is_empty() {
        let (from, length, pad) =
            (table.encoded(encoding)?, table.encoded(encoding)?, table.encoded(encoding)?);
        table.unsigned()?;
        if pad != 0 {
            let from = start.checked_add(from)?;
            sites.push(CallSite { calls: from..from.checked_add(length)?, pad: base.checked_add(pad)? });
        }
        if sites.len() > MAX_SITES {
            return None;
        }
    }
    Some(sites)
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn fixed<const N: usize>(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_at_checked(N)?;
        self.0 = rest;
        let mut word = [0; 8];
        word[..N].copy_from_slice(bytes);
        Some(u64::from_le_bytes(word))
    }

    /// `DW_EH_PE_*`: uleb128, udata2, udata4, udata8, and the signed forms of what is never negative here.
    fn encoded(&mut self, encoding: u8) -> Option<u64> {
        match encoding {
            0x01 => self.unsigned(),
            0x02 | 0x0a => self.fixed::<2>(),
            0x03 | 0x0b => self.fixed::<4>(),
            0x00 | 0x04 | 0x0c => self.fixed::<8>(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn call_sites_with_a_pad_are_read_and_others_left_out() {
        // gcc's form: no base, types at +9, uleb128, 8 bytes of table.
        let table = [0xff, 0x9b, 0x09, 0x01, 0x08, 0x10, 0x05, 0, 0, 0x20, 0x07, 0xb0, 0x01, 0x01];
        // The second site is 4 fields of 5 bytes.
        let table = [&table[..4], &[0x09], &table[5..]].concat();
        let sites = read(&table, 0x1000).expect("a table");
        assert_eq!(sites, [CallSite { calls: 0x1020..0x1027, pad: 0x10b0 }]);
    }

    #[test]
    fn a_table_that_breaks_off_is_none() {
        assert_eq!(read(&[0xff, 0xff, 0x01, 0x04, 0x10, 0x05], 0), None);
        assert_eq!(read(&[0x1b, 0, 0, 0, 0], 0), None);
        assert_eq!(read(&[], 0), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>, start: u64) {
            let _ = read(&bytes, start);
        }
    }
}
