//! What is retired: records of processes that have ended, with their sites, and nodes of stacks that no site has. Their places
//! are used again.

use super::{maps::Maps, nodes::Marks};
use heaptrace_common::record::Cursors;
use std::{collections::HashSet, io, mem::offset_of};

/// A record and its sites, of which all has been read.
#[derive(Clone, Debug)]
pub struct Retired {
    pub record: u32,
    /// Without the one for what found no room.
    pub sites: Vec<u32>,
}

impl Maps {
    /// The records that were taken since the last call; some may still be filled in.
    pub fn new_records(&mut self) -> Vec<u32> {
        let made = self.process_count();
        self.given_back.records.taken(made, self.cursors.of_records())
    }

    /// The same of sites.
    pub fn new_sites(&mut self) -> Vec<u32> {
        let made = self.sites_made();
        self.given_back.sites.taken(made, self.cursors.of_sites())
    }

    /// Whether so much of a table is used that what can be retired should be: before those grow that can.
    pub fn is_filling(&self) -> bool {
        let used = self.cursors.read();
        let sites = used.sites.saturating_sub(used.sites_given - used.sites_taken);
        self.records_used() >= u64::from(self.processes.entries) / 4
            || sites >= (used.low_sites / 4 * 3).min(u64::from(self.max_sites) / 2).max(1)
            || self.has_many_nodes()
    }

    /// What the size classes of sites have carried: keys and values of the table of that.
    ///
    /// # Errors
    /// If the kernel does not let us read it.
    pub fn carried_sizes(&self) -> io::Result<Vec<(u64, u64)>> {
        self.given_back.carried_sizes()
    }

    /// Has `others` that were made by an exec have shares of their own, if theirs are those of `retired` records: an image has
    /// the share of the one before. Only trusted users' processes have such, which are held to no bound.
    pub fn part_shares(&self, others: impl Iterator<Item = u32>, retired: &HashSet<u32>) {
        for record in others {
            if let Some(of) = self.process(record).filter(|of| retired.contains(&of.share))
                && let Some(at) = self.processes.pointer(record)
            {
                // SAFETY: within the mapping, aligned; the BPF side reads it whole.
                unsafe { (&raw mut (*at).share).write_volatile(record) };
                if self.shares.joined(record) {
                    self.cursors.add(offset_of!(Cursors, shares), 1);
                }
                if self.shares.left(of.share, 0, 0) {
                    self.cursors.subtract(offset_of!(Cursors, shares), 1);
                }
            }
        }
    }

    /// Whether so many records are used that those that can be retired must not wait.
    pub fn has_few_records(&self) -> bool {
        self.records_used() >= u64::from(self.processes.entries) / 2
    }

    fn records_used(&self) -> u64 {
        let used = self.cursors.read();
        used.processes.saturating_sub(used.records_given - used.records_taken)
    }

    /// Gives records back, and their sites. Nothing runs any more that began while their processes lived, their live blocks
    /// are removed, and nobody asks for them any more.
    ///
    /// # Errors
    /// If the kernel does not let us; then their places stay taken.
    pub fn retire(&mut self, retired: &[Retired]) -> io::Result<()> {
        for Retired { record, sites } in retired {
            let Some(of) = self.process(*record) else { continue };
            if self.shares.left(of.share, sites.len() as u32, of.calls_under_way as u32) {
                self.cursors.subtract(offset_of!(Cursors, shares), 1);
            }
            for number in sites {
                if let Some(site) = self.grown.site(*number) {
                    self.given_back.index.remove(*number, &site);
                }
                self.grown.clear_site(*number);
                self.estimates.clear(*number);
                if let Some(lifetimes) = &self.lifetimes {
                    lifetimes.clear(*number);
                }
            }
        }
        let records: Vec<u32> = retired.iter().map(|of| of.record).collect();
        self.forget_cached(&records);
        self.forget_calls(&records);
        for record in &records {
            self.overflow_sites.clear(*record);
            self.estimates.clear(self.overflow_site(*record));
            if let Some(lifetimes) = &self.lifetimes {
                lifetimes.clear(self.overflow_site(*record));
            }
            self.statistics.clear(*record);
            self.processes.clear(*record);
        }
        let sites = retired.iter().flat_map(|of| of.sites.iter().copied());
        let overflow = records.iter().map(|record| self.overflow_site(*record));
        // Who has a number next would have what its sizes carried: rather nobody has it.
        self.given_back.forget_carried(&sites.clone().chain(overflow).collect())?;
        self.given_back.sites.give(sites, self.cursors.of_sites());
        self.given_back.records.give(records, self.cursors.of_records());
        Ok(())
    }

    /// Whether there are so many nodes of stacks that those of retired sites should be looked for: before there is room for
    /// more, and not again until there are many new ones.
    pub fn has_many_nodes(&self) -> bool {
        let used = self.cursors.read();
        let low = used.low_nodes.min(self.max_nodes);
        used.nodes >= (low / 4 * 3).max(self.given_back.nodes_left + low / 8).min(low - low / 16)
    }

    /// Takes nodes that no site has out of sight: see [`Self::free_hidden_nodes`].
    pub fn hide_nodes(&self) {
        self.grown.nodes.hide(&self.marked_nodes());
    }

    /// Frees the places of nodes that went out of sight, once no program runs that began before they did.
    pub fn free_hidden_nodes(&mut self) {
        let freed = self.grown.nodes.free_hidden(&self.marked_nodes());
        for (share, count) in &freed {
            self.shares.frames_gone(*share, *count);
        }
        let count = freed.into_values().map(u64::from).sum();
        self.cursors.subtract(offset_of!(Cursors, nodes), count);
        self.given_back.nodes_left = self.cursors.read().nodes;
    }

    fn marked_nodes(&self) -> Marks {
        self.grown.nodes.mark(self.grown.stacks(self.sites_made()))
    }
}

/// Waits until no BPF program of ours runs that began before: they run where RCU looks (`bpf_prog_run_array_uprobe`,
/// include/linux/trace_events.h; `uprobe_prog_run` and `__bpf_trace_run`, kernel/trace/bpf_trace.c), and
/// `MEMBARRIER_CMD_GLOBAL` waits for that (kernel/sched/membarrier.c). Takes some ten milliseconds.
///
/// # Errors
/// Where the kernel cannot: with CPUs that are `nohz_full`.
pub fn wait_for_programs() -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
