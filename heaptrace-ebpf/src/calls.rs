//! The malloc family's calls: what a probe's hit means for its call.
//!
//! A block enters the live table where its allocation's result is known and leaves it where its free begins: in
//! between, its address may already be another thread's. Nothing on the program's stack is changed; where a call is
//! met twice, the two hits are paired by what no other call has, its place on the stack.

use aya_ebpf::EbpfContext;
use heaptrace_common::{
    counter::Counter,
    function::{Function, Shape, frees_second, resizes},
    probe::{Cookie, OWN_CODE, Place, ProbeRecord, Role, condition},
    record::{PendingCall, ProcessRecord},
};

use crate::{
    account::{self, Given},
    frees,
    helpers::{attach_cookie, read_user},
    judged, live,
    log::log,
    maps::{GATES, PROBES, count, setting},
    pending, process,
    registers::{Registers, UNREADABLE},
    sampled, share,
    site::{self, Caller},
    statistics, unwind,
    value::{Lookup, Value, at},
};

/// A probe of a traced process was hit.
#[inline(always)]
pub fn hit(ctx: &impl EbpfContext) {
    let Some((process, record, probe)) = admitted(ctx) else { return };
    let registers = Registers::of(ctx);
    if !condition::holds(probe.condition, registers.flags()) {
        return account::hit_beside(record);
    }
    let entry_sp = registers.sp().wrapping_add(u64::from(probe.pushed));
    Hit { process, record, probe, registers, entry_sp }.handle();
}

/// Whose hit it is and what it means, if it counts; then who calls adds it to the record's.
#[inline(always)]
pub fn admitted(ctx: &impl EbpfContext) -> Option<(u32, Value<ProcessRecord>, &'static ProbeRecord)> {
    let cookie = Cookie::from_bits(attach_cookie(ctx));
    let (process, record) = process::traced(ctx)?;
    let is_open = |gate| gate == 0 || GATES.value(gate).is_some_and(|gate| gate.load() != 0);
    if process::counts(record)
        && is_open(cookie.gate)
        && let Some(probe) = PROBES.get(cookie.row)
    {
        return Some((process, record, probe));
    }
    account::hit_beside(record);
    None
}

struct Hit<'a> {
    process: u32,
    record: Value<ProcessRecord>,
    probe: &'a ProbeRecord,
    registers: Registers,
    /// Where the return address lies.
    entry_sp: u64,
}

// Functions of their own, as `account::allocated`: what they keep on the stack is not below the walk.

#[inline(never)]
fn free(hit: &Hit<'_>, freed: &mut Given) {
    hit.free(freed);
}

#[inline(never)]
fn begin(hit: &Hit<'_>) {
    hit.begin();
}

/// A call whose doings are not known, but that it was made.
#[inline(never)]
fn tell(hit: &Hit<'_>, argument: u64) {
    /// Of `arena.N.reset`.
    const NUMBERS: u64 = 3;
    let (record, function) = (hit.record, hit.probe.function);
    if function == Function::Unseen as u8 {
        at!(record.unseen_calls).add(1);
    } else if function == Function::ControlName as u8 {
        if ends_arena(argument) {
            at!(record.asked_for_numbers).store(1);
        }
    } else if function == Function::ControlNumbers as u8 {
        // By which numbers, is not kept: how many they are is the second argument.
        if at!(record.asked_for_numbers).load() != 0 && argument == NUMBERS {
            at!(record.heaps_ended).add(1);
        }
    } else if function == Function::EndHeap as u8 || ends_arena(argument) {
        at!(record.heaps_ended).add(1);
    } else if gives_batch(argument) {
        at!(record.unseen_calls).add(1);
    }
}

/// Whether the name at `address` is `experimental.batch_alloc`.
#[inline(always)]
fn gives_batch(address: u64) -> bool {
    const NAME: [u64; 3] = [
        u64::from_le_bytes(*b"experime"),
        u64::from_le_bytes(*b"ntal.bat"),
        u64::from_le_bytes(*b"ch_alloc"),
    ];
    read_user::<[u64; 3]>(address).is_some_and(|name| name == NAME)
}

/// Whether the name at `address` is `arena.N.reset` or `arena.N.destroy`.
#[inline(always)]
fn ends_arena(address: u64) -> bool {
    const ARENA: u64 = u64::from_le_bytes(*b"arena.\0\0");
    const RESET: u64 = u64::from_le_bytes(*b".reset\0\0");
    const DESTROY: u64 = u64::from_le_bytes(*b".destroy");
    /// Of an arena's number.
    const MOST_DIGITS: u64 = 10;
    const SIX: u64 = (1 << 48) - 1;
    const SEVEN: u64 = (1 << 56) - 1;
    let word = |at: u64| read_user::<u64>(at).unwrap_or(0);
    if word(address) & SIX != ARENA {
        return false;
    }
    let mut digits = 1;
    while digits <= MOST_DIGITS {
        let rest = word(address.wrapping_add(6 + digits));
        if rest & SEVEN == RESET || rest == DESTROY {
            return true;
        }
        digits += 1;
    }
    false
}

#[inline(never)]
fn finish(hit: &Hit<'_>, finished: &mut Given) {
    *finished = hit.finish(hit.probe.role == Role::Whole as u8);
}

#[inline(never)]
fn leave_out(hit: &Hit<'_>, finished: &Given) {
    if setting!(frees) == 0 {
        account::end_at(hit.process, hit.record, finished.address);
    }
    account::filtered(hit.record, finished.size);
}

/// Counts a block as seen; whether it is a sample.
#[inline(never)]
fn draw(hit: &Hit<'_>, finished: &Given) -> bool {
    let record = hit.record;
    at!(record.seen_bytes).add(finished.size);
    at!(record.seen_count).add(1);
    account::end_at(hit.process, record, finished.address);
    sampled::reaches_sample(finished.size) != 0
}

impl Hit<'_> {
    #[inline(always)]
    fn handle(&self) {
        let role = self.probe.role;
        if role == Role::Begin as u8 {
            account::hit_beside(self.record);
            return begin(self);
        }
        // Not all zeros, which would be written by a call of memset.
        let mut finished = Given { size: 1, ..Given::NOTHING };
        let is_free = role == Role::Free as u8;
        if is_free {
            free(self, &mut finished);
            if !frees::are_checked() {
                return;
            }
        } else {
            finish(self, &mut finished);
        }
        if finished.address == 0 || !(is_free || self.is_asked_for(&finished) && self.is_taken(&finished)) {
            if !is_free {
                account::hit_beside(self.record);
            }
            return;
        }
        let site = site::of_call(self.process, finished.function, self.caller());
        if is_free && frees::are_checked() {
            return frees::freed(self.process, self.record, site, finished.size, finished.address);
        }
        judged::allocated(finished.function, finished.address, finished.size);
        account::allocated(self.process, self.record, site, &finished);
    }

    #[inline(always)]
    fn caller(&self) -> Caller {
        let (bp, bp_at) = self.registers.caller_bp(self.probe.caller_bp);
        Caller { entry_sp: self.entry_sp, bp, bp_at, ip: 0 }
    }

    /// Whether a block has a size that was asked for; one that has not is counted.
    #[inline(always)]
    fn is_asked_for(&self, finished: &Given) -> bool {
        if setting!(size_filter) == 0
            || finished.size >= setting!(min_size) && finished.size <= setting!(max_size)
        {
            return true;
        }
        leave_out(self, finished);
        false
    }

    /// Whether a block is to be entered. The branch is gone from the programs where all are.
    #[inline(always)]
    fn is_taken(&self, finished: &Given) -> bool {
        setting!(sample_bytes) == 0 || draw(self, finished)
    }

    #[inline(always)]
    fn return_address(&self) -> u64 {
        unwind::return_address(self.entry_sp)
    }

    /// Whether the allocator itself made the call that returns to `address`.
    #[inline(always)]
    fn is_own(&self, address: u64) -> bool {
        let distance = address.wrapping_sub(self.registers.ip()) as i64;
        let mut n = 0;
        while n < OWN_CODE {
            if n as u32 >= self.probe.own_count {
                return false;
            }
            let Some(own) = self.probe.own.get(n) else { return false };
            // A return address lies behind its call.
            if distance > i64::from(own.start) && distance <= i64::from(own.end) {
                return true;
            }
            n += 1;
        }
        false
    }

    #[inline(always)]
    fn free(&self, freed: &mut Given) {
        let address = self.freed();
        if address == 0 {
            return account::hit_beside(self.record);
        }
        let mut function = self.probe.function;
        if is_told(function) {
            account::hit_beside(self.record);
            return tell(self, address);
        }
        let taken = live::take(self.process, address);
        if taken.is_none() {
            account::hit_beside(self.record);
        }
        match taken {
            Some(block) => {
                if block.is_held()
                    && (self.probe.joined != 0 && self.ends_realloc(address)
                        || self.is_own(self.return_address()))
                {
                    // realloc frees the old block by way of free.
                    count(Counter::Nested);
                    function = Function::Realloc as u8;
                }
                account::close(self.record, &block);
                statistics::freed(self.process, function, Some(&block));
                judged::freed(function, address, block.size);
                if frees::are_checked() {
                    if function == Function::Realloc as u8 {
                        frees::remember(self.process, address, block.site, 0);
                    } else {
                        *freed = Given { function, marks: 0, size: u64::from(block.site) + 1, address };
                    }
                }
            }
            // Most are no samples, and nothing is to be said of them.
            None if setting!(sample_bytes) != 0 => {
                if self.probe.joined != 0 && self.is_any_under_way() {
                    self.ends_realloc(address);
                }
                return;
            }
            // The first of two functions has freed it, or one of the allocator's own; and glibc empties an exiting
            // thread's cache of freed blocks so.
            None if self.probe.joined != 0 && self.takes_word(address) => count(Counter::Nested),
            None if self.is_own(self.return_address()) || self.is_direct_own() => count(Counter::Nested),
            None => {
                if self.probe.joined != 0 && self.ends_realloc(address) {
                    count(Counter::Nested);
                    function = Function::Realloc as u8;
                }
                account::unknown_free(self.record, address);
                statistics::freed(self.process, function, None);
                judged::unknown(function, address);
                if frees::are_checked() && function != Function::Realloc as u8 {
                    *freed = Given { function, marks: 0, size: 0, address };
                }
            }
        }
        if self.probe.passes_on != 0 {
            self.leave_word(address);
        }
    }

    /// The block that the call gives back.
    #[inline(always)]
    fn freed(&self) -> u64 {
        if frees_second(self.probe.shape) { self.registers.arg1() } else { self.registers.arg0() }
    }

    /// The address of the function that is called.
    #[inline(always)]
    fn entry(&self) -> u64 {
        self.registers.ip().wrapping_sub(i64::from(self.probe.from_entry) as u64)
    }

    /// For the function that this one may jump to at its end.
    #[inline(always)]
    fn leave_word(&self, address: u64) {
        let return_address = self.return_address();
        if let Some(kept) = pending::find(self.process, self.entry_sp) {
            let is_word = at!(kept.shape).get() == Shape::Free0 as u8;
            if !is_word && at!(kept.return_address).get() == return_address {
                // A call that goes on in this one.
                return;
            }
            // Word that nobody took, or a call that was left.
            self.release(kept);
        }
        let Some(call) = pending::claim(self.process, self.record, self.entry_sp, false) else { return };
        at!(call.function).set(self.probe.function);
        at!(call.shape).set(Shape::Free0 as u8);
        at!(call.process).set(self.process);
        at!(call.return_address).set(return_address);
        at!(call.size).set(0);
        at!(call.has_old).set(0);
        at!(call.pointer).set(address);
        at!(call.entry).set(self.entry());
        pending::publish(call, self.process, self.entry_sp);
    }

    /// Whether a realloc jumped here at its end, as `realloc(p, 0)` does, to free the block at `address`.
    #[inline(always)]
    fn ends_realloc(&self, address: u64) -> bool {
        self.ends(address, resizes)
    }

    /// Whether a call of a shape that `is_meant`, kept where this one's return address lies, had to do with the block at
    /// `address`; its place is given back.
    #[inline(always)]
    fn ends(&self, address: u64, is_meant: impl FnOnce(u8) -> bool) -> bool {
        let Some(call) = pending::find(self.process, self.entry_sp) else { return false };
        let same = is_meant(at!(call.shape).get())
            && at!(call.pointer).get() == address
            && at!(call.return_address).get() == self.return_address();
        if same {
            self.release(call);
        }
        same
    }

    /// Gives the place of a call, or of word, back.
    #[inline(always)]
    fn release(&self, call: Value<PendingCall>) {
        let is_word = at!(call.shape).get() == Shape::Free0 as u8;
        if pending::release(call, self.process, self.entry_sp) && !is_word {
            let record = self.record;
            at!(record.calls_under_way).sub(1);
            share::count_calls(self.record, 1_u32.wrapping_neg());
        }
    }

    /// Whether the process has calls whose results are still to come.
    #[inline(always)]
    fn is_any_under_way(&self) -> bool {
        let record = self.record;
        at!(record.calls_under_way).load() != 0
    }

    /// Whether a function that jumped to this one has freed the block at `address` just now.
    #[inline(always)]
    fn takes_word(&self, address: u64) -> bool {
        self.ends(address, |shape| shape == Shape::Free0 as u8)
    }

    /// Whether the function was called by `call rel32` to its very entry, which is not how calls through a PLT look,
    /// and nobody but the allocator does so.
    #[inline(always)]
    fn is_direct_own(&self) -> bool {
        const CALL_REL32: u8 = 0xe8;
        if self.probe.direct_is_own == 0 {
            return false;
        }
        let entry = self.entry();
        let back = self.return_address();
        let Some(call) = read_user::<[u8; 5]>(back.wrapping_sub(5)) else {
            return false;
        };
        let distance = i32::from_le_bytes([call[1], call[2], call[3], call[4]]);
        call[0] == CALL_REL32 && back.wrapping_add(i64::from(distance) as u64) == entry
    }

    /// The size asked for, as the shape has it.
    #[inline(always)]
    fn size(&self) -> u64 {
        let size = self.registers.size(self.probe);
        if size == UNREADABLE {
            return UNREADABLE;
        }
        if self.probe.shape == Shape::Pages0 as u8 { round_to_pages(size) } else { size }
    }

    #[inline(always)]
    fn begin(&self) {
        let return_address = self.return_address();
        if self.is_own(return_address) {
            count(Counter::Nested);
            return;
        }
        if let Some(left) = pending::find(self.process, self.entry_sp) {
            if self.probe.joined != 0
                && at!(left.return_address).get() == return_address
                && at!(left.entry).get() != self.entry()
                && at!(left.shape).get() != Shape::Free0 as u8
            {
                // Reached by a jump out of the other function, whose call this completes.
                count(Counter::Nested);
                return;
            }
            // Left without a return, by longjmp or an exception; or word that nobody took.
            if at!(left.shape).get() != Shape::Free0 as u8 {
                count(Counter::MissedReturn);
                log!(
                    Counter::MissedReturn,
                    "process {}: a call of function {} for {} bytes never returned, stack {:x}",
                    function = u64::from(at!(left.function).get()),
                    size = at!(left.size).get(),
                    sp = self.entry_sp
                );
            }
            self.release(left);
        }
        // First, and also of what finds no place: without any, no hit is looked for among calls under way.
        let record = self.record;
        at!(record.calls_under_way).add(1);
        share::count_calls(self.record, 1);
        let Some(call) = pending::claim(self.process, self.record, self.entry_sp, true) else {
            share::count_calls(self.record, 1_u32.wrapping_neg());
            return;
        };
        let shape = self.probe.shape;
        at!(call.function).set(self.probe.function);
        at!(call.shape).set(shape);
        at!(call.process).set(self.process);
        at!(call.return_address).set(return_address);
        at!(call.size).set(self.size());
        at!(call.has_old).set(0);
        let has_pointer = shape == Shape::OutPointer as u8 || resizes(shape);
        let pointer = if has_pointer { self.freed() } else { 0 };
        at!(call.pointer).set(pointer);
        at!(call.entry).set(self.entry());
        // At the result it would be too late: the address can be another thread's new block by then. It stays in the
        // table, as the call may be left without having freed it.
        if resizes(shape) && pointer != 0 && live::hold(self.process, pointer) {
            at!(call.has_old).set(1);
        }
        pending::publish(call, self.process, self.entry_sp);
    }

    #[inline(always)]
    fn finish(&self, whole: bool) -> Given {
        let probe = self.probe;
        // No `Option`: what follows would be there twice, as LLVM knows where it is none.
        let mut begun: *mut PendingCall = core::ptr::null_mut();
        let may_be_within = (probe.joined != 0 || probe.own_count != 0)
            && (probe.within_begun == 0 || self.is_any_under_way());
        if !whole || may_be_within {
            let return_address = self.return_address();
            if self.is_own(return_address) {
                if whole {
                    count(Counter::Nested);
                }
                return Given::NOTHING;
            }
            if (!whole || probe.joined != 0)
                && let Some(call) = pending::find(self.process, self.entry_sp)
                // What lies there now tells whether it is that call's.
                && at!(call.return_address).get() == return_address
                && at!(call.shape).get() != Shape::Free0 as u8
            {
                if whole && at!(call.entry).get() == self.entry() {
                    // Seen whole it has no beginning of its own: an earlier call was left there.
                    count(Counter::MissedReturn);
                    self.release(call);
                } else {
                    begun = call.as_ptr();
                }
            }
        }
        let result = self.registers.value(probe.result);
        // SAFETY: null, or from the map.
        let Some(call) = (unsafe { Value::given(begun) }) else {
            if !whole && probe.shared != 0 {
                // Another function's, as most that come by here.
                return Given::NOTHING;
            }
            if probe.result == Place::ZERO && whole {
                // A failure, whose size is of no interest.
                return self.judge(probe.function, 0, 0);
            }
            if probe.size == 0 || probe.shape == Shape::OutPointer as u8 {
                count(Counter::UnpairedReturn);
                log!(
                    Counter::UnpairedReturn,
                    "process {}: function {} returns {:x} without a call, stack {:x}",
                    function = u64::from(probe.function),
                    result = result,
                    sp = self.entry_sp
                );
                return Given::NOTHING;
            }
            let size = self.size();
            if result == 0 && size == 0 && resizes(probe.shape) {
                return Given::NOTHING;
            }
            return self.judge(probe.function, size, result);
        };
        let (function, size) = (at!(call.function).get(), at!(call.size).get());
        let shape = at!(call.shape).get();
        let finished = if shape == Shape::OutPointer as u8 {
            self.finish_out_pointer(function, size, at!(call.pointer).get(), result)
        } else if resizes(shape) && at!(call.pointer).get() != 0 {
            self.settle_old(call, result != 0 || size == 0);
            // realloc(p, 0) freed p.
            if result == 0 && size == 0 { Given::NOTHING } else { self.judge(function, size, result) }
        } else {
            self.judge(function, size, result)
        };
        self.release(call);
        finished
    }

    #[inline(always)]
    fn finish_out_pointer(&self, function: u8, size: u64, pointer: u64, result: u64) -> Given {
        let mut address = if result == UNREADABLE { UNREADABLE } else { 0 };
        if result as u32 == 0 {
            match read_user(pointer) {
                Some(given) => address = given,
                None => {
                    count(Counter::ResultUnreadable);
                    log!(
                        Counter::ResultUnreadable,
                        "process {}: the result of function {} at {:x} cannot be read",
                        function = u64::from(function),
                        address = pointer
                    );
                    return Given::NOTHING;
                }
            }
        }
        self.judge(function, size, address)
    }

    /// The block that a realloc was given is gone, or stays.
    #[inline(always)]
    fn settle_old(&self, call: Value<PendingCall>, gone: bool) {
        let (function, pointer) = (at!(call.function).get(), at!(call.pointer).get());
        if at!(call.has_old).get() == 0 {
            if gone {
                account::unknown_free(self.record, pointer);
                statistics::freed(self.process, function, None);
                judged::unknown(function, pointer);
            }
        } else if !gone {
            live::let_go(self.process, pointer);
        } else if let Some(old) = live::take_held(self.process, pointer) {
            account::close_also(self.record, &old);
            statistics::freed(self.process, function, Some(&old));
            judged::freed(function, pointer, old.size);
            if frees::are_checked() {
                frees::remember(self.process, pointer, old.site, 0);
            }
        }
    }

    #[inline(always)]
    fn judge(&self, function: u8, size: u64, address: u64) -> Given {
        if address == 0 {
            let record = self.record;
            at!(record.failed_count).add(1);
            statistics::failed(self.process, function);
            judged::failed(function);
            return Given::NOTHING;
        }
        if address == UNREADABLE || size == UNREADABLE {
            count(Counter::ResultUnreadable);
            log!(
                Counter::ResultUnreadable,
                "process {}: size or result of function {} cannot be read, stack {:x}",
                function = u64::from(function),
                sp = self.entry_sp
            );
            return Given::NOTHING;
        }
        Given { function, marks: 0, size, address }
    }
}

/// As `Function::is_told`, by number.
#[inline(always)]
fn is_told(function: u8) -> bool {
    function >= Function::EndHeap as u8
}

#[inline(always)]
fn round_to_pages(size: u64) -> u64 {
    let page = u64::from(setting!(page_size));
    size.wrapping_add(page - 1) & !(page - 1)
}
