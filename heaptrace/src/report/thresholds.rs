//! What is too much for whoever asked: bytes, or sites that look like leaks. Said with the sites that are to blame.

use super::{
    Options,
    labels::{LabelId, Labels},
    select::{Selection, Weight},
    table::place,
    verdicts,
};
use crate::{
    model::{Amount, ProcessId, Profile, StackId},
    units::{counted, thousands},
};
use std::{cmp::Reverse, collections::HashMap};

/// Sites that are named.
const NAMED: usize = 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// More bytes than this, all together.
    pub above: Option<u64>,
    /// Any site that looks like a leak.
    pub leak_like: bool,
}

/// A site that is to blame.
pub(super) struct Blamed {
    pub name: String,
    pub amount: Amount,
}

/// What of a report is too much, in words; nothing if nothing is.
pub fn crossed(profile: &Profile, options: &Options, thresholds: Thresholds) -> Vec<String> {
    let Thresholds { above, leak_like } = thresholds;
    let mut lines = Vec::new();
    if let Some(most) = above {
        let Selection { mut entries, mut total } = Selection::new(profile, options);
        if options.view.is_live() {
            entries.retain(|of| !ends_heaps(profile, of.process));
            total = Weight::default();
            entries.iter().for_each(|of| total.add(&of.weight));
        }
        // Of an estimate the least that it may be.
        let least = total.quantity.estimated().map_or(total.bytes(), |of| of.bytes.interval95().0);
        if least > most {
            let labels = Labels::attributed(profile, &options.frames);
            let of = entries.iter().map(|of| (of.process, of.stack, of.weight.quantity.amount()));
            let sites = blamed(profile, &labels, of);
            lines.extend(too_much(total.quantity.amount(), most, super::text::units(options.view), &sites));
        }
    }
    if leak_like {
        let labels = Labels::attributed(profile, &options.frames);
        let leaks = verdicts::leaking(profile, options, &labels);
        let is_sampled = profile.mode.sample_bytes() != 0;
        lines.extend(leaks.iter().map(|of| {
            let said = verdicts::in_words(&of.judgement, is_sampled);
            format!("{}: {said}", place(profile, &labels, of.process, Some(of.label)))
        }));
    }
    lines
}

/// Whether a process ended a heap with all its blocks, of which it is not known which they were.
pub(super) fn ends_heaps(profile: &Profile, process: ProcessId) -> bool {
    profile.processes.get(process.index()).is_some_and(|process| process.heaps_ended > 0)
}

/// What does not count as too much, where that is asked for: blocks that may have ended with their heap.
pub fn uncounted_live(profile: &Profile, options: &Options, thresholds: Thresholds) -> Option<String> {
    let mut left_out = Amount::default();
    if thresholds.above.is_some() && options.view.is_live() {
        let Selection { entries, .. } = Selection::new(profile, options);
        let entries = entries.iter().filter(|of| ends_heaps(profile, of.process));
        entries.for_each(|of| left_out.add(of.weight.quantity.amount()));
    }
    uncounted(left_out)
}

/// That so much does not count, if it is anything.
pub(super) fn uncounted(left_out: Amount) -> Option<String> {
    let Amount { bytes, count } = left_out;
    (count > 0).then(|| {
        format!(
            "--fail-above: {} bytes in {} do not count, of processes that ended a heap with all its blocks: these may be among \
             them",
            thousands(bytes),
            counted(count, "block", "blocks")
        )
    })
}

/// The sites of stacks, each with all that its stacks have, the largest first.
pub(super) fn blamed(
    profile: &Profile,
    labels: &Labels<'_>,
    stacks: impl Iterator<Item = (ProcessId, Option<StackId>, Amount)>,
) -> Vec<Blamed> {
    let mut sites: HashMap<(ProcessId, Option<LabelId>), Amount> = HashMap::new();
    for (process, stack, amount) in stacks {
        sites.entry((process, labels.walk_shown(stack).next())).or_default().add(amount);
    }
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by_key(|(key, of)| (Reverse(of.bytes), *key));
    let blamed = |((process, label), amount)| Blamed { name: place(profile, labels, process, label), amount };
    sites.into_iter().map(blamed).collect()
}

/// Whether a recording with blocks can have verdicts: where none of its live sites has what they go by, it has none.
pub fn has_verdicts(profile: &Profile) -> bool {
    let is_live = || profile.sites.iter().any(|site| site.totals.live_count() > 0);
    profile.mode.has_blocks() && (!profile.cohorts.is_empty() || !is_live())
}

/// That there is more than `most`, and where; the largest first.
pub(super) fn too_much(all: Amount, most: u64, (one, many): (&str, &str), sites: &[Blamed]) -> Vec<String> {
    let in_words = |of: Amount| format!("{} bytes in {}", thousands(of.bytes), counted(of.count, one, many));
    let mut lines = vec![format!("{}, more than {} (--fail-above)", in_words(all), thousands(most))];
    lines.extend(sites.iter().take(NAMED).map(|of| format!("  {}: {}", of.name, in_words(of.amount))));
    if sites.len() > NAMED {
        lines.push(format!("  and {}", counted((sites.len() - NAMED) as u64, "more site", "more sites")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fixtures::profiles::{full, sampled},
        model::{COHORTS, Cohort, Cohorts, SiteId},
        report::View,
    };

    fn above(most: u64) -> Thresholds {
        Thresholds { above: Some(most), ..Thresholds::default() }
    }

    #[test]
    fn too_many_bytes_are_told_with_their_sites() {
        let profile = full();
        let lines = crossed(&profile, &Options::default(), above(900_000));
        assert_eq!(lines[0], "951,161 bytes in 31 blocks, more than 900,000 (--fail-above)");
        assert_eq!(lines[1], "  buffer::grow buffer.rs:31 (inlined) in app:42: 850,000 bytes in 16 blocks");
        let all: u64 = profile.processes.iter().map(|of| of.totals.live_bytes()).sum();
        assert!(crossed(&profile, &Options::default(), above(all)).is_empty());
        assert!(!crossed(&profile, &Options::default(), above(all - 1)).is_empty());
        // Of one process, and of calls that map memory.
        let one = Options { pid: Some(43), ..Options::default() };
        assert!(crossed(&profile, &one, above(10_000)).is_empty());
        let growth = Options { view: View::Growth, ..Options::default() };
        assert_eq!(
            crossed(&profile, &growth, above(0))[0],
            "1,216,512 bytes in 9 calls, more than 0 (--fail-above)"
        );
    }

    #[test]
    fn what_may_have_ended_with_its_heap_does_not_count() {
        let mut profile = full();
        let known: u64 = profile.processes[1].totals.live_bytes();
        profile.processes[0].heaps_ended = 1;
        assert!(crossed(&profile, &Options::default(), above(known)).is_empty());
        let lines = crossed(&profile, &Options::default(), above(known - 1));
        assert!(lines[0].starts_with(&format!("{} bytes in ", thousands(known))), "{lines:?}");
        let said = |thresholds| uncounted_live(&profile, &Options::default(), thresholds);
        assert!(
            said(above(0)).is_some_and(|said| said.starts_with("--fail-above: 947,815 bytes in 25 blocks")),
            "{:?}",
            said(above(0))
        );
        assert_eq!(
            (said(Thresholds::default()), uncounted_live(&full(), &Options::default(), above(0))),
            (None, None)
        );
        // All that was allocated is.
        let alloc = Options { view: View::Alloc, ..Options::default() };
        assert!(uncounted_live(&profile, &alloc, above(0)).is_none());
    }

    #[test]
    fn of_estimates_the_least_that_they_may_be_counts() {
        let profile = sampled(true);
        let total = Selection::new(&profile, &Options::default()).total;
        let (least, _) = total.quantity.estimated().expect("samples").bytes.interval95();
        assert!(crossed(&profile, &Options::default(), above(least)).is_empty());
        assert!(!crossed(&profile, &Options::default(), above(least - 1)).is_empty());
    }

    #[test]
    fn sites_that_look_like_leaks_are_named_with_their_evidence() {
        let mut profile = full();
        let thresholds = Thresholds { leak_like: true, ..Thresholds::default() };
        assert!(!has_verdicts(&profile), "what is live was not looked at");
        let part = Cohort { allocated: 10, freed: 5, held_bytes: 1_000, live: 5, live_bytes: 500 };
        let cohorts = Cohorts { span_ns: 60_000_000_000, parts: vec![part; COHORTS] };
        profile.cohorts = [(SiteId(0), cohorts)].into();
        assert!(has_verdicts(&profile));
        let lines = crossed(&profile, &Options::default(), thresholds);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("buffer::grow buffer.rs:31 (inlined) in app:42: LEAK-LIKE: "),
            "{lines:?}"
        );
        let other = Options { pid: Some(43), ..Options::default() };
        assert!(crossed(&profile, &other, thresholds).is_empty());
    }
}
