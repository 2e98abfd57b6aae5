//! What a process's memory is, mapping by mapping, from /proc/PID/smaps. Parsing and sums; reads nothing.

use crate::process::{
    maps::{self, Mapping},
    pagemap::PAGE,
};
use serde::Serialize;
use std::{collections::HashSet, ops::Range};

/// How many mappings are listed.
const LARGEST: usize = 10;

/// What a mapping is for, as far as it can be told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The break's, and the arenas of glibc's other threads.
    Heap,
    Anonymous,
    /// The first thread's, and those that a stack pointer or a guard page shows.
    Stack,
    File,
    /// Shared memory, with a file or without.
    Shared,
    /// The kernel's: vdso and the like.
    Special,
}

/// Every kind, in the order of the report.
pub const KINDS: [Kind; 6] =
    [Kind::Heap, Kind::Anonymous, Kind::Stack, Kind::File, Kind::Shared, Kind::Special];

/// Bytes of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
    /// Shared pages by the share of this process.
    pub pss_bytes: u64,
    pub swap_bytes: u64,
    /// Pages of no file: of a private file mapping, those that were written to.
    #[serde(skip)]
    pub anonymous_bytes: u64,
    /// On huge pages that were set aside (hugetlb), which the kernel counts in no RSS.
    pub hugetlb_bytes: u64,
    /// On huge pages that it made of others (THP).
    pub transparent_huge_bytes: u64,
    /// Given back by madvise(MADV_FREE), and still there.
    pub lazily_free_bytes: u64,
    /// Merged with pages that have the same contents (KSM).
    pub merged_bytes: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        let Self {
            virtual_bytes,
            resident_bytes,
            pss_bytes,
            swap_bytes,
            anonymous_bytes,
            hugetlb_bytes,
            transparent_huge_bytes,
            lazily_free_bytes,
            merged_bytes,
        } = other;
        self.virtual_bytes = self.virtual_bytes.saturating_add(virtual_bytes);
        self.resident_bytes = self.resident_bytes.saturating_add(resident_bytes);
        self.pss_bytes = self.pss_bytes.saturating_add(pss_bytes);
        self.swap_bytes = self.swap_bytes.saturating_add(swap_bytes);
        self.anonymous_bytes = self.anonymous_bytes.saturating_add(anonymous_bytes);
        self.hugetlb_bytes = self.hugetlb_bytes.saturating_add(hugetlb_bytes);
        self.transparent_huge_bytes = self.transparent_huge_bytes.saturating_add(transparent_huge_bytes);
        self.lazily_free_bytes = self.lazily_free_bytes.saturating_add(lazily_free_bytes);
        self.merged_bytes = self.merged_bytes.saturating_add(merged_bytes);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfKind {
    pub kind: Kind,
    pub mappings: u64,
    #[serde(flatten)]
    pub amount: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    pub start: u64,
    pub end: u64,
    pub kind: Kind,
    /// `None` if it has none.
    pub name: Option<String>,
    #[serde(flatten)]
    pub amount: Amount,
}

/// The memory of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub total: Amount,
    pub kinds: Vec<OfKind>,
    /// The ten that have the most pages in memory.
    pub largest: Vec<Listed>,
}

/// A mapping and what of it is in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measured {
    pub mapping: Mapping,
    pub amount: Amount,
    /// Of its pages, as the kernel maps them.
    pub page_bytes: u64,
}

/// Parses /proc/PID/smaps. Lines that are not known are left out.
pub fn parse_smaps(contents: &[u8]) -> Vec<Measured> {
    let mut measured: Vec<Measured> = Vec::new();
    for line in contents.split(|byte| *byte == b'\n') {
        if let Some(mapping) = maps::parse_line(line) {
            let amount = Amount { virtual_bytes: mapping.end - mapping.start, ..Amount::default() };
            measured.push(Measured { mapping, amount, page_bytes: PAGE });
        } else if let Some(Measured { amount, page_bytes, .. }) = measured.last_mut() {
            match in_kib(line) {
                Some(("KernelPageSize", bytes)) => *page_bytes = bytes.max(PAGE),
                _ => fill(amount, line),
            }
        }
    }
    measured
}

/// The sums of all mappings, of /proc/PID/smaps_rollup: one moment, where smaps is many.
pub fn parse_rollup(contents: &[u8]) -> Amount {
    let mut amount = Amount::default();
    contents.split(|byte| *byte == b'\n').for_each(|line| fill(&mut amount, line));
    amount
}

/// The highest resident size, of /proc/PID/status.
pub fn parse_peak(contents: &[u8]) -> Option<u64> {
    contents
        .split(|byte| *byte == b'\n')
        .filter_map(in_kib)
        .find(|(key, _)| *key == "VmHWM")
        .map(|(_, bytes)| bytes)
}

/// Takes over a line `Rss:   12 kB`.
fn fill(amount: &mut Amount, line: &[u8]) {
    let Some((key, bytes)) = in_kib(line) else { return };
    match key {
        "Rss" => amount.resident_bytes = bytes,
        "Pss" => amount.pss_bytes = bytes,
        "Swap" => amount.swap_bytes = bytes,
        "Anonymous" => amount.anonymous_bytes = bytes,
        "Private_Hugetlb" | "Shared_Hugetlb" => {
            amount.hugetlb_bytes = amount.hugetlb_bytes.saturating_add(bytes);
        }
        "AnonHugePages" => amount.transparent_huge_bytes = bytes,
        "LazyFree" => amount.lazily_free_bytes = bytes,
        "KSM" => amount.merged_bytes = bytes,
        _ => {}
    }
}

/// The key of a line, and its value in bytes.
fn in_kib(line: &[u8]) -> Option<(&str, u64)> {
    let (key, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
    let kib: u64 = value.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some((key, kib.saturating_mul(1024)))
}

/// Sorts mappings by kind. `heaps` are where blocks of an allocator are known to lie, `stacks` where stack pointers
/// of threads point to; `total` is of the whole process.
pub fn summarize(measured: &[Measured], heaps: &[Range<u64>], stacks: &[u64], total: Amount) -> Memory {
    let kinds = kinds(measured, heaps, stacks);
    let mut sums: Vec<OfKind> =
        KINDS.iter().map(|kind| OfKind { kind: *kind, mappings: 0, amount: Amount::default() }).collect();
    for (Measured { amount, .. }, kind) in measured.iter().zip(&kinds) {
        if let Some(sum) = sums.iter_mut().find(|sum| sum.kind == *kind) {
            sum.mappings += 1;
            sum.amount.add(*amount);
        }
    }
    let mut order: Vec<usize> = (0..measured.len()).collect();
    order.sort_by_key(|index| {
        let Amount { resident_bytes, swap_bytes, virtual_bytes, .. } = measured[*index].amount;
        std::cmp::Reverse((resident_bytes.saturating_add(swap_bytes), virtual_bytes))
    });
    let largest = order.into_iter().take(LARGEST).map(|index| {
        let Measured { mapping, amount, .. } = &measured[index];
        let name = mapping.path.as_ref().map(|path| path.to_string_lossy().into_owned());
        Listed { start: mapping.start, end: mapping.end, kind: kinds[index], name, amount: *amount }
    });
    Memory { total, kinds: sums, largest: largest.collect() }
}

/// The kind of each mapping; see [`summarize`].
pub fn kinds(measured: &[Measured], heaps: &[Range<u64>], stacks: &[u64]) -> Vec<Kind> {
    let heaps: HashSet<u64> = heaps.iter().map(|heap| heap.start).collect();
    (0..measured.len()).map(|index| kind(measured, index, &heaps, stacks)).collect()
}

fn kind(all: &[Measured], index: usize, heaps: &HashSet<u64>, stacks: &[u64]) -> Kind {
    let mapping = &all[index].mapping;
    let name = mapping.path.as_ref().map(|path| path.to_string_lossy());
    let name = name.as_deref().unwrap_or_default();
    if mapping.permissions.shared {
        return Kind::Shared;
    }
    match name {
        "[heap]" | "[anon: glibc: malloc arena]" | "[anon: glibc: malloc]" => return Kind::Heap,
        "[stack]" => return Kind::Stack,
        _ if name.starts_with("[stack:") || name.starts_with("[anon: glibc: pthread stack") => {
            return Kind::Stack;
        }
        // Made by mmap(MAP_HUGETLB): a file to the kernel alone.
        "/anon_hugepage" => {}
        _ if mapping.file().is_some() || mapping.inode != 0 => return Kind::File,
        _ if name.starts_with('[') && !name.starts_with("[anon") => return Kind::Special,
        _ => {}
    }
    if heaps.contains(&mapping.start) {
        return Kind::Heap;
    }
    // pthread_create maps a stack with its guard below, and nothing else that is common looks so.
    let guarded = index.checked_sub(1).map(|below| &all[below].mapping).is_some_and(|below| {
        let closed = !below.permissions.read && !below.permissions.write && !below.permissions.execute;
        closed && below.path.is_none() && below.end == mapping.start && below.end - below.start <= 64 << 10
    });
    let pointed = stacks.iter().any(|stack| (mapping.start..mapping.end).contains(stack));
    match mapping.permissions.write && (pointed || guarded) {
        true => Kind::Stack,
        false => Kind::Anonymous,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMAPS: &[u8] = b"55d000000000-55d000021000 rw-p 00000000 00:00 0 [heap]
Size:                132 kB
Rss:                  12 kB
Pss:                  12 kB
Swap:                  8 kB
VmFlags: rd wr mr mw me ac
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
Rss:                   8 kB
Pss:                   8 kB
7f0000021000-7f0004000000 ---p 00000000 00:00 0
7f1000000000-7f1000001000 ---p 00000000 00:00 0
7f1000001000-7f1000801000 rw-p 00000000 00:00 0
Rss:                  16 kB
7f2000000000-7f2000100000 rw-p 00000000 00:00 0
7f3000000000-7f3000010000 r-xp 00000000 08:01 77 /usr/lib/libx.so
Rss:                  64 kB
Pss:                   2 kB
7f4000000000-7f4000010000 rw-s 00000000 00:01 78 /dev/zero (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00030000-7ffc00032000 r-xp 00000000 00:00 0 [vdso]
";

    #[test]
    fn mappings_are_sorted_by_what_they_are_for() {
        let measured = parse_smaps(SMAPS);
        let arena = 0x7f00_0000_0000..0x7f00_0002_1000;
        let memory = summarize(&measured, std::slice::from_ref(&arena), &[], Amount::default());
        let of = |kind| memory.kinds.iter().find(|sum| sum.kind == kind).expect("a kind");
        assert_eq!((of(Kind::Heap).mappings, of(Kind::Heap).amount.resident_bytes), (2, 20 << 10));
        assert_eq!(of(Kind::Heap).amount.swap_bytes, 8 << 10);
        assert_eq!((of(Kind::Stack).mappings, of(Kind::Stack).amount.resident_bytes), (2, 16 << 10));
        // Two guards, and a mapping that nothing tells of.
        assert_eq!(of(Kind::Anonymous).mappings, 3);
        assert_eq!((of(Kind::File).amount.pss_bytes, of(Kind::File).mappings), (2 << 10, 1));
        assert_eq!((of(Kind::Shared).mappings, of(Kind::Special).mappings), (1, 1));
        assert_eq!(memory.largest[0].name.as_deref(), Some("/usr/lib/libx.so"));
    }

    #[test]
    fn a_stack_pointer_shows_a_stack() {
        let measured = parse_smaps(SMAPS);
        let memory = summarize(&measured, &[], &[0x7f20_0000_8000], Amount::default());
        let stacks = memory.kinds.iter().find(|sum| sum.kind == Kind::Stack).expect("stacks");
        assert_eq!(stacks.mappings, 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(bytes: Vec<u8>) {
            summarize(&parse_smaps(&bytes), &[], &[], parse_rollup(&bytes));
        }
    }
}
