//! The Firefox Profiler's processed profile: a native allocation for each stack of a process, and live bytes over time.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::{LabelId, Labels};
use super::remarks::{title, title_of};
use super::select::chosen;
use super::stacks::{Measure, Row, Stacks};
use crate::model::{ProcessId, Profile};
use crate::printable::{printable, write_json};
use crate::units::signed;
use fxprof_processed_profile::{
    CategoryHandle, Frame, FrameFlags, FrameInfo, ProcessHandle, ReferenceTimestamp, SamplingInterval,
    StringHandle, ThreadHandle, Timestamp,
};
use std::collections::HashMap;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "firefox",
    help: "Allocation stacks and a memory track, for the Firefox Profiler.",
    files: &["*.firefox.json"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::Peak,
    tells_losses: false,
    render,
};

/// What a frame takes in the profile's tables, beside its name.
const FRAME: u64 = 200;

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::of_main(profile, options);
    stacks.hide_below(options.min_bytes);
    let labels = Labels::new(profile);
    if let Some(memory) = options.memory {
        stacks.cut(memory, |row| {
            labels.walk(row.stack).fold(FRAME, |sum, label| sum + labels.get(label).name.len() as u64 + FRAME)
        });
    }
    let mut made = Made::new(&stacks, &labels);
    for (number, row) in (1..).zip(&stacks.rows) {
        made.allocation(row, number, stacks.bytes(row));
    }
    made.memory(options);
    write_json(&made.made, out)?;
    writeln!(out)?;
    Ok(stacks.not_shown())
}

/// The profile as far as it is made.
struct Made<'a> {
    stacks: &'a Stacks<'a>,
    labels: &'a Labels<'a>,
    made: fxprof_processed_profile::Profile,
    processes: HashMap<ProcessId, (ProcessHandle, ThreadHandle)>,
    names: HashMap<LabelId, StringHandle>,
}

impl<'a> Made<'a> {
    fn new(stacks: &'a Stacks<'a>, labels: &'a Labels<'a>) -> Self {
        let of = stacks.profile;
        let product = format!("heaptrace: {}", title_of(stacks, stacks.main, true));
        let started = ReferenceTimestamp::from_millis_since_unix_epoch(of.started_ns as f64 / 1e6);
        // Stacks have no times, so it is between none.
        let interval = SamplingInterval::from_millis(1);
        let mut made = fxprof_processed_profile::Profile::new(&product, started, interval);
        made.set_os_name(&format!("Linux {} {}", of.host.kernel, of.host.arch));
        // Nobody else is to look for names.
        made.set_symbolicated(true);
        Self { stacks, labels, made, processes: HashMap::new(), names: HashMap::new() }
    }

    fn process(&mut self, id: ProcessId) -> (ProcessHandle, ThreadHandle) {
        let Self { stacks, made, .. } = self;
        *self.processes.entry(id).or_insert_with(|| {
            let process = &stacks.profile.processes[id.index()];
            let (name, start) = (printable(&process.comm), Timestamp::from_nanos_since_reference(0));
            let end = Timestamp::from_nanos_since_reference(stacks.profile.duration_ns);
            let handle = made.add_process(&name, process.pid, start);
            made.set_process_end_time(handle, end);
            // Of its threads nothing is known; one stands for all.
            let thread = made.add_thread(handle, process.pid, start, true);
            made.set_thread_name(thread, &name);
            made.set_thread_end_time(thread, end);
            (handle, thread)
        })
    }

    /// All of a row as one block, which is there in the end; `number` stands for its address.
    fn allocation(&mut self, row: &Row, number: u64, bytes: u64) {
        let (_, thread) = self.process(row.process);
        let Self { stacks, labels, made, names, .. } = self;
        for label in labels.walk(row.stack) {
            names.entry(label).or_insert_with(|| made.intern_string(&labels.get(label).describe()));
        }
        let frames =
            labels.walk_inwards(row.stack).filter_map(|label| names.get(&label)).map(|name| FrameInfo {
                frame: Frame::Label(*name),
                category_pair: CategoryHandle::OTHER.into(),
                flags: FrameFlags::empty(),
            });
        let stack = made.intern_stack_frames(thread, frames);
        let end = Timestamp::from_nanos_since_reference(stacks.profile.duration_ns);
        let bytes = signed(bytes);
        made.add_allocation_sample(thread, end, stack, number, bytes);
    }

    /// What was live over time, of all processes together, as that is what is known.
    fn memory(&mut self, options: &Options) {
        let profile = self.stacks.profile;
        let is_of_blocks = options.view.is_of_blocks();
        let Some(history) = profile.history.as_ref().filter(|_| is_of_blocks) else { return };
        // Those without any stack to show, too: what is not live any more was.
        let of_history = (0..).map(ProcessId).zip(&profile.processes);
        let of_history = of_history.filter(|(_, process)| chosen(process, options)).map(|(id, _)| id);
        let Some(first) = of_history.clone().next() else { return };
        let (process, _) = self.process(first);
        let mut what = title(profile.mode, Measure::Live, true);
        let count = of_history.count();
        if count > 1 {
            what = format!("{what} of {count} processes together");
        }
        let counter = self.made.add_counter(process, "malloc", "Memory", &what);
        let (mut at_ns, mut live, mut calls) = (0, 0, 0);
        for moment in &history.moments {
            // Time does not go back but in damaged recordings.
            at_ns = moment.at_ns.max(at_ns);
            let time = Timestamp::from_nanos_since_reference(at_ns);
            let change = moment.live.bytes as f64 - live as f64;
            let new = moment.allocated.count.saturating_sub(calls);
            self.made.add_counter_sample(counter, time, change, u32::try_from(new).unwrap_or(u32::MAX));
            (live, calls) = (moment.live.bytes, moment.allocated.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{empty, full, large};
    use crate::model::{Amount, History, Moment};
    use crate::report::View;
    use insta::assert_snapshot;
    use serde_json::Value;

    fn rendered(profile: &Profile, options: &Options) -> Value {
        let mut out = Vec::new();
        render(profile, options, &mut out).expect("a vector");
        serde_json::from_slice(&out).expect("JSON")
    }

    /// Bytes of all processes.
    fn bytes(json: &Value) -> u64 {
        let threads = json["threads"].as_array().expect("threads");
        let weights = threads.iter().filter_map(|thread| thread["nativeAllocations"]["weight"].as_array());
        weights.flatten().filter_map(Value::as_u64).sum()
    }

    #[test]
    fn each_stack_is_an_allocation_and_live_bytes_are_a_counter() {
        let mut profile = full();
        let at = |at_ns, bytes| Moment {
            at_ns,
            live: Amount { bytes, count: 1 },
            allocated: Amount { bytes, count: at_ns / 1_000_000_000 },
            ..Moment::default()
        };
        let moments = vec![at(0, 0), at(3_000_000_000, 5_000), at(2_000_000_000, 3_000)];
        profile.history = Some(History { moments, ..History::default() });
        let json = rendered(&profile, &Options { pid: Some(42), ..Options::default() });
        assert_snapshot!(
            serde_json::to_string_pretty(&[
                &json["meta"]["product"],
                &json["meta"]["startTime"],
                &json["meta"]["symbolicated"],
                &json["counters"],
                &json["threads"][0]["nativeAllocations"],
                &json["threads"][0]["stringArray"],
            ])
            .expect("JSON")
        );
    }

    #[test]
    fn the_view_decides_what_allocations_are_of() {
        let sum = |of: fn(&crate::model::Totals) -> u64| {
            full().processes.iter().map(|process| of(&process.totals)).sum::<u64>()
        };
        let of = |view| bytes(&rendered(&full(), &Options { view, ..Options::default() }));
        assert_eq!(of(View::Live), sum(|totals| totals.live_bytes()));
        assert_eq!(of(View::Alloc), sum(|totals| totals.alloc_bytes));
        assert_eq!(of(View::Growth), 1_081_344 + 135_168);
        assert_eq!(bytes(&rendered(&empty(), &Options::default())), 0);
    }

    #[test]
    fn memory_over_time_is_of_all_chosen_processes_whatever_stacks_are_shown() {
        let mut profile = full();
        let live = Amount { bytes: 7_001, count: 1 };
        let moments = vec![Moment::default(), Moment { at_ns: 1_000_000_000, live, ..Moment::default() }];
        profile.history = Some(History { moments, ..History::default() });
        let json =
            rendered(&profile, &Options { min_bytes: 1 << 40, view: View::Alloc, ..Options::default() });
        let counter = &json["counters"][0];
        assert_eq!(counter["description"], "live bytes of 2 processes together");
        assert_eq!(counter["pid"], "42");
        let product = json["meta"]["product"].as_str().expect("a product");
        assert!(
            product.starts_with("heaptrace: allocated bytes; ")
                && product.contains(" smaller stacks not shown: "),
            "{product}"
        );
    }

    #[test]
    fn the_largest_stacks_that_find_room_are_shown() {
        let profile = large(2_000, 20);
        let options = Options { memory: Some(1 << 20), ..Options::default() };
        assert!(render(&profile, &options, &mut io::sink()).expect("a sink").is_some());
        let json = rendered(&profile, &options);
        let shown = json["threads"][0]["nativeAllocations"]["length"].as_u64().expect("a length");
        assert!((100..1_000).contains(&shown), "{shown}");
    }
}
