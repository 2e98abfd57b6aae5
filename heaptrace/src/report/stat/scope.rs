//! The numbers of one process, or of all of them.

use crate::model::{Process, Profile, SizeHistogram, Statistics, ThreadId, Totals};
use heaptrace_common::function::Function;
use std::collections::BTreeMap;

/// Allocations and frees by one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub alloc_count: u64,
    pub alloc_bytes: u64,
    /// Blocks it freed; realloc's are those that it moved or resized.
    pub free_count: u64,
    /// Bytes of those that were known.
    pub free_bytes: u64,
    pub failed_count: u64,
}

/// See the module. `process` holds the sums.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scope {
    pub process: Process,
    pub functions: BTreeMap<Function, Calls>,
    /// What each thread allocated, and what became of that, whoever freed it; the most bytes first. `None` for what found no room
    /// among the sites. Nothing where threads are not told apart, nor of all processes.
    pub threads: Vec<(Option<ThreadId>, Totals)>,
    /// Calls of brk, mmap and mremap that mapped memory, and their bytes.
    pub growth: BTreeMap<Function, Calls>,
    pub sizes: SizeHistogram,
    pub lifetimes: Vec<u64>,
}

/// The scopes of all processes, and their sum.
pub(super) fn scopes(profile: &Profile, statistics: &[Statistics]) -> (Scope, Vec<Scope>) {
    let mut scopes: Vec<Scope> = profile
        .processes
        .iter()
        .map(|process| Scope { process: process.clone(), ..Scope::default() })
        .collect();
    let mut threads: Vec<BTreeMap<ThreadId, Totals>> = vec![BTreeMap::new(); scopes.len()];
    for site in &profile.sites {
        if let Some(scope) = scopes.get_mut(site.process.index()) {
            let calls = scope.functions.entry(site.function).or_default();
            calls.alloc_count = calls.alloc_count.saturating_add(site.totals.alloc_count);
            calls.alloc_bytes = calls.alloc_bytes.saturating_add(site.totals.alloc_bytes);
            scope.sizes.add(&site.sizes);
            if let Some(thread) = site.thread {
                threads[site.process.index()].entry(thread).or_default().add(&site.totals);
            }
        }
    }
    for site in &profile.growth {
        if let Some(scope) = scopes.get_mut(site.process.index()) {
            let calls = scope.growth.entry(site.function).or_default();
            calls.alloc_count = calls.alloc_count.saturating_add(site.totals.alloc_count);
            calls.alloc_bytes = calls.alloc_bytes.saturating_add(site.totals.alloc_bytes);
        }
    }
    for (scope, statistics) in scopes.iter_mut().zip(statistics) {
        scope.lifetimes = statistics.lifetimes.to_vec();
        for (function, counts) in &statistics.functions {
            let calls = scope.functions.entry(*function).or_default();
            calls.free_count = counts.frees;
            calls.free_bytes = counts.free_bytes;
            calls.failed_count = counts.failed;
        }
    }
    if profile.by_thread {
        for (scope, known) in scopes.iter_mut().zip(threads) {
            scope.threads = in_order(&scope.process.totals, known);
        }
    }
    let mut all = Scope::default();
    scopes.iter().for_each(|scope| add(&mut all, scope));
    (all, scopes)
}

/// What threads of a process have, and what is no thread's of all that it has.
fn in_order(all: &Totals, known: BTreeMap<ThreadId, Totals>) -> Vec<(Option<ThreadId>, Totals)> {
    let mut rest = *all;
    known.values().for_each(|totals| rest.subtract(totals));
    let mut threads: Vec<_> = known.into_iter().map(|(thread, totals)| (Some(thread), totals)).collect();
    threads.sort_by_key(|(_, totals)| std::cmp::Reverse((totals.alloc_bytes, totals.alloc_count)));
    threads.extend((rest != Totals::default()).then_some((None, rest)));
    threads
}

fn add(sum: &mut Scope, scope: &Scope) {
    let Scope { process, functions, threads: _, growth, sizes, lifetimes } = scope;
    let to = &mut sum.process;
    to.totals.add(&process.totals);
    to.brk_bytes = to.brk_bytes.saturating_add(process.brk_bytes);
    for (to, from) in [
        (&mut to.peak_live_bytes, process.peak_live_bytes),
        (&mut to.failed_count, process.failed_count),
        (&mut to.unknown_frees, process.unknown_frees),
        (&mut to.missed_frees, process.missed_frees),
        (&mut to.inherited_bytes, process.inherited_bytes),
        (&mut to.inherited_count, process.inherited_count),
        (&mut to.inherited_free_count, process.inherited_free_count),
        (&mut to.lost_bytes, process.lost_bytes),
        (&mut to.lost_count, process.lost_count),
        (&mut to.filtered_bytes, process.filtered_bytes),
        (&mut to.filtered_count, process.filtered_count),
        (&mut to.mmap_bytes, process.mmap_bytes),
        (&mut to.munmap_bytes, process.munmap_bytes),
    ] {
        *to = to.saturating_add(from);
    }
    for (to, from) in [(&mut sum.functions, functions), (&mut sum.growth, growth)] {
        for (function, calls) in from {
            let Calls { alloc_count, alloc_bytes, free_count, free_bytes, failed_count } =
                to.entry(*function).or_default();
            *alloc_count = alloc_count.saturating_add(calls.alloc_count);
            *alloc_bytes = alloc_bytes.saturating_add(calls.alloc_bytes);
            *free_count = free_count.saturating_add(calls.free_count);
            *free_bytes = free_bytes.saturating_add(calls.free_bytes);
            *failed_count = failed_count.saturating_add(calls.failed_count);
        }
    }
    sum.sizes.add(sizes);
    sum.lifetimes.resize(sum.lifetimes.len().max(lifetimes.len()), 0);
    for (sum, count) in sum.lifetimes.iter_mut().zip(lifetimes) {
        *sum = sum.saturating_add(*count);
    }
}
