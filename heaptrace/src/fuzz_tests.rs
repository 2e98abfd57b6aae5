//! The entry points under proptest: inputs that are real but for a few damages. Memory is counted.

use super::*;
use crate::fixtures::{
    fuzz_seeds::{LIST, TEST_ELF, own_library, recorded, seeds},
    test_elf::TestElf,
};
use object::ReadCache;
use proptest::prelude::*;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts each thread's own allocations.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends has no counters any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: the system's allocator does the work; the counters are constant-initialized and never allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's obligations are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}

/// What an entry may use at once, beside what is in proportion to its input: the most that is set apart for the
/// pages of one unwind table, and small things.
const FIXED: isize = 32 << 20;

/// A byte of a symbol table or of call frame information becomes that many at most; a compressed one, too.
const TIMES: isize = 300;

/// Bytes that were in use at once.
fn used(work: impl FnOnce()) -> isize {
    let before = LIVE.get();
    PEAK.set(before);
    work();
    PEAK.get() - before
}

fn run(entry: Entry, bytes: &[u8]) -> Result<(), TestCaseError> {
    let used = used(|| entry(bytes));
    prop_assert!(used <= FIXED + TIMES * bytes.len() as isize, "{} bytes used {used}", bytes.len());
    Ok(())
}

/// One damage: where (as a fraction of the length), how, and with what.
#[derive(Clone, Debug)]
enum Damage {
    Xor(u8),
    Byte(u8),
    Word(u32),
    Long(u64),
    Cut,
    Repeat(u8),
    Remove(u8),
    Insert(Vec<u8>),
}

fn damage() -> impl Strategy<Value = (u16, Damage)> {
    let extreme =
        prop_oneof![Just(0), Just(u64::MAX), Just(1 << 63), Just(u64::MAX >> 1), any::<u64>(), 0..4096u64];
    let how = prop_oneof![
        4 => any::<u8>().prop_map(Damage::Xor),
        2 => any::<u8>().prop_map(Damage::Byte),
        2 => extreme.clone().prop_map(|word| Damage::Word(word as u32)),
        2 => extreme.prop_map(Damage::Long),
        1 => Just(Damage::Cut),
        1 => any::<u8>().prop_map(Damage::Repeat),
        1 => any::<u8>().prop_map(Damage::Remove),
        1 => prop::collection::vec(any::<u8>(), 1..16).prop_map(Damage::Insert),
    ];
    (any::<u16>(), how)
}

fn apply(bytes: &mut Vec<u8>, place: u16, damage: &Damage) {
    let at = bytes.len() * usize::from(place) / (1 << 16);
    let overwrite = |bytes: &mut Vec<u8>, new: &[u8]| {
        for (byte, new) in bytes.iter_mut().skip(at).zip(new) {
            *byte = *new;
        }
    };
    let end = |count: u8| (at + usize::from(count)).min(bytes.len());
    match damage {
        Damage::Xor(with) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= with),
        Damage::Byte(new) => overwrite(bytes, &[*new]),
        Damage::Word(new) => overwrite(bytes, &new.to_le_bytes()),
        // Fields of headers and tables lie at multiples of eight.
        Damage::Long(new) => {
            let at = at & !7;
            bytes.iter_mut().skip(at).zip(new.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
        Damage::Cut => bytes.truncate(at),
        Damage::Repeat(count) => {
            let part = bytes[at..end(*count)].to_vec();
            bytes.splice(at..at, part);
        }
        Damage::Remove(count) => drop(bytes.drain(at..end(*count))),
        Damage::Insert(new) => drop(bytes.splice(at..at, new.iter().copied())),
    }
}

#[test]
fn the_seeds_are_what_they_should_be() {
    assert!(file::read_from(recorded().as_slice()).is_ok());
    for bytes in seeds("elf") {
        let facts = ElfFacts::parse(bytes.as_slice()).expect("an ELF file");
        assert!(FileSymbols::read(bytes.as_slice(), &facts).is_ok());
    }
    assert!(FileTable::of(&own_library().as_slice(), RowKind::Calls).expect("a table").rows().len() > 100);
    assert_eq!(ldso::parse_list(LIST).len(), 2);
    let table = unwind::cache::of_contents(&seeds("unwind_cache")[0]).expect("a table");
    assert!(table.rows().len() > 100);
    let symbols = symbol_cache::of_contents(&seeds("cuts_cache")[0], &TEST_ELF, &library());
    assert_eq!(symbols.map(|symbols| symbols.functions.len()), Some(3));
    let last: [u8; 12] = seeds("answers")[0].last_chunk().copied().expect("answers");
    assert_eq!(&last[4..], b"\x04\0\0\0\x01\x02no");
}

/// A hole costs nobody anything.
#[test]
fn a_note_of_a_gigabyte_in_a_hole_takes_no_memory() {
    /// Of the last program header, elf(5): where it and its bytes are, and how many.
    const NOTE: usize = 64 + 4 * 56;
    let mut bytes = TEST_ELF.clone();
    let id = ElfFacts::parse(bytes.as_slice()).expect("an ELF file").build_id;
    bytes[NOTE + 8..NOTE + 16].copy_from_slice(&(1_u64 << 20).to_le_bytes());
    bytes[NOTE + 32..NOTE + 40].copy_from_slice(&(1_u64 << 30).to_le_bytes());
    let file = in_memory(&bytes).expect("a file");
    file.set_len(1 << 31).expect("a hole");
    let mut facts = None;
    let used = used(|| facts = ElfFacts::parse(&ReadCache::new(&file)).ok());
    // As its section says.
    assert_eq!(facts.and_then(|facts| facts.build_id), id);
    assert!(used <= FIXED, "{used} bytes used");
}

#[test]
fn one_long_name_that_is_needed_a_thousand_times_is_no_gigabyte() {
    const TIMES_NEEDED: usize = 1000;
    for (length, kept) in [(1000, 65), (1 << 20, 0)] {
        let long = "x".repeat(length);
        let needed = [vec![long.as_str()], vec!["y"; TIMES_NEEDED - 1]].concat();
        let mut bytes = TestElf { needed, ..TestElf::default() }.build();
        // DT_NEEDED, and the name's place behind the empty one; `append` aligns.
        let entry = [1_u64, 1].map(u64::to_le_bytes).concat();
        let at = (0..bytes.len()).step_by(8).find(|at| bytes[*at..].starts_with(&entry)).expect("a table");
        bytes[at..at + 16 * TIMES_NEEDED].copy_from_slice(&entry.repeat(TIMES_NEEDED));
        let mut facts = None;
        let used = used(|| facts = ElfFacts::parse(bytes.as_slice()).ok());
        assert_eq!(facts.map(|facts| facts.needed.len()), Some(kept));
        assert!(used <= 1 << 20, "{used} bytes used");
    }
}

/// As long as a message may be.
#[test]
fn sixteen_million_empty_lists_from_the_child_take_no_more_than_the_message() {
    const LISTS: usize = (16 << 20) - 16;
    let content = [&[4, 0x80, 0x80, 0x80, 7][..], &vec![0; LISTS]].concat();
    let mut decoded = None;
    let used = used(|| decoded = Some(postcard::from_bytes::<Answer>(&content).is_err()));
    assert_eq!(decoded, Some(true));
    assert!(used <= FIXED, "{used} bytes used");
}

/// Writes the seeds to a folder where asked, as libFuzzer takes them: `FOLDER/TARGET/NUMBER`.
#[test]
fn intact_inputs_pass() {
    let folder = std::env::var_os("HEAPTRACE_FUZZ_SEEDS").map(PathBuf::from);
    for (name, entry) in ALL {
        for (number, seed) in seeds(name).into_iter().enumerate() {
            run(entry, &seed).expect(name);
            if let Some(folder) = &folder {
                std::fs::create_dir_all(folder.join(name)).expect("folder");
                std::fs::write(folder.join(name).join(number.to_string()), seed).expect("seed");
            }
        }
    }
}

/// Damages `cases` copies of each seed of an entry.
fn damaged(name: &str, cases: u32) {
    let (_, entry) = ALL.into_iter().find(|(known, _)| *known == name).expect("an entry");
    let seeds = seeds(name);
    let choice = (any::<prop::sample::Index>(), prop::collection::vec(damage(), 1..12));
    proptest!(ProptestConfig::with_cases(cases), |((seed, damages) in choice)| {
        let mut bytes = seed.get(&seeds).clone();
        damages.iter().for_each(|(place, damage)| apply(&mut bytes, *place, damage));
        run(entry, &bytes)?;
    });
    proptest!(ProptestConfig::with_cases(256), |(bytes: Vec<u8>)| run(entry, &bytes)?);
}

#[test]
fn damaged_record_files_are_survived() {
    damaged("record", 1000);
}

#[test]
fn damaged_chunks_are_survived() {
    damaged("chunk", 1000);
}

#[test]
fn damaged_elf_files_are_survived() {
    damaged("elf", 3000);
}

#[test]
fn damaged_files_have_their_functions_analysed() {
    damaged("cuts", 300);
}

#[test]
fn damaged_code_is_survived() {
    damaged("code", 1000);
}

#[test]
fn damaged_unwind_information_is_survived() {
    damaged("unwind", 1000);
}

#[test]
fn damaged_symbols_are_survived() {
    damaged("symbols", 3000);
}

#[test]
fn damaged_proc_files_are_survived() {
    for name in ["maps", "stat", "status", "ldso", "preload", "mapped"] {
        damaged(name, 1000);
    }
}

#[test]
fn damaged_contents_of_the_cache_are_survived() {
    damaged("unwind_cache", 1000);
    damaged("cuts_cache", 1000);
}

#[test]
fn damaged_debug_files_and_perf_maps_are_survived() {
    damaged("child", 500);
    damaged("perf_map", 1000);
}

#[test]
fn damaged_answers_and_debug_links_are_survived() {
    damaged("answers", 1000);
    damaged("debug_link", 1000);
}
