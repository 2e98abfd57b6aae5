//! Which process a hit belongs to, and the life of process records.

use aya_ebpf::{EbpfContext, bindings::BPF_NOEXIST, helpers::bpf_get_current_comm};
use heaptrace_common::{
    counter::Counter,
    event::{Event, kind},
    record::{NO_PROCESS, ProcessRecord, armed, phase, process_index, process_state},
    settings::scope,
};

use crate::{
    code,
    events::send,
    free,
    helpers::{now_ns, read_kernel},
    log::log,
    maps::{CURSORS, PROCESS_CACHE, PROCESS_INDEX, SHARING, UNWIND_EXACT, count, keep_to_own_stack, setting},
    membership, share, site,
    unwind::new,
    value::{Lookup, Value, at},
};

pub use crate::records::{current, phase_now, record};

/// include/uapi/linux/sched.h
const CLONE_VM: u64 = 0x100;
const CLONE_VFORK: u64 = 0x4000;
const CLONE_THREAD: u64 = 0x10000;

/// include/linux/sched/signal.h: the whole process is about to end.
const SIGNAL_GROUP_EXIT: u32 = 4;

/// Whether the calls of a process count now.
#[inline(always)]
pub fn counts(record: Value<ProcessRecord>) -> bool {
    phase_now() == phase::COUNTING && at!(record.armed).load() == armed::YES
}

/// The current process and its record, which has hit a probe.
#[inline(always)]
pub fn traced(ctx: &impl EbpfContext) -> Option<(u32, Value<ProcessRecord>)> {
    let process = find(current().0)?;
    let Some(record) = record(process) else {
        // Never: a place where it costs nothing.
        keep_to_own_stack(ctx);
        return None;
    };
    Some((process, record))
}

#[inline(always)]
fn remember(tgid: u32, index: u32) {
    if let Some(cell) = PROCESS_CACHE.value(tgid & 0xffff) {
        cell.store(u64::from(tgid) << 32 | u64::from(index));
    }
}

/// What is known of `tgid`, `process_index::NONE` included.
#[inline(always)]
pub fn look_up(tgid: u32) -> u32 {
    let Some(cell) = PROCESS_CACHE.value(tgid & 0xffff) else { return process_index::NONE };
    let value = cell.load();
    if (value >> 32) as u32 == tgid {
        return value as u32;
    }
    let index = PROCESS_INDEX.value(tgid).map(Value::get).unwrap_or(process_index::NONE);
    // Only over what was there before: userspace may have registered the process meanwhile.
    cell.replace(value, u64::from(tgid) << 32 | u64::from(index));
    index
}

/// The record of the traced process `tgid`, which is the current one; registers it where all count.
#[inline(always)]
pub fn find(tgid: u32) -> Option<u32> {
    let index = look_up(tgid);
    if index < process_index::NONE {
        return Some(index);
    }
    if index == process_index::NONE && setting!(scope) == scope::ALL {
        return register(tgid);
    }
    None
}

#[inline(never)]
fn register(tgid: u32) -> Option<u32> {
    let index = make(tgid, NO_PROCESS, 0, 0, setting!(probes_for_all))?;
    if PROCESS_INDEX.insert(tgid, index, u64::from(BPF_NOEXIST)).is_err()
        && let Some(first) = PROCESS_INDEX.value(tgid).map(Value::get)
    {
        // Another thread of it was first; ours becomes an image of the same process that did nothing.
        if let Some(made) = record(index) {
            // As one that comes after it.
            at!(made.started_ns).set(now_ns());
            at!(made.parent).set(first);
            at!(made.after_exec).set(1);
        }
        end(index, process_state::REPLACED);
        return (first < process_index::NONE).then_some(first);
    }
    remember(tgid, index);
    Some(index)
}

/// A new record; its comm is the current task's. `stands`, one of `armed`: how its probes do from its first instruction on.
#[inline(always)]
fn make(tgid: u32, parent: u32, after_exec: u32, inherits: u32, stands: u32) -> Option<u32> {
    let cursors = CURSORS.value(0)?;
    let made = at!(cursors.processes).load();
    let most = u64::from(setting!(max_processes));
    let free = most.saturating_sub(made).wrapping_add(free::records(cursors).left());
    if free == 0 {
        count(Counter::ProcessTableFull);
        log!(
            Counter::ProcessTableFull,
            "process {}: the table of processes is full, no room for {}",
            tgid = u64::from(tgid)
        );
        return None;
    }
    let users = share::of_current_user();
    if let Some(share) = share::record(users) {
        let had = at!(share.processes).load();
        if !share::may_take(cursors, users, had, free) {
            count(Counter::ProcessTableFull);
            log!(
                Counter::ProcessTableFull,
                "process {}: its user has too many processes, no room for {}",
                tgid = u64::from(tgid)
            );
            return None;
        }
    }
    let mut index = free::records(cursors).take();
    if index == free::NONE {
        if made >= most {
            count(Counter::ProcessTableFull);
            return None;
        }
        index = at!(cursors.processes).add(1) as u32;
    }
    let Some(made) = record(index) else {
        count(Counter::ProcessTableFull);
        return None;
    };
    let most = setting!(max_processes);
    at!(made.tgid).set(tgid);
    at!(made.parent).set(parent);
    at!(made.after_exec).set(after_exec);
    at!(made.inherits).set(inherits);
    at!(made.armed).set(stands);
    // An exec changes nothing about whose it is.
    let mut share = index;
    if users != share::NONE {
        share = users;
    } else if after_exec != 0
        && let Some(old) = record(parent)
        && at!(old.share).get() < most
    {
        share = at!(old.share).get();
    }
    at!(made.share).set(share);
    share::joined(share);
    let now = now_ns();
    at!(made.started_ns).set(now);
    at!(made.armed_ns).set(if stands != armed::NO { now } else { 0 });
    site::make_overflow(index);
    if let Ok(comm) = bpf_get_current_comm() {
        at!(made.comm).set(comm);
    }
    at!(made.state).store(process_state::RUNNING);
    Some(index)
}

/// A task was made: `task` is its `task_struct`, the current task its parent.
#[inline(always)]
pub fn forked(task: u64, clone_flags: u64) {
    if clone_flags & CLONE_THREAD != 0 || phase_now() == phase::OVER {
        return;
    }
    let tgid_at = task + u64::from(setting!(task_tgid));
    let Some(child) = read_kernel::<u32>(tgid_at) else { return };
    let (tgid, _) = current();
    let parent = look_up(tgid);
    // What heaptrace runs for itself is left out like itself; a command that it traces is forked without this flag.
    if parent == process_index::OWN && clone_flags & CLONE_VFORK != 0 {
        let _ = PROCESS_INDEX.insert(child, process_index::OWN, 0);
        remember(child, process_index::OWN);
        return;
    }
    if parent >= process_index::NONE || setting!(follow) == 0 {
        // The child's PID may have been another's before, of whose end the kernel did not tell.
        let _ = PROCESS_INDEX.remove(child);
        remember(child, process_index::NONE);
        return;
    }
    // Then it inherits no copies: what it frees is its parent's.
    let shares = clone_flags & CLONE_VM != 0;
    let mut stands = setting!(probes_for_all);
    if record(parent).is_some_and(|parent| at!(parent.armed).load() == armed::PAUSED) {
        stands = armed::PAUSED;
    }
    let Some(index) = make(child, parent, 0, u32::from(!shares), stands) else { return };
    if let (Some(child), Some(parent), false) = (record(index), record(parent), shares) {
        at!(child.inherited_bytes).set(at!(parent.live_bytes).get());
        // What is over first: more may be by the time that what came is read.
        let closed = at!(parent.closed_count).load();
        let entered = at!(parent.entered_count).load();
        at!(child.inherited_count).set(entered.wrapping_sub(closed));
        at!(child.asked_for_numbers).set(at!(parent.asked_for_numbers).load());
        at!(child.break_at).set(at!(parent.break_at).get());
        // What it allocates before its probes are there is not inherited.
        at!(child.complete).set(at!(parent.complete).get() & at!(child.armed).get());
    }
    inherit_code(index, parent);
    let counts_for = if shares && SHARING.insert(child, index, 0).is_ok() { parent } else { index };
    let _ = PROCESS_INDEX.insert(child, counts_for, 0);
    remember(child, counts_for);
    tell(kind::FORK, child, index, parent, tgid);
}

/// A fork's child has its parent's code, and so its unwind tables, until userspace gives it lists of its own.
#[inline(always)]
fn inherit_code(child: u32, parent: u32) {
    new::inherit(child, parent);
    if let (Some(to), Some(from)) = (UNWIND_EXACT.value(child), UNWIND_EXACT.value(parent)) {
        to.store(from.load());
    }
}

/// The current process replaced its image; its other threads are gone. `thread` made the exec: its ID until then.
#[inline(always)]
pub fn execed(thread: u32) {
    if phase_now() == phase::OVER {
        return;
    }
    let (tgid, _) = current();
    let old = take_own(tgid);
    // What was left out for its old image's sake may be traced now; a named target stays left out.
    if old == process_index::OWN || old == process_index::EXCLUDED && setting!(scope) == scope::TARGETS {
        return;
    }
    if old >= process_index::NONE {
        if old == process_index::EXCLUDED {
            let _ = PROCESS_INDEX.remove(tgid);
            remember(tgid, process_index::NONE);
        }
        if setting!(scope) == scope::ALL {
            tell(kind::EXEC_ELSEWHERE, tgid, NO_PROCESS, NO_PROCESS, 0);
        } else if membership::is_member()
            && let Some(index) = register(tgid)
        {
            if let Some(new) = record(index) {
                // Where it has probes already, it is traced from its first instruction.
                at!(new.complete).set(at!(new.armed).get());
            }
            code::execed(index);
            tell_exec(tgid, index, NO_PROCESS, thread);
        }
        return;
    }
    end(old, process_state::REPLACED);
    let was = record(old).map_or(armed::NO, |old| at!(old.armed).load());
    match make(tgid, old, 1, 0, was) {
        Some(index) => {
            if let Some(new) = record(index) {
                // Probes of a process go with its first thread.
                let goes_on = thread == tgid || setting!(probes_for_all) != 0;
                at!(new.complete).set(u32::from(goes_on && was == armed::YES));
            }
            let _ = PROCESS_INDEX.insert(tgid, index, 0);
            code::execed(index);
            remember(tgid, index);
            tell_exec(tgid, index, old, thread);
        }
        None => {
            let _ = PROCESS_INDEX.insert(tgid, process_index::EXCLUDED, 0);
            remember(tgid, process_index::EXCLUDED);
        }
    }
}

/// The record of process `tgid` itself, whomever its calls counted for until now; its memory is its own from here on.
#[inline(always)]
fn take_own(tgid: u32) -> u32 {
    let index = look_up(tgid);
    let Some(own) = SHARING.value(tgid).map(Value::get) else { return index };
    let _ = SHARING.remove(tgid);
    // It may have been let go of.
    if index < process_index::NONE { own } else { index }
}

/// The current thread, `task`, exits.
#[inline(always)]
pub fn thread_exited(task: u64) {
    let (tgid, tid) = current();
    // The leader may be gone long before the last thread: do_exit (kernel/exit.c) counts `signal->live` down
    // before this tracepoint.
    let (signal_at, live_at) = (u64::from(setting!(task_signal)), u64::from(setting!(signal_live)));
    let Some(signal) = read_kernel::<u64>(task + signal_at) else { return };
    let Some(live) = read_kernel::<i32>(signal + live_at) else { return };
    if live != 0 {
        let index = look_up(tgid);
        if tid == tgid && index < process_index::NONE && !is_group_exit(signal) {
            tell(kind::LEADER_EXIT, tgid, index, NO_PROCESS, 0);
        }
        return;
    }
    if phase_now() == phase::OVER {
        return;
    }
    let index = take_own(tgid);
    remember(tgid, process_index::NONE);
    if index == process_index::NONE {
        return;
    }
    let _ = PROCESS_INDEX.remove(tgid);
    // Two last threads can both see 0: only one of them ends the record.
    if index < process_index::NONE && end(index, process_state::EXITED) {
        tell(kind::EXIT, tgid, index, NO_PROCESS, 0);
    }
}

/// Whether all threads of the process with this `signal_struct` are ending: by exit_group or a signal, as nearly all
/// do; its first thread may be the first to go.
#[inline(always)]
fn is_group_exit(signal: u64) -> bool {
    let flags_at = signal + u64::from(setting!(signal_flags));
    let flags: Option<u32> = read_kernel(flags_at);
    flags.is_some_and(|flags| flags & SIGNAL_GROUP_EXIT != 0)
}

#[inline(always)]
fn end(index: u32, state: u64) -> bool {
    let Some(record) = record(index) else { return false };
    if at!(record.state).load() != process_state::RUNNING {
        return false;
    }
    // First: userspace reads a record that has ended once only. Two that end it do so at one time.
    at!(record.ended_ns).store(now_ns());
    at!(record.state).replace(process_state::RUNNING, state)
}

#[inline(always)]
fn tell(kind: u32, tgid: u32, process: u32, other: u32, parent_tgid: u32) {
    let time_ns = now_ns();
    // A fork is the parent's doing.
    let payer = if kind == kind::FORK { other } else { process };
    send(Event { kind, tgid, process, other, time_ns, address: 0, length: 0, parent_tgid, share: 0 }, payer);
}

/// The current process, now of record `process`, has replaced its image.
#[inline(always)]
fn tell_exec(tgid: u32, process: u32, other: u32, thread: u32) {
    let time_ns = now_ns();
    let (kind, length) = (kind::EXEC, code::mapped_bytes());
    send(
        Event {
            kind,
            tgid,
            process,
            other,
            time_ns,
            address: u64::from(thread),
            length,
            parent_tgid: 0,
            share: 0,
        },
        process,
    );
}
