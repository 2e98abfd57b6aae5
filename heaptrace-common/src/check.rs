//! Verification of probe sites in place. What was proven of a function's code rests on what its callees keep of the
//! calling convention; for its first calls the function's entry is probed, too, and each site is held to what the entry
//! saw. The programs that count have no part in it.

/// Functions, of all files, that can be under verification at one time.
pub const CHECKS: u32 = 512;

/// Calls between entry and site that are kept.
pub const CHECKED_CALLS: u32 = 4096;

/// What was seen of one function.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Which opening this is, of all checks' openings, while hits count; 0 while they do not.
    pub open: u64,
    /// 1 if before each block lies its size, as in glibc (malloc/malloc.c, `struct malloc_chunk`).
    pub glibc: u64,
    /// Calls that passed the entry.
    pub calls: u64,
    /// Of them those that came to a site.
    pub seen: u64,
    /// Sites where another size lay than the entry had,
    pub other_size: u64,
    /// another return address, or a stack pointer where it does not lie,
    pub other_return: u64,
    /// or a result that no allocator gives.
    pub no_result: u64,
    /// Sites that were passed without the entry, or twice.
    pub unannounced: u64,
    /// Calls after which another one began at the same place on the stack, without a site.
    pub left: u64,
    /// Calls that found no place: their sites seem unannounced.
    pub not_kept: u64,
}

/// A call between entry and site.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckedCall {
    /// [`key`]; 0 for a free place.
    pub key: u64,
    pub return_address: u64,
    pub size: u64,
}

/// What tells a call from all others under way: of its check's opening number `opening` of all. A call that was kept
/// before the check was closed would else be taken for a later one at the same place on the stack.
#[inline(always)]
pub const fn key(process: u32, entry_sp: u64, opening: u64) -> u64 {
    let key = crate::live::packed(process, entry_sp) ^ opening.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    if key == 0 || key == BEING_MADE { 1 } else { key }
}

/// The key of a place that is claimed and not filled yet.
pub const BEING_MADE: u64 = u64::MAX;

/// Whether a block of `size` bytes at an address can have this word before it: at least the block's own 8 bytes more than
/// were asked for, without the three low bits, which say other things.
#[inline(always)]
pub const fn is_chunk(word: u64, size: u64) -> bool {
    (word & !7) >= size.saturating_add(8)
}

const _: () = {
    assert!(size_of::<Check>() == 80);
    assert!(size_of::<CheckedCall>() == 24);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_different_openings_and_places_have_different_keys() {
        let keys = [key(0, 0x7ff0, 1), key(0, 0x7ff8, 1), key(1, 0x7ff0, 1), key(0, 0x7ff0, 2)];
        for (n, one) in keys.iter().enumerate() {
            assert!(*one != 0 && !keys[n + 1..].contains(one));
        }
    }

    #[test]
    fn a_chunk_has_room_for_its_block() {
        // malloc(24) of glibc: 32 bytes, the one before in use.
        assert!(is_chunk(0x21, 24) && !is_chunk(0x21, 25));
        assert!(!is_chunk(0, 0) && !is_chunk(u64::MAX, u64::MAX));
    }
}
