//! Which bytes a report is about: the one place where view and filters become numbers.

pub(super) use super::quantity::Estimated;
use super::{Options, View, quantity::Quantity};
use crate::model::{
    Amount, Apart, Estimate, Mode, Process, ProcessId, Profile, Samples, Site, StackId, Sums, ThreadId,
    Totals,
};
use heaptrace_common::function::Function;

/// What something has in the chosen view; `freed` only where that is all allocations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Weight {
    pub quantity: Quantity,
    pub freed: Amount,
    /// Age of the oldest live block.
    pub oldest_ns: Option<u64>,
}

impl Estimated {
    pub fn new(sums: &Sums, apart: Apart) -> Self {
        Self { bytes: Estimate::bytes(sums, apart), count: Estimate::count(sums, apart) }
    }

    /// Of live blocks of a site: at most so much, where frees were not traced.
    pub fn of_live(sums: &Sums, site: &Site, profile: &Profile) -> Self {
        Self::new(sums, apart(site, profile)).bounded(profile.mode)
    }

    /// What `samples` has live.
    fn live(samples: &Samples, apart: Apart, mode: Mode) -> Self {
        let sums = samples.live();
        let mut live = Self::new(&sums, apart);
        if sums.samples == 0 {
            // What may be live without a sample has sizes like what was allocated, and not of a byte each.
            let all = [samples.allocated, samples.freed, samples.gone];
            let [allocated, freed, gone] = all.map(|sums| Estimate::count(&sums, apart));
            live.count = allocated - freed - gone;
        }
        live.bounded(mode)
    }

    fn bounded(self, mode: Mode) -> Self {
        if mode.has_frees() {
            return self;
        }
        Self { bytes: self.bytes.as_bound(), count: self.count.as_bound() }
    }
}

impl Weight {
    pub fn add(&mut self, other: &Self) {
        self.quantity.add(&other.quantity);
        self.freed.add(other.freed);
        self.oldest_ns = self.oldest_ns.max(other.oldest_ns);
    }

    pub fn bytes(&self) -> u64 {
        self.quantity.amount().bytes
    }

    pub fn count(&self) -> u64 {
        self.quantity.amount().count
    }

    /// Blocks of 0 bytes are blocks.
    pub fn is_empty(&self) -> bool {
        self.quantity.amount() == Amount::default()
    }
}

/// A site with something in the chosen view.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub process: ProcessId,
    /// `None` for what a process allocated beyond the sites that were kept.
    pub stack: Option<StackId>,
    pub function: Function,
    /// `None` where sites are not told apart by thread, and beyond those that were kept.
    pub thread: Option<ThreadId>,
    pub weight: Weight,
}

/// The entries that `options` choose, before `min_bytes`, and their sum.
pub(super) struct Selection {
    pub entries: Vec<Entry>,
    pub total: Weight,
}

/// How far a site's samples lie apart.
fn apart(site: &Site, profile: &Profile) -> Apart {
    let process = profile.processes.get(site.process.index());
    let own = process.filter(|_| site.function == Function::Sampled).map(|process| process.own_sample_bytes);
    Apart { own, ..Apart::chosen(profile.mode.sample_bytes()) }
}

/// How sure what a site of a recording has in a view is.
pub(super) fn estimated(site: &Site, profile: &Profile, view: View) -> Option<Estimated> {
    let (samples, apart) = (site.samples.as_ref()?, apart(site, profile));
    Some(match view {
        View::Live | View::Leaks | View::Rss => Estimated::live(samples, apart, profile.mode),
        View::Churn => Estimated::new(&samples.freed, apart),
        View::Alloc | View::Sizes | View::Growth | View::Faults => Estimated::new(&samples.allocated, apart),
    })
}

/// The same of each process, what its sites come to: nothing, where it has none; and of no process where blocks are not sampled.
pub(super) fn estimated_processes(profile: &Profile, view: View) -> Vec<Estimated> {
    let mean = profile.mode.sample_bytes();
    if mean == 0 {
        return Vec::new();
    }
    let mut sums = vec![None; profile.processes.len()];
    for site in &profile.sites {
        if let (Some(sum), Some(part)) = (sums.get_mut(site.process.index()), estimated(site, profile, view))
        {
            *sum = Some(sum.map_or(part, |sum: Estimated| sum.with(part)));
        }
    }
    let none = Estimated::new(&Sums::default(), Apart::chosen(mean));
    sums.into_iter().map(|sum| sum.unwrap_or(none)).collect()
}

/// Between what numbers of live bytes the truth lies 95 times in 100, for each process; of none where blocks are not sampled.
pub fn live_intervals(profile: &Profile) -> Vec<(u64, u64)> {
    let live = estimated_processes(profile, View::Live);
    live.into_iter().map(|estimated| estimated.bytes.interval95()).collect()
}

/// What a site has in a view.
pub(super) fn weight_of(site: &Site, profile: &Profile, view: View) -> Weight {
    Weight {
        quantity: Quantity::new(amount_of(&site.totals, view), estimated(site, profile, view)),
        freed: freed_of(&site.totals, view),
        oldest_ns: site.oldest_age_ns,
    }
}

/// What is shown of it.
pub(super) fn amount_of(totals: &Totals, view: View) -> Amount {
    let (bytes, count) = match view {
        View::Live | View::Leaks | View::Rss => (totals.live_bytes(), totals.live_count()),
        View::Churn => (totals.free_bytes, totals.free_count),
        View::Growth | View::Faults | View::Alloc | View::Sizes => (totals.alloc_bytes, totals.alloc_count),
    };
    Amount { bytes, count }
}

fn freed_of(totals: &Totals, view: View) -> Amount {
    match view {
        View::Alloc | View::Sizes => Amount { bytes: totals.free_bytes, count: totals.free_count },
        View::Live | View::Leaks | View::Churn | View::Rss | View::Growth | View::Faults => Amount::default(),
    }
}

/// The sites that a view is about.
pub(super) fn sites(profile: &Profile, view: View) -> impl Iterator<Item = &Site> {
    let sites = if view.is_of_blocks() { &profile.sites } else { &profile.growth };
    sites.iter().filter(move |site| match view {
        View::Growth => site.function.is_growth(),
        View::Faults => site.function == Function::PageFault,
        View::Live | View::Leaks | View::Churn | View::Alloc | View::Sizes | View::Rss => true,
    })
}

/// Whether `options` choose `process`.
pub(super) fn chosen(process: &Process, options: &Options) -> bool {
    options.pid.is_none_or(|pid| pid == process.pid)
}

impl Selection {
    pub fn new(profile: &Profile, options: &Options) -> Self {
        let mut entries = Vec::new();
        let mut accounted = vec![(Amount::default(), Amount::default()); profile.processes.len()];
        for site in sites(profile, options.view) {
            let Some(process) = profile.processes.get(site.process.index()) else { continue };
            if !chosen(process, options) {
                continue;
            }
            let weight = weight_of(site, profile, options.view);
            let (known, freed) = &mut accounted[site.process.index()];
            known.add(weight.quantity.amount());
            freed.add(weight.freed);
            entries.push(Entry {
                process: site.process,
                stack: Some(site.stack),
                function: site.function,
                thread: site.thread,
                weight,
            });
        }
        // Where the table of sites was full, the process knows of more than its sites do.
        for (index, (process, (known, freed))) in (0..).zip(profile.processes.iter().zip(accounted)) {
            if options.view.is_of_blocks() && chosen(process, options) {
                let beyond = |all: Amount, known: Amount| Amount {
                    bytes: all.bytes.saturating_sub(known.bytes),
                    count: all.count.saturating_sub(known.count),
                };
                let weight = Weight {
                    quantity: Quantity::Exact(beyond(amount_of(&process.totals, options.view), known)),
                    freed: beyond(freed_of(&process.totals, options.view), freed),
                    oldest_ns: None,
                };
                let (function, process) = (Function::Unknown, ProcessId(index));
                entries.push(Entry { process, stack: None, function, thread: None, weight });
            }
        }
        entries.retain(|entry| !entry.weight.is_empty());
        let mut total = Weight::default();
        entries.iter().for_each(|entry| total.add(&entry.weight));
        Self { entries, total }
    }
}
