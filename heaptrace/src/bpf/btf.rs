//! Just enough of BTF to find the byte offset of a struct's member (Documentation/bpf/btf.rst).

/// Kinds that are looked at, and those whose extra data has to be skipped.
mod kind {
    pub const INT: u32 = 1;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const DECL_TAG: u32 = 17;
    pub const ENUM64: u32 = 19;
}

/// A type section, indexed. Offsets are into the bytes it was made of.
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: usize,
    /// Where each type begins; type 0 (void) has no place.
    types: Vec<usize>,
}

impl<'a> Btf<'a> {
    /// `None` if `bytes` are no little-endian BTF of version 1, or are cut short.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.get(..3)? != [0x9f, 0xeb, 1] {
            return None;
        }
        let header = word(bytes, 4)? as usize;
        let at = |field: usize| Some(word(bytes, field)? as usize);
        let (types_at, types_len, strings_at) = (at(8)?, at(12)?, at(16)?);
        let mut position = header.checked_add(types_at)?;
        let end = position.checked_add(types_len)?;
        let mut types = vec![0];
        while position < end {
            types.push(position);
            let info = word(bytes, position + 4)?;
            let count = (info & 0xffff) as usize;
            let extra = match info >> 24 & 0x1f {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
                kind::ENUM | kind::FUNC_PROTO => 8 * count,
                _ => 0,
            };
            position += 12 + extra;
        }
        Some(Self { bytes, strings: header.checked_add(strings_at)?, types })
    }

    /// Byte offset of `member` in `struct structure`, found in anonymous members too.
    pub fn member_offset(&self, structure: &str, member: &str) -> Option<u32> {
        let named = |position: &&usize| {
            word(self.bytes, **position + 4).is_some_and(|info| info >> 24 & 0x1f == kind::STRUCT)
                && self.name(**position) == Some(structure.as_bytes())
        };
        self.types.iter().skip(1).filter(named).find_map(|position| self.offset_in(*position, member, 0))
    }

    fn offset_in(&self, position: usize, member: &str, depth: u32) -> Option<u32> {
        // The kernel nests anonymous members a few levels deep; a cycle is damage.
        if depth > 8 {
            return None;
        }
        let info = word(self.bytes, position + 4)?;
        (0..(info & 0xffff) as usize).find_map(|index| {
            let entry = position + 12 + 12 * index;
            let mut bits = word(self.bytes, entry + 8)?;
            if info >> 31 != 0 {
                // With bit-fields in the struct, the upper byte is the field's size.
                bits &= 0x00ff_ffff;
            }
            match self.name(entry)? {
                name if name == member.as_bytes() => Some(bits / 8),
                b"" => {
                    let inner =
                        *self.types.get(word(self.bytes, entry + 4)? as usize).filter(|at| **at != 0)?;
                    let kind = word(self.bytes, inner + 4)? >> 24 & 0x1f;
                    let nested = kind == kind::STRUCT || kind == kind::UNION;
                    nested.then(|| self.offset_in(inner, member, depth + 1)).flatten().map(|at| at + bits / 8)
                }
                _ => None,
            }
        })
    }

    /// The name that the first word at `position` refers to.
    fn name(&self, position: usize) -> Option<&'a [u8]> {
        let start = self.strings.checked_add(word(self.bytes, position)? as usize)?;
        self.bytes.get(start..)?.split(|byte| *byte == 0).next()
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// struct outer { int a; struct { int b; int c; }; } with names at 1, 5, 7, 9, 11.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0a\0b\0c\0outer\0";
        let types: Vec<u32> = [
            vec![1, kind::INT << 24, 4, 32],
            vec![0, kind::STRUCT << 24 | 2, 8, 7, 1, 0, 9, 1, 32],
            vec![11, kind::STRUCT << 24 | 2, 12, 5, 1, 0, 0, 2, 32],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for field in [24, 0, types.len() as u32, types.len() as u32, strings.len() as u32] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_in_anonymous_structs_too() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("BTF");
        let offsets = ["a", "b", "c", "d"].map(|member| btf.member_offset("outer", member));
        assert_eq!(offsets, [Some(0), Some(4), Some(8), None]);
        assert_eq!(btf.member_offset("inner", "a"), None);
    }

    proptest! {
        #[test]
        fn damage_is_no_panic(at in 0usize..140, value: u8, length in 0usize..200) {
            let mut bytes = sample();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(length);
            if let Some(btf) = Btf::parse(&bytes) {
                let _ = btf.member_offset("outer", "c");
            }
        }
    }
}
