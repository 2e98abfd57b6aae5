//! The table of live blocks. What an entry is, and why so: `heaptrace_common::live`.
//!
//! Nothing locks. A block is entered by whoever got it from the allocator, before anyone else can know its address,
//! and taken by whoever gives it back; of two that give one block back at one time, only one takes it.

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use heaptrace_common::{
    live::{self, LiveBlock, LiveKey, LiveLine, MAX_LEVEL, WAYS},
    record::{Cursors, ProcessRecord},
    share::ShareRecord,
};

use crate::{
    maps::{self, CURSORS, LIVE, LIVE_GROWN, LIVE_SPILL, LIVE_TIMES, setting},
    share,
    value::{Lookup, Value, at, plain},
};

plain!(LiveBlock);

/// What became of a block that was to be entered. No enum: LLVM carries its payload along where there is none, and the
/// verifier sees that it was never written.
#[derive(Clone, Copy)]
pub struct Entered {
    pub outcome: Outcome,
    /// If `Again`; and if `Full` that which gave way, of which `time_ns` is not 0.
    pub old: LiveBlock,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in.
    New,
    /// It is in, in the place of another: the address was handed out again, so that one's free was never seen.
    Again,
    /// There is no room, or, of a place that was looked at, it is not in that.
    Full,
}

impl Entered {
    const NEW: Self = Self { outcome: Outcome::New, old: NOTHING };
    const FULL: Self = Self { outcome: Outcome::Full, old: NOTHING };

    #[inline(always)]
    const fn again(old: LiveBlock) -> Self {
        Self { outcome: Outcome::Again, old }
    }
}

const NOTHING: LiveBlock = LiveBlock::NOTHING;

/// The line of a key; `None` for a block that has no key.
#[inline(always)]
fn line_of(key: u64) -> Option<Value<LiveLine>> {
    if key == 0 { None } else { LIVE.value(live::line(key, setting!(live_lines))) }
}

#[inline(always)]
fn key_at(line: Value<LiveLine>, way: usize) -> Value<u64> {
    at!(line.keys).at(way)
}

#[inline(always)]
fn value_at(line: Value<LiveLine>, way: usize) -> Value<u64> {
    at!(line.values).at(way)
}

#[inline(always)]
fn time_at(line: Value<LiveLine>, way: usize) -> Value<u32> {
    at!(line.times).at(way)
}

/// The time of the entry at `way`, which is of `key`, in nanoseconds.
#[inline(always)]
fn time_ns(line: Value<LiveLine>, way: usize, key: u64) -> u64 {
    if setting!(statistics) != 0
        && let Some(times) = LIVE_TIMES.value(live::line(key, setting!(live_lines)))
    {
        return times.at(way).load();
    }
    live::time_ns(time_at(line, way).load(), setting!(base_ns))
}

#[inline(always)]
fn set_time(line: Value<LiveLine>, way: usize, key: u64, time_ns: u64) {
    let time = live::time(time_ns, setting!(base_ns));
    time_at(line, way).store(time);
    if setting!(statistics) != 0
        && let Some(times) = LIVE_TIMES.value(live::line(key, setting!(live_lines)))
    {
        times.at(way).store(time_ns);
    }
}

/// Where the block of `key` is in its line. [`WAYS`] if it is not there, or another thread takes it now, whose place
/// is not to be used again.
#[inline(always)]
fn find(line: Value<LiveLine>, key: u64) -> usize {
    let mut way = 0;
    while way < WAYS {
        if key_at(line, way).load() == key && value_at(line, way).load() != 0 {
            return way;
        }
        way += 1;
    }
    WAYS
}

/// The first place of a line that is free, if `left` before it, 0 or 1, are to stay so; [`WAYS`] if there is none.
#[inline(always)]
fn free_way(line: Value<LiveLine>, left: u32) -> usize {
    let mut left = left;
    let mut way = 0;
    while way < WAYS {
        if key_at(line, way).load() == 0 {
            if left == 0 {
                return way;
            }
            left = 0;
        }
        way += 1;
    }
    WAYS
}

/// Times that a place is looked for in the chunks: another thread may take the one that was found.
const GROWN_TRIES: u32 = 2;

/// Where an entry is in the chunks that the table grew by.
#[derive(Clone, Copy)]
struct Grown {
    line: Value<LiveLine>,
    way: usize,
}

/// The line of a key at a level of these.
#[inline(always)]
fn grown_line(key: u64, level: u32) -> Option<Value<LiveLine>> {
    let (chunk, line) = live::grown_line(key, level);
    LIVE_GROWN.value((chunk, line)).map(|line| line.at(0))
}

/// What [`live_grown_at`] and [`live_grown_free`] give: the level and the place in its line; 0 is none.
#[inline(always)]
fn grown_at(key: u64, found: u64) -> Option<Grown> {
    let (level, way) = ((found >> 8) as u32, (found & 0xff) as usize);
    if level == 0 || way >= WAYS {
        return None;
    }
    Some(Grown { line: grown_line(key, level)?, way })
}

/// Where the block of `key` is in the chunks. A global function, as the next: the verifier takes it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn live_grown_at(key: u64) -> u64 {
    in_chunks::<false>(key, 0)
}

/// A place that is free for `key` in the chunks, when `left` of each line are left out: 0 or 1.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn live_grown_free(key: u64, left: u32) -> u64 {
    in_chunks::<true>(key, left)
}

/// The block of `key` in its lines in the chunks, the newest first; or a place that is `FREE`.
#[inline(always)]
fn in_chunks<const FREE: bool>(key: u64, left: u32) -> u64 {
    let mut level = level_now();
    let mut n = 0;
    while n < MAX_LEVEL {
        if level == 0 {
            break;
        }
        if let Some(line) = grown_line(key, level) {
            let way = if FREE { free_way(line, left) } else { find(line, key) };
            if way < WAYS {
                return u64::from(level) << 8 | way as u64;
            }
        }
        level -= 1;
        n += 1;
    }
    0
}

#[inline(always)]
fn level_now() -> u32 {
    let level = CURSORS.value(0).map_or(0, |at| at!(at.live_level).load());
    if level > u64::from(MAX_LEVEL) { 0 } else { level as u32 }
}

/// A block comes into the chunks, or goes.
#[inline(always)]
fn count_grown(change: i64) {
    let Some(cursors) = CURSORS.value(0) else { return };
    maps::count_up(at!(cursors.grown_live), change, at!(cursors.low_grown));
}

/// Enters a block whose own line is full into the chunks; whether there was a place.
#[inline(always)]
fn enter_grown(line: Value<LiveLine>, key: u64, packed: u64, time_ns: u64, left: u32) -> bool {
    // First, so that whoever looks for the block sees it.
    at!(line.spilled).add(1);
    let mut tries = 0;
    while tries < GROWN_TRIES {
        let Some(at) = grown_at(key, live_grown_free(key, left)) else { break };
        if key_at(at.line, at.way).replace(0, key) {
            set_time(at.line, at.way, key, time_ns);
            value_at(at.line, at.way).store(packed);
            count_grown(1);
            return true;
        }
        tries += 1;
    }
    at!(line.spilled).sub(1);
    false
}

/// Whether blocks of the line may be in the chunks that the table grew by, or in the map beside it.
#[inline(always)]
fn has_spilled(line: Value<LiveLine>) -> bool {
    at!(line.spilled).load() != 0
}

/// Enters a block.
#[inline(always)]
pub fn enter(process: u32, record: Value<ProcessRecord>, address: u64, block: LiveBlock) -> Entered {
    let key = live::key(process, address);
    let Some(line) = line_of(key) else { return spill(process, address, &block) };
    let packed = if block.weight() == 0 { live::value(block.size, block.site) } else { 0 };
    let way = find(line, key);
    if way < WAYS {
        let entered = enter_again(line, way, key, packed, &block);
        if entered.outcome != Outcome::Full {
            return entered;
        }
        if entered.old.time_ns != 0 {
            return enter_too_large(line, process, address, &block, entered.old);
        }
    }
    if has_spilled(line) {
        if let Some(at) = grown_at(key, live_grown_at(key)) {
            let entered = enter_again(at.line, at.way, key, packed, &block);
            if entered.outcome != Outcome::Full {
                return entered;
            }
            if entered.old.time_ns != 0 {
                at!(line.spilled).sub(1);
                count_grown(-1);
                return enter_too_large(line, process, address, &block, entered.old);
            }
        }
        if let Some(old) = LIVE_SPILL.value(spill_key(process, address)).map(Value::get) {
            // Where it has been taken meanwhile, this one is new.
            if LIVE_SPILL.insert(spill_key(process, address), block, u64::from(BPF_EXIST)).is_ok() {
                return Entered::again(old);
            }
        }
    }
    if packed != 0 {
        let few_left = u32::from(share::has_much_live(record));
        let mut left = few_left;
        let mut way = 0;
        while way < WAYS {
            let at = key_at(line, way);
            if at.load() == 0 {
                if left != 0 {
                    left = 0;
                } else if at.replace(0, key) {
                    set_time(line, way, key, block.time_ns);
                    value_at(line, way).store(packed);
                    return Entered::NEW;
                }
            }
            way += 1;
        }
        if enter_grown(line, key, packed, block.time_ns, few_left) {
            return Entered::NEW;
        }
    }
    // First, so that whoever looks for the block sees it.
    at!(line.spilled).add(1);
    let entered = spill(process, address, &block);
    if entered.outcome != Outcome::New {
        at!(line.spilled).sub(1);
    }
    entered
}

/// Enters a block in the place that its address has. `Full` with what gave way where no entry can tell the block; and
/// without, where that has been taken meanwhile.
#[inline(always)]
fn enter_again(line: Value<LiveLine>, way: usize, key: u64, packed: u64, block: &LiveBlock) -> Entered {
    if packed == 0 {
        return match take_at(line, way, key, false) {
            Some(old) => Entered { outcome: Outcome::Full, old },
            None => Entered::FULL,
        };
    }
    let was = value_at(line, way).load();
    let time_ns = time_ns(line, way, key);
    if was != 0 && value_at(line, way).replace(was, packed) {
        set_time(line, way, key, block.time_ns);
        return Entered::again(live::block(was, time_ns));
    }
    Entered::FULL
}

/// `old` was in the place of a block that no entry can tell.
#[inline(always)]
fn enter_too_large(
    line: Value<LiveLine>,
    process: u32,
    address: u64,
    block: &LiveBlock,
    old: LiveBlock,
) -> Entered {
    at!(line.spilled).add(1);
    if spill(process, address, block).outcome != Outcome::New {
        at!(line.spilled).sub(1);
        return Entered { outcome: Outcome::Full, old };
    }
    Entered::again(old)
}

#[inline(always)]
fn spill_key(process: u32, address: u64) -> LiveKey {
    LiveKey { address, process, _pad: 0 }
}

#[inline(always)]
fn spill(process: u32, address: u64, block: &LiveBlock) -> Entered {
    const EEXIST: i32 = -17;
    let key = spill_key(process, address);
    let of = share::of(process);
    let (Some(share), Some(cursors)) = (share::record(of), CURSORS.value(0)) else {
        return Entered::FULL;
    };
    let (used, all) = (at!(share.spilled).load(), at!(cursors.spilled).load());
    if !share::may_take(cursors, of, used, u64::from(setting!(max_spilled)).saturating_sub(all)) {
        return Entered::FULL;
    }
    // First: it may be taken as soon as it is in.
    count_spilled(share, cursors, 1);
    match LIVE_SPILL.insert(key, block, u64::from(BPF_NOEXIST)) {
        Ok(()) => Entered::NEW,
        Err(EEXIST) => {
            count_spilled(share, cursors, -1);
            let old = LIVE_SPILL.value(key).map(Value::get);
            // Not where it has been taken meanwhile, which is counted.
            if LIVE_SPILL.insert(key, block, u64::from(BPF_EXIST)).is_err() {
                return Entered::FULL;
            }
            old.map_or(Entered::NEW, Entered::again)
        }
        Err(_) => {
            count_spilled(share, cursors, -1);
            Entered::FULL
        }
    }
}

/// A block of a share comes into the map beside the table, or goes.
#[inline(always)]
fn count_spilled(share: Value<ShareRecord>, cursors: Value<Cursors>, change: i32) {
    at!(share.spilled).add(change as u32);
    let (all, low) = (at!(cursors.spilled), at!(cursors.low_spilled));
    maps::count_up(all, i64::from(change), low);
}

/// Takes a block out. `None` if it is not there, or another thread takes it now.
#[inline(always)]
pub fn take(process: u32, address: u64) -> Option<LiveBlock> {
    take_if(process, address, false)
}

/// Takes a block out that is held; one that is not is another's by now.
#[inline(always)]
pub fn take_held(process: u32, address: u64) -> Option<LiveBlock> {
    take_if(process, address, true)
}

#[inline(always)]
fn take_if(process: u32, address: u64, only_held: bool) -> Option<LiveBlock> {
    let key = live::key(process, address);
    let Some(line) = line_of(key) else { return take_spilled(process, address, only_held) };
    let way = find(line, key);
    if way < WAYS {
        return take_at(line, way, key, only_held);
    }
    if !has_spilled(line) {
        return None;
    }
    if let Some(at) = grown_at(key, live_grown_at(key)) {
        let block = take_at(at.line, at.way, key, only_held)?;
        at!(line.spilled).sub(1);
        count_grown(-1);
        return Some(block);
    }
    let block = take_spilled(process, address, only_held)?;
    at!(line.spilled).sub(1);
    Some(block)
}

#[inline(always)]
fn take_at(line: Value<LiveLine>, way: usize, key: u64, only_held: bool) -> Option<LiveBlock> {
    let packed = value_at(line, way).load();
    let time_ns = time_ns(line, way, key);
    // Not what another thread enters meanwhile, which got the address since.
    if packed == 0 || only_held && packed & live::HELD == 0 {
        return None;
    }
    // Of two threads that free the same block, only one takes it. While the value is 0, nobody else uses the place.
    if !value_at(line, way).replace(packed, 0) {
        return None;
    }
    key_at(line, way).store(0);
    Some(live::block(packed, time_ns))
}

#[inline(always)]
fn take_spilled(process: u32, address: u64, only_held: bool) -> Option<LiveBlock> {
    let key = spill_key(process, address);
    let block = LIVE_SPILL.value(key).map(Value::get)?;
    if only_held && !block.is_held() {
        return None;
    }
    // Of two threads that free the same block, only one removes it.
    LIVE_SPILL.remove(key).ok()?;
    if let (Some(share), Some(cursors)) = (share::record(share::of(process)), CURSORS.value(0)) {
        count_spilled(share, cursors, -1);
    }
    Some(block)
}

/// Marks a block as one that a realloc is under way with; whether it is there.
#[inline(always)]
pub fn hold(process: u32, address: u64) -> bool {
    mark(process, address, true)
}

/// Takes the mark away: the realloc failed.
#[inline(always)]
pub fn let_go(process: u32, address: u64) {
    mark(process, address, false);
}

#[inline(always)]
fn mark(process: u32, address: u64, held: bool) -> bool {
    let key = live::key(process, address);
    if let Some(line) = line_of(key) {
        let way = find(line, key);
        if way < WAYS {
            return mark_at(line, way, held);
        }
        if !has_spilled(line) {
            return false;
        }
        if let Some(at) = grown_at(key, live_grown_at(key)) {
            return mark_at(at.line, at.way, held);
        }
    }
    let Some(block) = LIVE_SPILL.value(spill_key(process, address)) else { return false };
    let marks = at!(block.marks);
    let others = marks.load() & !LiveBlock::HELD;
    marks.store(others | u32::from(held));
    true
}

#[inline(always)]
fn mark_at(line: Value<LiveLine>, way: usize, held: bool) -> bool {
    let at = value_at(line, way);
    let packed = at.load();
    let marked = if held { packed | live::HELD } else { packed & !live::HELD };
    // It fails if another thread frees the block now, whose program is at fault.
    packed != 0 && at.replace(packed, marked)
}

/// When a live block was allocated; `u64::MAX` if there is none.
#[inline(always)]
pub fn time_of(process: u32, address: u64) -> u64 {
    let key = live::key(process, address);
    if let Some(line) = line_of(key) {
        let way = find(line, key);
        if way < WAYS {
            return time_ns(line, way, key);
        }
        if !has_spilled(line) {
            return u64::MAX;
        }
        if let Some(at) = grown_at(key, live_grown_at(key)) {
            return time_ns(at.line, at.way, key);
        }
    }
    LIVE_SPILL.value(spill_key(process, address)).map_or(u64::MAX, |block| at!(block.time_ns).get())
}
