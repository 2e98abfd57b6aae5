//! Typed handles on the BPF maps.

use super::{
    array::SharedArray,
    checked_frees::CheckedFrees,
    checks::Checks,
    cursors::CursorCell,
    error::LoadError,
    events::EventRing,
    gates::{GATES, Gates},
    given_back::GivenBack,
    growing::{self, Grower, Grown, Most, Tables},
    live_table::{LiveTable, Removed},
    shares::Shares,
    sizes::{MapSizes, PROBE_ROWS},
    taken::{take, take_array, take_data},
};
use aya::{
    Ebpf,
    maps::{HashMap, MapData, PerCpuArray},
};
use heaptrace_common::{
    check::CHECKS,
    counter::Counter,
    lifetimes::Lifetimes,
    live::{self, LiveKey},
    probe::ProbeRecord,
    record::{
        BEING_MADE, Cursors, PendingCall, ProcessRecord, SiteEstimate, SiteRecord, SiteThread, armed,
        overflow_site, phase, process_state,
    },
    statistics::StatisticsRecord,
};
use std::{
    io,
    mem::offset_of,
    sync::atomic::{AtomicU64, Ordering},
};

/// What the counters said, by [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; Counter::COUNT]);

impl Counters {
    /// The count for one reason.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// Calls whose stacks found no room, by what was full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StacksRefused {
    pub sites: u64,
    pub frames: u64,
}

/// Every map that userspace reads or writes.
pub struct Maps {
    pub(super) grown: Grown,
    grower: Grower,
    /// Sites that there may be, without those for what finds no room.
    pub(super) max_sites: u32,
    /// Nodes that there may be.
    pub(super) max_nodes: u64,
    pub(super) overflow_sites: SharedArray<SiteRecord>,
    pub(super) processes: SharedArray<ProcessRecord>,
    pub(super) statistics: SharedArray<StatisticsRecord>,
    pub(super) estimates: SharedArray<SiteEstimate>,
    /// `None` where they are not counted.
    pub(super) lifetimes: Option<SharedArray<Lifetimes>>,
    /// `None` where sites are not told apart by thread.
    site_threads: Option<SharedArray<SiteThread>>,
    /// `None` where frees are not looked into.
    checked_frees: Option<CheckedFrees>,
    process_cache: SharedArray<u64>,
    pub(super) shares: Shares,
    phase: SharedArray<u64>,
    pub(super) cursors: CursorCell,
    pub(super) given_back: GivenBack,
    process_index: HashMap<MapData, u32, u32>,
    live: LiveTable,
    /// Blocks that it had room for in the beginning.
    first_live: u32,
    probes: SharedArray<ProbeRecord>,
    pub(super) gates: Gates,
    pub(super) checks: Checks,
    pending: SharedArray<PendingCall>,
    /// By what the row says: processes of one program have the same.
    probe_rows: std::collections::HashMap<ProbeRecord, u32>,
    counters: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Takes the maps out of `ebpf`, which have `sizes`, and the ring of events with them. `base_ns` as in the settings.
    pub fn take(
        ebpf: &mut Ebpf,
        sizes: &MapSizes,
        statistics: u32,
        base_ns: u64,
        secret: u64,
    ) -> Result<(Self, EventRing), LoadError> {
        let MapSizes { sites, processes, .. } = *sizes;
        let live_lines = live::lines_for(sizes.live);
        let shared = |source| LoadError::Maps { source };
        let of_shares = take_data(ebpf, "SHARES")?;
        let shares = || Shares::new(&of_shares, processes, secret).map_err(shared);
        let (shares, for_events) = (shares()?, shares()?);
        let cursors = take_data(ebpf, "CURSORS")?;
        let most = Most { sites, nodes: sizes.frames, live_chunks: sizes.live_chunks, spill: sizes.spill() };
        let Tables { grown, live, grower } =
            growing::take(ebpf, SharedArray::new(&cursors, 1).map_err(shared)?, most)?;
        let maps = Self {
            max_sites: sites,
            max_nodes: sizes.frames.into(),
            first_live: sizes.live,
            grown,
            grower,
            overflow_sites: take_array(ebpf, "OVERFLOW_SITES", processes)?,
            processes: take_array(ebpf, "PROCESSES", processes)?,
            statistics: take_array(ebpf, "STATISTICS", statistics)?,
            estimates: take_array(ebpf, "ESTIMATES", sizes.estimate_entries())?,
            lifetimes: match sizes.lifetimes {
                true => Some(take_array(ebpf, "LIFETIMES", sizes.lifetime_entries())?),
                false => None,
            },
            site_threads: match sizes.by_thread {
                true => Some(take_array(ebpf, "SITE_THREADS", sizes.thread_entries())?),
                false => None,
            },
            checked_frees: match sizes.checks_frees {
                true => Some(CheckedFrees::take(ebpf)?),
                false => None,
            },
            process_cache: take_array(ebpf, "PROCESS_CACHE", 1 << 16)?,
            shares,
            phase: take_array(ebpf, "PHASE", 1)?,
            cursors: CursorCell::new(&cursors).map_err(shared)?,
            given_back: GivenBack::take(ebpf, sites)?,
            process_index: take(ebpf, "PROCESS_INDEX")?,
            live: LiveTable::new(
                &take_data(ebpf, "LIVE")?,
                live_lines,
                live,
                take_data(ebpf, "LIVE_SPILL")?,
                base_ns,
            )
            .map_err(shared)?,
            probes: take_array(ebpf, "PROBES", PROBE_ROWS)?,
            gates: Gates::new(take_array(ebpf, "GATES", GATES)?),
            checks: Checks::new(take_array(ebpf, "CHECKS", CHECKS)?),
            pending: take_array(ebpf, "PENDING", sizes.threads.next_power_of_two())?,
            probe_rows: std::collections::HashMap::new(),
            counters: take(ebpf, "COUNTERS")?,
        };
        maps.set_phase(phase::COUNTING);
        Ok((maps, EventRing { ring: take(ebpf, "EVENTS")?, shares: for_events }))
    }

    fn cursor(&self, of: fn(&Cursors) -> u64, entries: u32) -> u32 {
        of(&self.cursors.read()).min(u64::from(entries)) as u32
    }

    /// Numbers of the sites so far, and then of those for what found no room; slots that lost a race are not `ready`.
    pub fn site_numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (0..self.sites_made()).chain(self.overflow_site(0)..self.overflow_site(self.process_count()))
    }

    /// Sites so far, without those for what found no room.
    pub fn sites_made(&self) -> u32 {
        self.cursor(|cursors| cursors.sites, self.max_sites)
    }

    /// The number of the site for what finds no room of a process record.
    pub fn overflow_site(&self, process: u32) -> u32 {
        overflow_site(self.max_sites, process)
    }

    /// The process record of a site that is ready and not for what found no room.
    pub fn site_owner(&self, index: u32) -> Option<u32> {
        self.grown.site_owner(index)
    }

    /// The process record that a site is made for, ready or not; `None` for record 0, which is also what an empty place says.
    pub fn site_maker(&self, index: u32) -> Option<u32> {
        self.grown.site_maker(index).filter(|record| *record != 0)
    }

    /// One site, as it stands.
    pub fn site(&self, index: u32) -> Option<SiteRecord> {
        match index.checked_sub(self.max_sites) {
            None => self.grown.site(index),
            Some(process) => self.overflow_sites.get(process),
        }
    }

    /// What the samples of a site stand for; nothing where blocks are not sampled.
    pub fn estimate(&self, site: u32) -> SiteEstimate {
        self.estimates.get(site).unwrap_or_default()
    }

    /// How long the freed blocks of a site lived; `None` where that is not counted.
    pub fn lifetimes(&self, site: u32) -> Option<Lifetimes> {
        self.lifetimes.as_ref()?.get(site)
    }

    /// Whose calls a site has; `None` where sites are not told apart by thread, and of those for what found no room.
    pub fn site_thread(&self, site: u32) -> Option<SiteThread> {
        self.site_threads.as_ref()?.get(site)
    }

    /// What frees that are looked into came to; `None` where they are not.
    pub fn checked_frees(&self) -> Option<&CheckedFrees> {
        self.checked_frees.as_ref()
    }

    /// The frames of a site, innermost first.
    pub fn frames(&self, site: &SiteRecord) -> Vec<u64> {
        self.frames_from(site.stack, site.frames)
    }

    /// `count` frames of one stack, from its innermost node on.
    pub fn frames_from(&self, node: u32, count: u8) -> Vec<u64> {
        self.grown.nodes.frames(node, count)
    }

    /// Calls whose stacks found no room.
    pub fn stacks_refused(&self) -> StacksRefused {
        let Cursors { sites_refused: sites, nodes_refused: frames, .. } = self.cursors.read();
        StacksRefused { sites, frames }
    }

    /// Why a table could not grow, if one could not.
    pub fn growth_failure(&self) -> Option<&io::Error> {
        self.grower.failure()
    }

    /// Process records that there may be at one time.
    pub fn most_records(&self) -> u32 {
        self.processes.entries
    }

    /// Process records that were ever used.
    pub fn process_count(&self) -> u32 {
        self.cursor(|cursors| cursors.processes, self.processes.entries)
    }

    /// One process record, as it stands.
    pub fn process(&self, index: u32) -> Option<ProcessRecord> {
        self.processes.get(index)
    }

    /// What was counted for `stat` of one record, as it stands; `None` where that was not asked for.
    pub fn statistics(&self, index: u32) -> Option<StatisticsRecord> {
        self.statistics.get(index)
    }

    /// Registers a process of user `uid` as a target before its probes are placed. `None` if the table is full.
    pub fn register(&mut self, record: ProcessRecord, uid: u32) -> Result<Option<u32>, aya::maps::MapError> {
        let again = self.given_back.used_record(&self.cursors);
        let index = again.map_or_else(|| self.cursors.add(offset_of!(Cursors, processes), 1), u64::from);
        let Some(index) = u32::try_from(index).ok().filter(|index| *index < self.processes.entries) else {
            return Ok(None);
        };
        if let Some(site) = self.overflow_sites.pointer(index) {
            // SAFETY: the record is ours since we took it, and the site with it; zeroed.
            unsafe {
                (*site).process = index;
                (*site).end = heaptrace_common::stack::StackEnd::NotWalked as u8;
                (&raw mut (*site).ready).write_volatile(1);
            }
        }
        let share = self.shares.of(uid, index);
        if self.shares.joined(share) {
            self.cursors.add(offset_of!(Cursors, shares), 1);
        }
        self.processes.set(index, ProcessRecord { share, ..record });
        self.set_index(record.tgid, index)?;
        Ok(Some(index))
    }

    /// Removes live blocks of processes that have ended.
    pub fn remove_blocks(&self, blocks: &[LiveKey]) -> io::Result<()> {
        let Removed { spilled, grown } = self.live.remove(blocks)?;
        let mut spilled = spilled.into_iter().peekable();
        let mut spilled_count = 0_u64;
        for block in blocks {
            // In the order of `blocks`.
            let was_spilled = spilled.next_if_eq(block).is_some();
            spilled_count += u64::from(was_spilled);
            if let Some(record) = self.process(block.process) {
                self.shares.removed(record.share, was_spilled);
            }
        }
        self.cursors.subtract(offset_of!(Cursors, spilled), spilled_count);
        self.cursors.subtract(offset_of!(Cursors, grown_live), grown);
        Ok(())
    }

    /// Says, for all processes, whether calls count: one of `phase`.
    pub fn set_phase(&self, phase: u64) {
        self.phase.set(0, phase);
    }

    /// Says that all probes of a process are in place: from here on its calls count.
    pub fn arm(&self, record: u32, now_ns: u64) {
        if let Some(record) = self.processes.pointer(record) {
            // SAFETY: within the mapping; the BPF side only reads these fields of a running record.
            unsafe {
                if (&raw const (*record).armed).read_volatile() == armed::YES {
                    return;
                }
                (&raw mut (*record).armed).write_volatile(armed::YES);
                begin_armed(record, now_ns);
            }
        }
    }

    /// Says that the calls of a process do not count for a while, from `since_ns` on, as its probes are away on purpose. As
    /// [`Maps::disarm`].
    pub fn pause(&self, record: u32, since_ns: u64) {
        if let Some(record) = self.processes.pointer(record) {
            // SAFETY: as in `arm`.
            unsafe {
                (&raw mut (*record).armed).write_volatile(armed::PAUSED);
                begin_armed(record, since_ns);
            }
        }
    }

    /// Says that the calls of a process do not count any more. Before any of its probes is taken away: else a block's
    /// free could be missed whose allocation was seen.
    pub fn disarm(&self, record: u32) {
        if let Some(record) = self.processes.pointer(record) {
            // SAFETY: as in `arm`.
            unsafe { (&raw mut (*record).armed).write_volatile(armed::NO) };
        }
    }

    /// Forgets the calls of `records` whose results are still to come. While these are disarmed or have ended, and once no program runs
    /// that began before: calls that begin meanwhile are not seen, and one of them may lie where a kept one did.
    pub fn forget_calls(&self, records: &[u32]) {
        for at in (0..self.pending.entries).filter_map(|index| self.pending.pointer(index)) {
            // SAFETY: within the mapping; the BPF side changes keys by exchange only, and fields of claimed places only.
            unsafe {
                let key = AtomicU64::from_ptr(&raw mut (*at).key);
                let held = key.load(Ordering::Acquire);
                if held > BEING_MADE && records.contains(&(&raw const (*at).process).read_volatile()) {
                    let _ = key.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Relaxed);
                }
            }
        }
        for at in records.iter().filter_map(|record| self.processes.pointer(*record)) {
            // SAFETY: within the mapping, aligned; the BPF side adds to it and subtracts.
            unsafe { AtomicU64::from_ptr(&raw mut (*at).calls_under_way) }.store(0, Ordering::Release);
        }
    }

    /// Ends a record whose process runs on; its calls do not count any more.
    pub fn leave_out(&self, record: u32, now_ns: u64) {
        self.end(record, now_ns, process_state::LEFT_OUT);
    }

    /// Ends a record whose process is gone.
    pub fn exited(&self, record: u32, now_ns: u64) {
        self.end(record, now_ns, process_state::EXITED);
    }

    fn end(&self, record: u32, now_ns: u64, ended: u64) {
        self.disarm(record);
        if let Some(record) = self.processes.pointer(record) {
            // SAFETY: within the mapping, aligned; the BPF side changes the state by exchange only.
            unsafe {
                (&raw mut (*record).ended_ns).write_volatile(now_ns);
                let state = AtomicU64::from_ptr(&raw mut (*record).state);
                let _ = state.compare_exchange(
                    process_state::RUNNING,
                    ended,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
            }
        }
    }

    /// Says what the BPF side is to make of `tgid`: a record's index or one of `process_index`.
    pub fn set_index(&mut self, tgid: u32, index: u32) -> Result<(), aya::maps::MapError> {
        self.process_index.insert(tgid, index, 0)?;
        self.process_cache.set(tgid & 0xffff, u64::from(tgid) << 32 | u64::from(index));
        Ok(())
    }

    /// Has the cache not name records of which nothing is expected any more: a program that ran while a process was let go of
    /// may have put one in. Before it is waited for such programs, and after.
    pub fn forget_cached(&self, records: &[u32]) {
        for record in records {
            let Some(tgid) = self.process(*record).map(|record| record.tgid) else { continue };
            let held = u64::from(tgid) << 32 | u64::from(*record);
            if let Some(at) = self.process_cache.pointer(tgid & 0xffff) {
                // SAFETY: an element of the map, aligned; the BPF side reads and writes it whole.
                let cell = unsafe { AtomicU64::from_ptr(at) };
                let _ = cell.compare_exchange(held, 0, Ordering::AcqRel, Ordering::Relaxed);
            }
        }
    }

    /// Forgets `tgid`.
    pub fn clear_index(&mut self, tgid: u32) -> Result<(), aya::maps::MapError> {
        self.process_index.remove(&tgid)?;
        self.process_cache.set(tgid & 0xffff, 0);
        Ok(())
    }

    /// The record of `tgid`, if it is a target now. `None` while it runs in its parent's memory.
    pub fn index_of(&self, tgid: u32) -> Option<u32> {
        let index = self.process_index.get(&tgid, 0).ok()?;
        self.processes.get(index).is_some_and(|record| record.tgid == tgid).then_some(index)
    }

    /// Blocks that the live table has room for now.
    pub fn live_capacity(&self) -> u32 {
        self.first_live.saturating_add(self.live.grown_blocks())
    }

    /// The live blocks.
    pub fn live(&self) -> &LiveTable {
        &self.live
    }

    /// The row of the table of probes that says `record`. `None` if the table is full.
    pub fn probe_row(&mut self, record: &ProbeRecord) -> Option<u32> {
        if let Some(row) = self.probe_rows.get(record) {
            return Some(*row);
        }
        let row = self.probe_rows.len() as u32;
        self.probes.set(row, *record).then(|| {
            self.probe_rows.insert(*record, row);
            row
        })
    }

    /// The counters, summed over CPUs.
    pub fn counters(&self) -> Result<Counters, aya::maps::MapError> {
        let mut sums = [0; Counter::COUNT];
        for (index, sum) in sums.iter_mut().enumerate() {
            *sum = self.counters.get(&(index as u32), 0)?.iter().sum();
        }
        Ok(Counters(sums))
    }
}

/// When a record's calls began to count, or were to: once.
///
/// # Safety
/// `record` must be within the mapping.
unsafe fn begin_armed(record: *mut ProcessRecord, now_ns: u64) {
    // SAFETY: by the caller; the BPF side only reads the field of a running record.
    unsafe {
        if (&raw const (*record).armed_ns).read_volatile() == 0 {
            (&raw mut (*record).armed_ns).write_volatile(now_ns);
        }
    }
}
