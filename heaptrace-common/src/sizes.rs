//! Allocations of a site by size, kept in two bytes a class: four classes share a word. A class's part of it is counted up, and
//! whenever that has come to another [`CARRY`], as much is taken out again and carried to a table of those that carried: few
//! sites ever come that far. The lower fifteen bits of a part are right at any time, how much of it is still to be taken out
//! or not.

/// Size classes of a site's histogram. Class 0 holds size 0, class k sizes in `[2^(k-1), 2^k)`, the last one
/// (1 GiB and more) everything else. A power of two, so that the BPF side can mask an index.
pub const SIZE_CLASSES: usize = 32;

/// Classes in a word.
const PARTS: usize = 4;
const PART_BITS: u32 = u64::BITS / PARTS as u32;

/// Words of a site. A power of two, for the same reason.
pub const WORDS: usize = SIZE_CLASSES / PARTS;

/// What is carried at a time. A part holds twice as much: so many calls of one class and site may come before what is to be
/// taken out is. Where the thread that is to do that gets no processor for longer, the next class counts one too many until it
/// does.
pub const CARRY: u64 = 1 << (PART_BITS - 1);

/// Entries of the table of what was carried, a class of a site each. What finds no room is missing in the sizes, and the site's
/// count tells how much.
pub const CARRIED: u32 = 1 << 13;

/// A key there; the value is how often.
#[inline(always)]
pub const fn carried_key(site: u32, class: u32) -> u64 {
    (site as u64) << 32 | class as u64
}

/// The site and the class of a key.
pub const fn carried_of(key: u64) -> (u32, u32) {
    ((key >> 32) as u32, key as u32)
}

/// Which word a class is in, and where in it.
#[inline(always)]
pub const fn place(class: u32) -> (usize, u32) {
    (class as usize / PARTS, class % PARTS as u32 * PART_BITS)
}

/// Whether one more at `shift` comes to another [`CARRY`].
#[inline(always)]
pub const fn is_to_carry(word: u64, shift: u32) -> bool {
    word >> shift & (CARRY - 1) == CARRY - 1
}

/// A class's count modulo [`CARRY`].
pub const fn count(words: &[u64; WORDS], class: u32) -> u64 {
    let (word, shift) = place(class);
    words[word] >> shift & (CARRY - 1)
}

/// The size class of `size`.
pub const fn size_class(size: u64) -> u32 {
    // A binary search: BPF has no count-leading-zeros instruction.
    let mut rest = size;
    let mut bits = 0;
    if rest >> 31 != 0 {
        return SIZE_CLASSES as u32 - 1;
    }
    if rest >> 16 != 0 {
        rest >>= 16;
        bits += 16;
    }
    if rest >> 8 != 0 {
        rest >>= 8;
        bits += 8;
    }
    if rest >> 4 != 0 {
        rest >>= 4;
        bits += 4;
    }
    if rest >> 2 != 0 {
        rest >>= 2;
        bits += 2;
    }
    if rest >> 1 != 0 {
        rest >>= 1;
        bits += 1;
    }
    bits + rest as u32
}

const _: () = assert!(WORDS.is_power_of_two() && SIZE_CLASSES.is_power_of_two());

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;

    #[test]
    fn size_class_is_the_bit_length_up_to_the_last_class() {
        for size in (0..4096).chain([u64::from(u32::MAX), 1 << 30, (1 << 30) - 1, 1 << 40, u64::MAX]) {
            let bits = u64::BITS - size.leading_zeros();
            assert_eq!(size_class(size), bits.min(SIZE_CLASSES as u32 - 1), "size {size}");
        }
    }

    #[test]
    fn every_class_has_a_place_of_its_own() {
        let mut words = [0_u64; WORDS];
        for class in 0..SIZE_CLASSES as u32 {
            let (word, shift) = place(class);
            words[word] += u64::from(class + 1) << shift;
        }
        for class in 0..SIZE_CLASSES as u32 {
            assert_eq!(count(&words, class), u64::from(class + 1));
        }
    }

    /// As the BPF side does it, with what is to be taken out of a part taken out up to `late` calls later.
    fn counted(calls: &[u32], late: usize) -> [u64; SIZE_CLASSES] {
        let (mut words, mut carried) = ([0_u64; WORDS], [0_u64; SIZE_CLASSES]);
        let mut pending = std::collections::VecDeque::new();
        for class in calls {
            let (word, shift) = place(*class);
            if is_to_carry(words[word], shift) {
                carried[*class as usize] += 1;
                pending.push_back((word, CARRY << shift));
            }
            words[word] = words[word].wrapping_add(1 << shift);
            if pending.len() > late {
                let (word, part) = pending.pop_front().expect("one");
                words[word] = words[word].wrapping_sub(part);
            }
        }
        std::array::from_fn(|class| carried[class] * CARRY + count(&words, class as u32))
    }

    #[test]
    fn what_is_carried_and_what_is_left_are_all() {
        // Two neighbours, one of them ten times as often.
        let calls: std::vec::Vec<u32> = (0..400_000).map(|n| if n % 11 == 0 { 6 } else { 5 }).collect();
        for late in [0, 1] {
            let counted = counted(&calls, late);
            assert_eq!(counted[5] + counted[6], calls.len() as u64);
            assert_eq!(counted[6], calls.iter().filter(|class| **class == 6).count() as u64, "{late} late");
        }
    }
}
