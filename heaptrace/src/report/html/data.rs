//! What the page is given beside its tables: what was recorded, processes, the timeline, histograms, and what is missing.

use super::rows::key;
use crate::model::{History, Profile, SizeHistogram};
use crate::printable::printable;
use crate::report::json::{self, SizeClass, size_classes};
use crate::report::remarks::{remarks, title};
use crate::report::select::chosen;
use crate::report::stacks::Stacks;
use crate::report::table::process_name;
use crate::report::{Options, footer, text};
use crate::units::in_seconds;
use clap::ValueEnum as _;
use serde::Serialize;
use std::borrow::Cow;

/// The first piece of data. What is in the JSON report, too, has the same keys.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    #[serde(flatten)]
    head: json::Head<'a>,
    processes: json::Processes<'a>,
    /// In their order.
    process_names: Vec<String>,
    view: String,
    mode_text: String,
    live_is_bound: bool,
    measures: Vec<MeasureData>,
    /// Number of the measure that the report is about.
    main: usize,
    modules: Vec<Cow<'a, str>>,
    /// Why there is nothing to show, if so.
    empty: Vec<String>,
    /// What is missing from the numbers, then all else that is to be known of them.
    losses: Vec<String>,
    remarks: Vec<String>,
    hidden: Option<String>,
    sizes: Option<Sizes>,
    history: Option<Past>,
    /// Named moments, in their order.
    marks: Vec<Mark<'a>>,
    /// All frames are shown from the beginning.
    raw_frames: bool,
}

#[derive(Serialize)]
struct Mark<'a> {
    at_s: f64,
    name: &'a str,
}

#[derive(Serialize)]
struct MeasureData {
    key: &'static str,
    bytes_title: String,
    count_title: String,
    bytes: u64,
    count: u64,
}

/// Allocations by size, which are of blocks that were sampled where they are.
#[derive(Serialize)]
struct Sizes {
    all: Vec<SizeClass>,
    /// By process.
    processes: Vec<Vec<SizeClass>>,
    /// Blocks whose size was not kept.
    unknown: u64,
}

/// Sums over time, column by column.
#[derive(Serialize)]
struct Past {
    saved: u64,
    at_s: Vec<f64>,
    live_bytes: Vec<u64>,
    live_count: Vec<u64>,
    alloc_bytes: Vec<u64>,
    alloc_count: Vec<u64>,
    rss_bytes: Vec<u64>,
}

impl<'a> Data<'a> {
    pub fn new(stacks: &Stacks<'a>, options: &'a Options) -> Self {
        let profile = stacks.profile;
        let json::Document { head, processes, .. } = json::document(profile, options);
        let total = stacks.total();
        let measures = stacks.measures.iter().zip(total).zip(stacks.hidden.amounts);
        let measures = measures.map(|((measure, shown), hidden)| MeasureData {
            key: key(*measure),
            bytes_title: title(profile.mode, *measure, true),
            count_title: title(profile.mode, *measure, false),
            bytes: shown.bytes.saturating_add(hidden.bytes),
            count: shown.count.saturating_add(hidden.count),
        });
        let losses = footer::losses(profile);
        let mut remarks = remarks(stacks);
        remarks.retain(|line| !losses.contains(line));
        let of = |process: &&crate::model::Process| chosen(process, options);
        Self {
            head,
            processes,
            process_names: profile.processes.iter().filter(of).map(process_name).collect(),
            view: options.view.to_possible_value().map_or_else(String::new, |of| of.get_name().to_owned()),
            mode_text: footer::mode(profile.mode),
            live_is_bound: profile.mode.ends_unseen(),
            measures: measures.collect(),
            main: stacks.main,
            modules: profile.modules.iter().map(|module| printable(&module.path)).collect(),
            empty: if stacks.rows.is_empty() { text::why_empty(profile, options) } else { Vec::new() },
            losses,
            remarks,
            hidden: stacks.not_shown(),
            sizes: sizes(profile, options),
            history: profile.history.as_ref().map(Past::new),
            marks: marks(profile),
            raw_frames: !options.frames.hides(),
        }
    }
}

impl Past {
    fn new(history: &History) -> Self {
        let moments = &history.moments;
        Self {
            saved: history.saved,
            at_s: moments.iter().map(|moment| in_seconds(moment.at_ns)).collect(),
            live_bytes: moments.iter().map(|moment| moment.live.bytes).collect(),
            live_count: moments.iter().map(|moment| moment.live.count).collect(),
            alloc_bytes: moments.iter().map(|moment| moment.allocated.bytes).collect(),
            alloc_count: moments.iter().map(|moment| moment.allocated.count).collect(),
            rss_bytes: moments.iter().map(|moment| moment.rss_bytes).collect(),
        }
    }
}

/// Those of a recording up to its end, or to that of the part that is shown.
fn marks(profile: &Profile) -> Vec<Mark<'_>> {
    let mut marks: Vec<_> =
        profile.coverage.notes.marks().filter(|(at_ns, _)| *at_ns <= profile.duration_ns).collect();
    marks.sort_by_key(|(at_ns, _)| *at_ns);
    marks.into_iter().map(|(at_ns, name)| Mark { at_s: in_seconds(at_ns), name }).collect()
}

/// `None` where blocks are sampled, as the sizes of samples are not those of all blocks, and where there are none.
fn sizes(profile: &Profile, options: &Options) -> Option<Sizes> {
    if !options.view.is_of_blocks() || profile.mode.sample_bytes() > 0 {
        return None;
    }
    let mut by_process = vec![SizeHistogram::default(); profile.processes.len()];
    for site in &profile.sites {
        if let Some(sizes) = by_process.get_mut(site.process.index()) {
            sizes.add(&site.sizes);
        }
    }
    let shown = profile.processes.iter().zip(&by_process).filter(|(process, _)| chosen(process, options));
    let mut all = SizeHistogram::default();
    shown.clone().for_each(|(_, sizes)| all.add(sizes));
    let allocated = shown.clone().fold(0, |sum: u64, (of, _)| sum.saturating_add(of.totals.alloc_count));
    Some(Sizes {
        unknown: allocated.saturating_sub(all.total()),
        all: size_classes(&all),
        processes: shown.map(|(_, sizes)| size_classes(sizes)).collect(),
    })
}
