//! Which pages of a process's private memory without a file are resident, from /proc/PID/pagemap, held against what
//! smaps counts.

use crate::{
    model::Extent,
    process::pagemap::{PAGE, PageMap, zero_frame},
};
use std::{io, ops::Range};

/// The most pages that are looked up for one process: 64 GiB of addresses, 128 MiB of pagemap, part of a second.
const MOST_PAGES: u64 = 16 << 20;

/// A mapping, and which of its pages are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    /// As smaps has it.
    resident_bytes: u64,
    /// A bit for each page; `None` if they were not looked up.
    present: Option<Vec<u64>>,
    present_count: u64,
}

/// What is resident of some mappings, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages(Vec<Piece>);

impl Pages {
    /// Looks the mappings `of` process `pid` up: their addresses, and their resident bytes by smaps.
    pub fn read(pid: u32, of: &[(Range<u64>, u64)]) -> Self {
        let file = PageMap::open(pid);
        let zero = zero_frame();
        let mut left = MOST_PAGES;
        let pieces = of.iter().map(|(range, resident_bytes)| {
            let pages = (range.end - range.start) / PAGE;
            let affordable = *resident_bytes > 0 && pages <= left;
            let present = file.as_ref().ok().filter(|_| affordable).and_then(|file| {
                left -= pages;
                bits(file, range, zero).ok()
            });
            Piece::new(range, *resident_bytes, present)
        });
        Self(pieces.collect())
    }

    /// What of `range` is resident, and whether that is known and not a share of its mapping's.
    pub fn resident(&self, range: Range<u64>) -> (u64, bool) {
        let (mut bytes, mut exact) = (0, true);
        let from = self.0.partition_point(|piece| piece.end <= range.start);
        for piece in self.0[from..].iter().take_while(|piece| piece.start < range.end) {
            let (start, end) = (range.start.max(piece.start), range.end.min(piece.end));
            let (part, known) = piece.resident(start, end);
            bytes += part;
            exact &= known;
        }
        (bytes, exact)
    }

    /// `range`, and what of it is resident.
    pub fn extent(&self, range: Range<u64>) -> Extent {
        let virtual_bytes = range.end.saturating_sub(range.start);
        Extent { virtual_bytes, resident_bytes: self.resident(range).0 }
    }

    /// Whether the page at `address` is resident; not if it was not looked up.
    pub fn holds(&self, address: u64) -> bool {
        let from = self.0.partition_point(|piece| piece.end <= address);
        self.0.get(from).is_some_and(|piece| piece.start <= address && piece.is_present(address))
    }

    /// The mappings whose pages were looked up.
    pub fn looked_up(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().filter(|piece| piece.present.is_some()).map(|piece| piece.start..piece.end)
    }

    #[cfg(test)]
    pub fn of_bits(range: Range<u64>, resident_bytes: u64, present: Vec<u64>) -> Self {
        Self(vec![Piece::new(&range, resident_bytes, Some(present))])
    }
}

impl Piece {
    fn new(range: &Range<u64>, resident_bytes: u64, present: Option<Vec<u64>>) -> Self {
        let present_count =
            present.iter().flatten().fold(0, |sum: u64, word| sum + u64::from(word.count_ones()));
        Self { start: range.start, end: range.end, resident_bytes, present, present_count }
    }

    fn is_present(&self, address: u64) -> bool {
        let page = (address - self.start) / PAGE;
        let word = self.present.as_ref().and_then(|present| present.get((page / 64) as usize));
        word.is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// Pages from number `from` up to `to` that are present.
    fn count(present: &[u64], from: u64, to: u64) -> u64 {
        let mut count = 0;
        let mut page = from;
        while page < to {
            let next = to.min((page / 64 + 1) * 64);
            let mask = (u64::MAX >> (64 - (next - page))) << (page % 64);
            count +=
                present.get((page / 64) as usize).map_or(0, |word| u64::from((word & mask).count_ones()));
            page = next;
        }
        count
    }

    fn resident(&self, start: u64, end: u64) -> (u64, bool) {
        if self.resident_bytes == 0 || start >= end {
            return (0, true);
        }
        let share = |part: u64, whole: u64| {
            let bytes = u128::from(part) * u128::from(self.resident_bytes) / u128::from(whole.max(1));
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        let Some(present) = &self.present else {
            return (share(end - start, self.end - self.start), false);
        };
        let (first, last) = ((start - self.start) / PAGE, (end - 1 - self.start) / PAGE);
        let mut bytes = Self::count(present, first, last + 1) * PAGE;
        // Of the pages at both ends only a part lies in the range.
        if self.is_present(start) {
            bytes -= (start - self.start) % PAGE;
        }
        if self.is_present(end - 1) {
            bytes -= PAGE - 1 - (end - 1 - self.start) % PAGE;
        }
        // More are present than smaps counts: zero pages that could not be told (huge ones, or without their number), or
        // the process has grown between.
        let whole = self.present_count * PAGE;
        if whole > self.resident_bytes { (share(bytes, whole), false) } else { (bytes, true) }
    }
}

/// For each page of `range` whether it is present, and not the zero page.
fn bits(pagemap: &PageMap, range: &Range<u64>, zero: Option<u64>) -> io::Result<Vec<u64>> {
    let count = (range.end - range.start) / PAGE;
    let mut bits = vec![0_u64; count.div_ceil(64) as usize];
    let mut page = 0;
    pagemap.read(range, |entry| {
        if entry.is_present() && (zero.is_none() || entry.frame() != zero) {
            bits[page / 64] |= 1 << (page % 64);
        }
        page += 1;
    })?;
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use memmap2::MmapMut;
    use proptest::prelude::*;

    #[test]
    fn parts_of_pages_count_as_parts() {
        // Pages 0 and 2 of three.
        let pages = Pages::of_bits(0x1000..0x4000, 0x2000, vec![0b101]);
        assert_eq!(pages.resident(0x1000..0x4000), (0x2000, true));
        assert_eq!(pages.resident(0x1ff0..0x3010), (0x20, true));
        assert_eq!(pages.resident(0x2000..0x3000), (0, true));
        assert_eq!(pages.resident(0x0..0x1001), (1, true));
        assert!(pages.holds(0x1fff) && !pages.holds(0x2000) && !pages.holds(0x4000) && !pages.holds(0));
    }

    #[test]
    fn pages_beyond_what_smaps_counts_are_shared_out() {
        let pages = Pages::of_bits(0x1000..0x5000, 0x2000, vec![0b1111]);
        assert_eq!(pages.resident(0x1000..0x5000), (0x2000, false));
    }

    #[test]
    fn our_own_memory_is_resident_where_it_was_touched() {
        let mut memory = MmapMut::map_anon(64 * PAGE as usize).expect("memory");
        for page in [3, 4, 63] {
            memory[page * PAGE as usize] = 1;
        }
        // Read only: the zero page, where we may know it.
        // SAFETY: a byte of a mapping that is alive.
        unsafe { memory.as_ptr().add(10 * PAGE as usize).read_volatile() };
        let known = zero_frame().is_some();
        let start = memory.as_ptr() as u64;
        let pages = Pages::read(std::process::id(), &[(start..start + 64 * PAGE, 3 * PAGE)]);
        assert_eq!(pages.resident(start..start + 64 * PAGE), (3 * PAGE, known));
        assert_eq!(pages.holds(start + 10 * PAGE), !known);
        assert!(pages.holds(start + 3 * PAGE) && !pages.holds(start + 5 * PAGE));
    }

    proptest! {
        #[test]
        fn neighbours_add_up(bits: [u64; 3], a in 0..192 * PAGE, b in 0..192 * PAGE) {
            let count: u64 = bits.iter().map(|word| u64::from(word.count_ones())).sum();
            let pages = Pages::of_bits(0..192 * PAGE, count * PAGE, bits.to_vec());
            let (low, high) = (a.min(b), a.max(b));
            let sum: u64 =
                [0..low, low..high, high..192 * PAGE].into_iter().map(|range| pages.resident(range).0).sum();
            prop_assert_eq!(sum, count * PAGE);
        }
    }
}
