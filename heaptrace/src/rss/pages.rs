//! Which pages of a process's private memory without a file are in memory, from /proc/PID/pagemap, held against what
//! smaps counts: as resident, or as on huge pages that were set aside (hugetlb), which are in no RSS.

use crate::{
    model::Extent,
    process::pagemap::{PAGE, PageMap, zero_frame},
};
use std::{io, ops::Range};

/// The most pages that are looked up for one process: 64 GiB of addresses, 128 MiB of pagemap, part of a second.
const MOST_PAGES: u64 = 16 << 20;

/// A mapping to be looked up, as smaps has it. What is in memory of one is resident, or on huge pages that were set
/// aside; never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    pub addresses: Range<u64>,
    pub resident_bytes: u64,
    pub hugetlb_bytes: u64,
    /// Of its pages, as the kernel maps them.
    pub page_bytes: u64,
}

/// A mapping, and which of its pages are in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    /// As smaps has it.
    resident_bytes: u64,
    hugetlb_bytes: u64,
    page_bytes: u64,
    /// A bit for each page; `None` if they were not looked up.
    present: Option<Vec<u64>>,
    present_count: u64,
}

/// What is in memory of some mappings, in order of address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages(Vec<Piece>);

impl Pages {
    /// Looks the mappings `of` process `pid` up.
    pub fn read(pid: u32, of: &[Counted]) -> Self {
        let file = PageMap::open(pid);
        let zero = zero_frame();
        let mut left = MOST_PAGES;
        let pieces = of.iter().map(|counted| {
            let Counted { addresses, resident_bytes, hugetlb_bytes, .. } = counted;
            let pages = (addresses.end - addresses.start) / PAGE;
            let affordable = (*resident_bytes > 0 || *hugetlb_bytes > 0) && pages <= left;
            let present = file.as_ref().ok().filter(|_| affordable).and_then(|file| {
                left -= pages;
                bits(file, addresses, zero).ok()
            });
            Piece::new(counted, present)
        });
        Self(pieces.collect())
    }

    /// What of `range` is resident, and whether that is known and not a share of its mapping's.
    pub fn resident(&self, range: Range<u64>) -> (u64, bool) {
        self.sum(range, |piece| piece.resident_bytes)
    }

    /// What of `range` is on huge pages that were set aside.
    pub fn hugetlb(&self, range: Range<u64>) -> u64 {
        self.sum(range, |piece| piece.hugetlb_bytes).0
    }

    /// What of `range` is among the bytes that are counted of a piece, and whether that is known.
    fn sum(&self, range: Range<u64>, counted: impl Fn(&Piece) -> u64) -> (u64, bool) {
        let (mut bytes, mut exact) = (0, true);
        let from = self.0.partition_point(|piece| piece.end <= range.start);
        for piece in self.0[from..].iter().take_while(|piece| piece.start < range.end) {
            let (start, end) = (range.start.max(piece.start), range.end.min(piece.end));
            let (part, known) = piece.part(counted(piece), start, end);
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

    /// Whether the page at `address` is in memory, in the RSS or not; not if it was not looked up.
    pub fn holds(&self, address: u64) -> bool {
        self.piece(address).is_some_and(|piece| piece.is_present(address))
    }

    /// Whether the page at `address` is in memory, and in the RSS.
    pub fn is_resident(&self, address: u64) -> bool {
        self.piece(address).is_some_and(|piece| piece.resident_bytes > 0 && piece.is_present(address))
    }

    /// The size of the page at `address`, as the kernel maps it.
    pub fn page_bytes(&self, address: u64) -> u64 {
        self.piece(address).map_or(PAGE, |piece| piece.page_bytes)
    }

    fn piece(&self, address: u64) -> Option<&Piece> {
        let from = self.0.partition_point(|piece| piece.end <= address);
        self.0.get(from).filter(|piece| piece.start <= address)
    }

    /// The mappings whose pages were looked up.
    pub fn looked_up(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().filter(|piece| piece.present.is_some()).map(|piece| piece.start..piece.end)
    }

    #[cfg(test)]
    pub fn of_bits(range: Range<u64>, resident_bytes: u64, present: Vec<u64>) -> Self {
        let counted = Counted { addresses: range, resident_bytes, hugetlb_bytes: 0, page_bytes: PAGE };
        Self(vec![Piece::new(&counted, Some(present))])
    }

    /// Of a mapping on huge pages that were set aside.
    #[cfg(test)]
    pub fn of_huge_bits(range: Range<u64>, hugetlb_bytes: u64, present: Vec<u64>) -> Self {
        let page_bytes = 512 * PAGE;
        let counted = Counted { addresses: range, resident_bytes: 0, hugetlb_bytes, page_bytes };
        Self(vec![Piece::new(&counted, Some(present))])
    }
}

impl Piece {
    fn new(counted: &Counted, present: Option<Vec<u64>>) -> Self {
        let Counted { addresses: Range { start, end }, resident_bytes, hugetlb_bytes, page_bytes } = *counted;
        let present_count =
            present.iter().flatten().fold(0, |sum: u64, word| sum + u64::from(word.count_ones()));
        Self { start, end, resident_bytes, hugetlb_bytes, page_bytes, present, present_count }
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

    /// What of the addresses from `start` to `end` is among the bytes `counted`, all of which are of pages that are present.
    fn part(&self, counted: u64, start: u64, end: u64) -> (u64, bool) {
        if counted == 0 || start >= end {
            return (0, true);
        }
        let share = |part: u64, whole: u64| {
            let bytes = u128::from(part) * u128::from(counted) / u128::from(whole.max(1));
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
        if whole > counted { (share(bytes, whole), false) } else { (bytes, true) }
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
    fn huge_pages_that_were_set_aside_are_there_and_not_resident() {
        let start = 0x4000_0000;
        let pages = Pages::of_huge_bits(start..start + 1024 * PAGE, 512 * PAGE, vec![u64::MAX; 8]);
        let all = start..start + 1024 * PAGE;
        assert_eq!((pages.resident(all.clone()), pages.hugetlb(all)), ((0, true), 512 * PAGE));
        assert_eq!(pages.hugetlb(start + 16..start + 600 * PAGE), 512 * PAGE - 16);
        assert!(pages.holds(start) && !pages.is_resident(start) && !pages.holds(start + 512 * PAGE));
        assert_eq!((pages.page_bytes(start), pages.page_bytes(0)), (512 * PAGE, PAGE));
        let common = Pages::of_bits(start..start + PAGE, PAGE, vec![1]);
        assert!(common.holds(start) && common.is_resident(start) && common.hugetlb(start..start + PAGE) == 0);
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
        let addresses = start..start + 64 * PAGE;
        let of = Counted { addresses, resident_bytes: 3 * PAGE, hugetlb_bytes: 0, page_bytes: PAGE };
        let pages = Pages::read(std::process::id(), &[of]);
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
