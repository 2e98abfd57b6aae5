//! The maps, sized and explained, but for those that one file alone uses (`CLOCK`, `SCRATCH`, `SYSCALLS`). Sizes given
//! here are defaults; userspace sets them at load by its flags.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_MMAPABLE, BPF_RB_FORCE_WAKEUP},
    btf_maps,
    macros::{btf_map, map},
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
};
use heaptrace_common::{
    check::{CHECKED_CALLS, CHECKS as CHECK_COUNT, Check, CheckedCall},
    counter::Counter,
    lifetimes::Lifetimes,
    live::{self, ExactTimes, LiveBlock, LiveKey, LiveLine},
    probe::ProbeRecord,
    record::{
        CHUNK_SITES, Cursors, FREE_RECORDS as RECORDS_GIVEN, FREE_SITES as SITES_GIVEN, PendingCall,
        ProcessRecord, SiteEstimate, SiteRecord, SiteThread,
    },
    settings::Settings,
    share::ShareRecord,
    sizes::CARRIED,
    statistics::StatisticsRecord,
    tree::{CHUNK_LINES, Line},
    unwind::{
        CodeFile, CodeFileKey, MAX_MAPPINGS, MAX_RULES, NEW_SLOTS, NewMappings, SHARD, UnwindMapping,
        lookup::CACHE,
        memo::{MEMOS, Memo},
    },
};

use crate::value::{Lookup, Value};

/// Blocks that are live. See `heaptrace_common::live`.
#[map]
pub static LIVE: Array<LiveLine> = Array::with_max_entries(1 << 10, BPF_F_MMAPABLE);

/// What it grows by, in chunks that userspace adds. Each an array of one: see `SITES`.
#[btf_map]
pub static LIVE_GROWN: btf_maps::ArrayOfMaps<Chunk<[LiveLine; 1], { live::CHUNK_LINES as usize }>, 1> =
    btf_maps::ArrayOfMaps::new();

/// By its lines, where lifetimes are counted.
#[map]
pub static LIVE_TIMES: Array<ExactTimes> = Array::with_max_entries(1, 0);

/// Those that find no place there.
#[map]
pub static LIVE_SPILL: HashMap<LiveKey, LiveBlock> = HashMap::with_max_entries(1 << 10, 0);

/// What each probe's hit means; a probe's cookie names its row.
#[map]
pub static PROBES: Array<ProbeRecord> = Array::with_max_entries(1 << 13, BPF_F_MMAPABLE);

/// 1: hits of the probes with this gate in their cookies count.
#[map]
pub static GATES: Array<u64> = Array::with_max_entries(1 << 12, BPF_F_MMAPABLE);

/// (stack, process, function) -> index into `SITES`: cells of `record::index`, which the sites' own fields complete.
#[map]
pub static SITE_INDEX: Array<u64> = Array::with_max_entries(1 << 17, BPF_F_MMAPABLE);

/// An array that userspace maps, and that comes as one of several.
type Chunk<T, const ENTRIES: usize> = btf_maps::Array<T, ENTRIES, { BPF_F_MMAPABLE as usize }>;

/// The sites' counters, in chunks that userspace adds. Arrays, so that a free finds its site by index, and userspace reads
/// them by mmap. Each an array of one: a chunk is made without BTF, and 6.1 takes that for another kind of map than one
/// with BTF whose values are structs (`bpf_map_meta_equal` compares `timer_off`, kernel/bpf/map_in_map.c).
#[btf_map]
pub static SITES: btf_maps::ArrayOfMaps<Chunk<[SiteRecord; 1], { CHUNK_SITES as usize }>, 1> =
    btf_maps::ArrayOfMaps::new();

/// Sites of processes, by record, for what finds no room.
#[map]
pub static OVERFLOW_SITES: Array<SiteRecord> = Array::with_max_entries(1 << 14, BPF_F_MMAPABLE);

/// What the sites' samples stand for, by the sites' numbers: where blocks are sampled.
#[map]
pub static ESTIMATES: Array<SiteEstimate> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Whose the sites are, by their numbers: where they are told apart by thread.
#[map]
pub static SITE_THREADS: Array<SiteThread> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// How long their blocks lived, the same: where that is counted.
#[map]
pub static LIFETIMES: Array<Lifetimes> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// What classes of sizes have carried: see `heaptrace_common::sizes`.
#[map]
pub static CARRIED_SIZES: HashMap<u64, u64> = HashMap::with_max_entries(CARRIED, 0);

/// The tree of stacks, in chunks that userspace adds; shared by the processes of one address layout (fork) and by
/// functions.
#[btf_map]
pub static NODES: btf_maps::ArrayOfMaps<Chunk<Line, { CHUNK_LINES as usize }>, 1> =
    btf_maps::ArrayOfMaps::new();

/// tgid -> process record, or one of `process_index`.
#[map]
pub static PROCESS_INDEX: HashMap<u32, u32> = HashMap::with_max_entries(1 << 15, 0);

/// tgid of a process that runs in its parent's memory (vfork, posix_spawn) -> its own record. `PROCESS_INDEX` has the
/// parent's for it, whose blocks its calls are about, until it execs. One that finds no room counts by itself.
#[map]
pub static SHARING: HashMap<u32, u32> = HashMap::with_max_entries(1 << 12, 0);

/// One of `phase`.
#[map]
pub static PHASE: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// (tgid << 32 | record), direct-mapped by the tgid's low 16 bits: spares the hot path a hash lookup.
#[map]
pub static PROCESS_CACHE: Array<u64> = Array::with_max_entries(1 << 16, BPF_F_MMAPABLE);

/// Per-process totals.
#[map]
pub static PROCESSES: Array<ProcessRecord> = Array::with_max_entries(1 << 14, BPF_F_MMAPABLE);

/// What each share has of the tables.
#[map]
pub static SHARES: Array<ShareRecord> = Array::with_max_entries(1 << 14, BPF_F_MMAPABLE);

/// By process record, where they are asked for.
#[map]
pub static STATISTICS: Array<StatisticsRecord> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Calls whose result is still to come. An array with four places a call: in-place writes cost a tenth of a hash map's
/// insert and delete.
#[map]
pub static PENDING: Array<PendingCall> = Array::with_max_entries(1 << 16, BPF_F_MMAPABLE);

/// Functions under verification.
#[map]
pub static CHECKS: Array<Check> = Array::with_max_entries(CHECK_COUNT, BPF_F_MMAPABLE);

/// Their calls between entry and site.
#[map]
pub static CHECKED: Array<CheckedCall> = Array::with_max_entries(CHECKED_CALLS, 0);

/// Numbers of records, and of sites, that are free again: rings, by the count of those given back before.
#[map]
pub static FREE_RECORDS: Array<u64> = Array::with_max_entries(RECORDS_GIVEN, BPF_F_MMAPABLE);
#[map]
pub static FREE_SITES: Array<u64> = Array::with_max_entries(SITES_GIVEN, BPF_F_MMAPABLE);

/// How much of the tables is used.
#[map]
pub static CURSORS: Array<Cursors> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Rows of unwind tables, by shards. Userspace fills all `UNWIND_*` but the cache and the memos by mmap.
#[map]
pub static UNWIND_ROWS: Array<[u32; SHARD]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Pages of unwind tables, by shards.
#[map]
pub static UNWIND_PAGES: Array<[u32; SHARD]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// The distinct rules of all tables.
#[map]
pub static UNWIND_RULES: Array<[u64; MAX_RULES]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// pc and generation -> rule, for all processes: a hit spares the searches.
#[map]
pub static UNWIND_CACHE: Array<[u64; CACHE]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Walks that are remembered.
#[map]
pub static UNWIND_MEMOS: Array<Memo> = Array::with_max_entries(MEMOS, BPF_F_MMAPABLE);

/// Lists of mappings, each of one process at one time.
#[map]
pub static UNWIND_MAPPINGS: Array<[UnwindMapping; MAX_MAPPINGS]> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// By process record: `unwind::Published`.
#[map]
pub static UNWIND_PROCESSES: Array<u64> = Array::with_max_entries(1 << 14, BPF_F_MMAPABLE);

/// The same, for tables of exact rows.
#[map]
pub static UNWIND_EXACT: Array<u64> = Array::with_max_entries(1 << 14, BPF_F_MMAPABLE);

/// By process record, low bits: mappings that the lists do not have yet.
#[map]
pub static UNWIND_NEW: Array<NewMappings> = Array::with_max_entries(NEW_SLOTS as u32, BPF_F_MMAPABLE);

/// Files whose tables are in place.
#[map]
pub static CODE_FILES: HashMap<CodeFileKey, CodeFile> = HashMap::with_max_entries(1 << 12, 0);

/// Rare events to userspace.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Wakes whoever makes room: sites, nodes of stacks or live blocks run short.
#[map]
pub static LOW: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Losses and anomalies by reason.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT as u32, 0);

/// Empty. See [`keep_to_own_stack`].
#[map]
static NO_PROGRAM: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Does nothing, by a tail call that leads nowhere: a program with one in it is not given a per-CPU stack.
///
/// From 6.13 the kernel puts the BPF stack of probe programs in per-CPU memory (`bpf_enable_priv_stack`,
/// kernel/bpf/verifier.c), relying on a guard against recursion that uprobe programs do not have
/// (`bpf_prog_run_array_uprobe`, include/linux/trace_events.h). A program that is preempted would find another
/// thread's values on its stack; the kernel crashes (seen on 7.2).
#[inline(always)]
pub fn keep_to_own_stack(ctx: &impl EbpfContext) {
    // SAFETY: both are valid; the array has no program, so the call comes back.
    unsafe { NO_PROGRAM.tail_call(ctx, 0) };
}

/// Set by userspace before load.
#[unsafe(no_mangle)]
static SETTINGS: Settings = {
    // SAFETY: all are integers.
    unsafe { core::mem::zeroed() }
};

/// One setting, read so that the compiler cannot take the zeros above for the truth.
macro_rules! setting {
    ($($field:ident).+) => {
        // SAFETY: a static that is valid for reads.
        unsafe { core::ptr::read_volatile(&raw const (*$crate::maps::settings()).$($field).+) }
    };
}
pub(crate) use setting;

#[inline(always)]
pub fn settings() -> *const Settings {
    &raw const SETTINGS
}

/// The site numbered `index`.
#[inline(always)]
pub fn site(index: u32) -> Option<Value<SiteRecord>> {
    let behind = index.wrapping_sub(setting!(max_sites));
    if index < setting!(max_sites) {
        SITES.value((index / CHUNK_SITES, index % CHUNK_SITES)).map(|site| site.at(0))
    } else {
        OVERFLOW_SITES.value(behind)
    }
}

/// Adds `change` to the count at `at`, and says so if it has come to what `low` says: the table runs short.
#[inline(always)]
pub fn count_up(at: Value<u64>, change: i64, low: Value<u64>) -> u64 {
    let before = at.add(change as u64);
    if before.wrapping_add(change as u64) == low.load() {
        tell_low();
    }
    before
}

#[inline(always)]
fn tell_low() {
    // Where there is no room, it has been said.
    let _ = LOW.output::<u64>(&0, u64::from(BPF_RB_FORCE_WAKEUP));
}

/// Counts one.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.value(counter as u32) {
        // Atomic: a program can be preempted by another on the same CPU.
        value.add(1);
    }
}
