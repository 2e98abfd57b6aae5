//! Which code is an allocator's own, so that what it calls is no call of the program's.

use super::image::Image;
use super::references::{References, Source};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many functions lie between two probed ones at most.
const MAX_BETWEEN: usize = 3;

/// The most functions that are looked at.
const MAX_FUNCTIONS: usize = 1024;

type Span = (u64, u64);

/// Code from whose calls a hit is no call of the program's.
pub struct OwnCode {
    /// In order.
    pub ranges: Vec<Range<u64>>,
    /// Those that are not the function's own, and the probed functions that reach each.
    pub between: Vec<(Range<u64>, Vec<u64>)>,
}

/// The ranges in `own`, which are those of the function at `entry`, and functions that only probed functions reach and
/// that reach a probed one themselves.
pub fn find(image: &Image<'_>, own: &[Range<u64>], entry: u64, probed: &[u64]) -> OwnCode {
    let mut between = Vec::new();
    if let Some(references) = image.references() {
        let mut roots: BTreeMap<Span, BTreeSet<u64>> = BTreeMap::new();
        for probed in probed {
            let span = image.function(*probed).map(|span| (span.start, span.end));
            span.into_iter().for_each(|span| _ = roots.entry(span).or_default().insert(*probed));
        }
        for range in own {
            roots.entry((range.start, range.end)).or_default().insert(entry);
        }
        let found = self::between(image, references, &roots.keys().copied().collect());
        between.extend(found.iter().map(|span| {
            let reached_by = reached_by(image, references, &roots, *span);
            (span.0..span.1, reached_by.into_iter().collect())
        }));
    }
    let mut ranges: Vec<Range<u64>> =
        own.iter().chain(between.iter().map(|(range, _)| range)).cloned().collect();
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges.dedup();
    OwnCode { ranges, between }
}

/// The probed functions that reach a function between them.
fn reached_by(
    image: &Image<'_>,
    references: &References,
    roots: &BTreeMap<Span, BTreeSet<u64>>,
    span: Span,
) -> BTreeSet<u64> {
    let (mut entries, mut seen, mut waiting) = (BTreeSet::new(), BTreeSet::new(), vec![span]);
    while let Some(span) = waiting.pop() {
        if let Some(of_root) = roots.get(&span) {
            entries.extend(of_root);
        } else if seen.insert(span) {
            waiting.extend(callers(image, references, span).into_iter().flatten());
        }
    }
    entries
}

fn callers(image: &Image<'_>, references: &References, span: Span) -> Option<BTreeSet<Span>> {
    let mut callers = BTreeSet::new();
    let stubs = image.stubs(span.0).iter().flat_map(|stub| references.into(*stub..*stub + 1));
    for (_, source) in references.into(span.0..span.1).iter().chain(stubs) {
        let Source::Branch(from) = source else { return None };
        let function = image.function(*from)?;
        callers.insert((function.start, function.end));
        if callers.len() > MAX_FUNCTIONS {
            return None;
        }
    }
    callers.remove(&span);
    Some(callers)
}

/// Functions on ways from one root to another, that nothing else reaches.
fn between(image: &Image<'_>, references: &References, roots: &BTreeSet<Span>) -> BTreeSet<Span> {
    let mut found: BTreeSet<Span> = BTreeSet::new();
    let mut last: BTreeSet<Span> = roots.clone();
    for _ in 0..MAX_BETWEEN {
        let mut next = BTreeSet::new();
        for span in &last {
            let entries = [span.0].into_iter().chain(image.stubs(span.0).iter().copied());
            for (_, source) in entries.flat_map(|entry| references.into(entry..entry + 1)) {
                let Source::Branch(from) = source else { continue };
                let Some(function) = image.function(*from) else { continue };
                let caller = (function.start, function.end);
                if !roots.contains(&caller) && found.len() < MAX_FUNCTIONS && found.insert(caller) {
                    next.insert(caller);
                }
            }
        }
        last = next;
    }
    found.retain(|span| !image.is_exported(span.0));
    add_cold_parts(image, references, roots, &mut found);
    // What something else reaches is no longer between, nor what that reaches.
    loop {
        let reached: Vec<Span> = found
            .iter()
            .copied()
            .filter(|span| {
                let callers = callers(image, references, *span);
                callers.is_none_or(|callers| {
                    callers.is_empty()
                        || callers.iter().any(|caller| !roots.contains(caller) && !found.contains(caller))
                })
            })
            .collect();
        if reached.is_empty() {
            return found;
        }
        reached.iter().for_each(|span| {
            found.remove(span);
        });
    }
}

/// Adds parts that only functions in `found` and `roots` reach, as what such a part jumps back to would else seem to be
/// reached from elsewhere.
fn add_cold_parts(
    image: &Image<'_>,
    references: &References,
    roots: &BTreeSet<Span>,
    found: &mut BTreeSet<Span>,
) {
    let known = |found: &BTreeSet<Span>, span: &Span| roots.contains(span) || found.contains(span);
    for _ in 0..MAX_BETWEEN {
        let new: Vec<Span> = found
            .iter()
            .filter_map(|span| callers(image, references, *span))
            .flatten()
            .filter(|caller| !known(found, caller) && !image.is_exported(caller.0))
            .filter(|caller| {
                let callers = callers(image, references, *caller);
                callers.is_some_and(|callers| {
                    !callers.is_empty() && callers.iter().all(|caller| known(found, caller))
                })
            })
            .collect();
        if new.is_empty() {
            return;
        }
        found.extend(new);
    }
}
