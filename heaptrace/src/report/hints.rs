//! What a recording suggests to do, in plain words, each with the numbers that it goes by. Nothing is guessed that a recording does
//! not have: how long single blocks lived, and their exact sizes, it has not.

use super::{
    Options,
    churn::{most_are_of, traced_s},
    labels::{LabelId, Labels},
    select::chosen,
    table::place,
    verdicts,
};
use crate::{
    model::{ProcessId, Profile, SizeHistogram, StackId, Totals},
    units::{counted, human, percent, thousands},
};
use heaptrace_common::function::Function;
use std::{cmp::Reverse, collections::BTreeMap};

/// Hints of a kind.
const SHOWN: usize = 3;

/// Calls from which on something is worth a word.
const MANY: u64 = 10_000;
/// A second.
const OFTEN: f64 = 1_000.0;
const MILLIONS: u64 = 1_000_000;
/// Bytes of a small block.
const SMALL: u64 = 128;

/// Parts of the names of functions that make room for more by moving all that is there, of libraries that are hidden.
const GROWS: [&str; 9] = [
    "_M_realloc_",
    "_M_default_append",
    "_M_range_insert",
    "basic_string<char, std::char_traits<char>, std::allocator<char> >::_M_mutate",
    "__push_back_slow_path",
    "finish_grow",
    "grow_one",
    "grow_amortized",
    "do_reserve_and_handle",
];

/// What the lines of one place come to.
#[derive(Default)]
struct Of {
    totals: Totals,
    sizes: SizeHistogram,
    /// By realloc, or by what a library grows with.
    grown: Totals,
}

/// The hints, one line each, the weightiest of each kind first.
pub(super) fn lines(profile: &Profile, options: &Options) -> Vec<String> {
    let labels = Labels::attributed(profile, &options.frames);
    let mut places: BTreeMap<(ProcessId, Option<LabelId>), Of> = BTreeMap::new();
    for site in &profile.sites {
        if !profile.processes.get(site.process.index()).is_some_and(|process| chosen(process, options)) {
            continue;
        }
        let of = places.entry((site.process, labels.walk_shown(Some(site.stack)).next())).or_default();
        of.totals.add(&site.totals);
        of.sizes.add(&site.sizes);
        if matches!(site.function, Function::Realloc | Function::ReallocArray) || grows(&labels, site.stack) {
            of.grown.add(&site.totals);
        }
    }
    let all = places.values().fold(0, |sum: u64, of| sum.saturating_add(of.totals.alloc_bytes));
    let about = if profile.mode.sample_bytes() == 0 { "" } else { "about " };
    let name = |(process, label): &(ProcessId, Option<LabelId>)| place(profile, &labels, *process, *label);
    let rate = |(process, _): &(ProcessId, Option<LabelId>), count: u64| {
        let seconds = profile.processes.get(process.index()).map_or(0.0, |of| traced_s(of, profile));
        count as f64 / seconds.max(1e-9)
    };
    let mut hints = Vec::new();

    let is_sampled = profile.mode.sample_bytes() != 0;
    hints.extend(verdicts::leaking(profile, options, &labels).iter().take(SHOWN).map(|of| {
        format!(
            "look for what is not freed: {}: {}",
            name(&(of.process, Some(of.label))),
            verdicts::in_words(&of.judgement, is_sampled)
        )
    }));

    let grown = |of: &Of| of.grown.alloc_count >= MANY && of.grown.alloc_bytes >= all / 100;
    hints.extend(weightiest(&places, |_, of| grown(of).then_some(of.grown.alloc_bytes)).map(|(key, of)| {
        format!(
            "reserve room beforehand: {}: {about}{} that make room step by step asked for {}, of which {} is live",
            name(key),
            counted(of.grown.alloc_count, "call", "calls"),
            human(of.grown.alloc_bytes),
            human(of.grown.live_bytes())
        )
    }));

    if profile.mode.has_frees() {
        let one_class =
            |of: &Of| of.sizes.0.iter().max().is_some_and(|most| percent(*most, of.sizes.total()) >= 90.0);
        let is_short = |of: &Of| {
            let Totals { alloc_count, free_count, .. } = of.totals;
            alloc_count >= MANY && percent(free_count, alloc_count) >= 99.0 && one_class(of)
        };
        let often = |key: &_, of: &Of| {
            let count = of.totals.free_count;
            (is_short(of) && rate(key, count) >= OFTEN).then_some(count)
        };
        hints.extend(weightiest(&places, often).map(|(key, of)| {
            format!(
                "use a buffer again: {}: {about}{} blocks a second were allocated and freed, most of {}; {} live at the end",
                name(key),
                thousands(rate(key, of.totals.free_count).round() as u64),
                most(of),
                counted(of.totals.live_count(), "is", "are"),
            )
        }));
    }

    let is_pool = |_: &_, of: &Of| {
        let (bytes, count) = (of.totals.live_bytes(), of.totals.live_count());
        (count >= MILLIONS && bytes / count <= SMALL).then_some(count)
    };
    hints.extend(weightiest(&places, is_pool).map(|(key, of)| {
        let (bytes, count) = (of.totals.live_bytes(), of.totals.live_count());
        format!(
            "keep them in larger pieces (a pool, an array): {}: {about}{} blocks of {} bytes on average are live, most of {}, and \
             each has the allocator's own share beside it",
            name(key),
            thousands(count),
            thousands(bytes / count.max(1)),
            most(of)
        )
    }));
    hints
}

/// `64 to 127 bytes`: what most are of.
fn most(of: &Of) -> String {
    most_are_of(&of.sizes).map_or_else(|| "no known size".to_owned(), |(range, _)| format!("{range} bytes"))
}

fn weightiest<K>(
    places: &BTreeMap<K, Of>,
    weight: impl Fn(&K, &Of) -> Option<u64>,
) -> impl Iterator<Item = (&K, &Of)> {
    let mut chosen: Vec<_> =
        places.iter().filter_map(|(key, of)| Some((weight(key, of)?, key, of))).collect();
    chosen.sort_by_key(|(weight, ..)| Reverse(*weight));
    chosen.into_iter().take(SHOWN).map(|(_, key, of)| (key, of))
}

/// Whether what is hidden of a stack makes room step by step.
fn grows(labels: &Labels<'_>, stack: StackId) -> bool {
    let hidden = labels.walk(Some(stack)).take(labels.folded(Some(stack)));
    hidden.into_iter().any(|label| GROWS.iter().any(|part| labels.get(label).name.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::full;

    fn with(site: usize, alloc: (u64, u64), free: (u64, u64), class: usize) -> Vec<String> {
        let mut profile = full();
        let of = &mut profile.sites[site];
        (of.totals.alloc_bytes, of.totals.alloc_count) = alloc;
        (of.totals.free_bytes, of.totals.free_count) = free;
        of.sizes.0 = vec![0; class + 1];
        of.sizes.0[class] = alloc.1;
        lines(&profile, &Options::default())
    }

    #[test]
    fn nothing_is_said_where_nothing_stands_out() {
        assert_eq!(lines(&full(), &Options::default()), [""; 0]);
    }

    #[test]
    fn each_hint_has_its_numbers() {
        let grown = with(2, (80_000_000, 20_000), (79_990_000, 19_999), 12);
        assert!(
            grown.contains(
                &"reserve room beforehand: buffer::grow buffer.rs:35 (inlined) in app:42: 20,000 calls that make room step by step \
                  asked for 76.3 MiB, of which 9.8 KiB is live"
                    .to_owned()
            ),
            "{grown:?}"
        );
        let reused = with(9, (96_000_000, 1_000_000), (95_990_000, 999_990), 7);
        assert!(
            reused.iter().any(|hint| hint
                .starts_with("use a buffer again: load load.rs:5 in app:42: 199,998 blocks a second")
                && hint.contains("most of 64 to 127 bytes; 9 are live")),
            "{reused:?}"
        );
        let pool = with(9, (96_000_000, 2_000_000), (0, 0), 6);
        assert!(
            pool.iter().any(|hint| hint.contains(
                "(a pool, an array): load load.rs:5 in app:42: 1,999,999 blocks of 47 bytes on average"
            )),
            "{pool:?}"
        );
    }

    #[test]
    fn what_a_library_grows_with_counts_as_growth() {
        let mut profile = full();
        profile.symbols[0][0].name = "std::vector<int, std::allocator<int> >::_M_realloc_append".into();
        let labels = Labels::attributed(&profile, &Options::default().frames).len();
        assert!(labels > 0);
        let options = Options::default();
        let labels = Labels::attributed(&profile, &options.frames);
        assert!(grows(&labels, StackId(0)) && !grows(&labels, StackId(2)));
    }
}
