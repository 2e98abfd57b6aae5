//! DHAT's JSON: what each stack allocated, and what of that was live at the peak and in the end.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::Labels;
use super::remarks::{command, remarks};
use super::stacks::{Key, Measure, Row, Stacks};
use super::table::process_name;
use crate::model::{Amount, FrameId, ProcessId, Profile};
use crate::printable::write_json;
use crate::units::thousands;
use serde::ser::SerializeSeq as _;
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "dhat",
    help: "Blocks in total, at the peak and at the end, for valgrind's dh_view.html.",
    files: &["dhat.out*", "*.dhat"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::Peak,
    tells_losses: true,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    let labels = Labels::new(profile);
    let live = stacks.measures.iter().position(|measure| *measure == Measure::Live);
    let peak = profile.history.as_ref().and_then(|history| history.peak.as_ref());
    let at_peak =
        peak.filter(|_| live.is_some()).map(|peak| Stacks::at_peak(profile, options, peak).amounts());
    // Much may have been live at the peak alone.
    let mut hidden_at_peak = Amount::default();
    stacks.retain(|row| {
        let peak =
            at_peak.as_ref().and_then(|at| at.get(&(row.process, row.stack)).copied()).unwrap_or_default();
        let keep = row.reaches(options.min_bytes) || peak.bytes >= options.min_bytes;
        if !keep {
            hidden_at_peak.add(peak);
        }
        keep
    });
    let te = microseconds(profile.duration_ns);
    let mut remarks = remarks(&stacks);
    if live.is_some() {
        remarks.insert(1, "lifetimes are not known; Max is the larger of t-gmax and t-end".into());
    }
    if at_peak.is_some() && stacks.hidden.stacks > 0 {
        let bytes = thousands(hidden_at_peak.bytes);
        remarks.insert(2, format!("{bytes} bytes at t-gmax are of stacks that are not shown"));
    }
    let frames = Frames::new(&stacks, &labels);
    let document = Document {
        dhat_file_version: 2,
        mode: remarks.join("; "),
        verb: verb(stacks.measures[0]),
        bklt: live.is_some(),
        bkacc: false,
        bksu: match stacks.measures[0] {
            Measure::Mapped => "calls",
            Measure::Touched => "faults",
            Measure::Allocated | Measure::Live => "blocks",
        },
        tu: "µs",
        mtu: "s",
        // What lives shorter is short-lived to the viewer, which has no lifetimes to hold against it.
        tuth: 0,
        cmd: command(&stacks),
        pid: frames
            .processes
            .keys()
            .map(|id| profile.processes[id.index()].pid.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        te,
        tg: peak.map_or(te, |peak| microseconds(peak.at_ns)),
        pps: Points { stacks: &stacks, labels: &labels, frames: &frames, live, at_peak },
        ftbl: Table { stacks: &stacks, labels: &labels, frames: &frames },
    };
    write_json(&document, out)?;
    writeln!(out)?;
    Ok(None)
}

fn microseconds(ns: u64) -> u64 {
    ns / 1_000
}

const fn verb(measure: Measure) -> &'static str {
    match measure {
        Measure::Allocated | Measure::Live => "Allocated",
        Measure::Mapped => "Mapped",
        Measure::Touched => "Touched first",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    dhat_file_version: u32,
    mode: String,
    verb: &'static str,
    /// Whether there is more of blocks than totals.
    bklt: bool,
    bkacc: bool,
    bksu: &'static str,
    tu: &'static str,
    #[serde(rename = "Mtu")]
    mtu: &'static str,
    tuth: u64,
    cmd: String,
    pid: String,
    te: u64,
    tg: u64,
    pps: Points<'a>,
    ftbl: Table<'a>,
}

/// The numbers of frames: 0 is the root, then those of stacks, then what stacks end in, then processes, which tell equal
/// stacks of several processes apart.
struct Frames {
    /// The first of each frame's: one for itself, and one for each function inlined into it.
    stacks: BTreeMap<FrameId, u32>,
    ends: BTreeMap<u32, u32>,
    processes: BTreeMap<ProcessId, u32>,
}

impl Frames {
    /// Of the stacks that are shown.
    fn new(stacks: &Stacks<'_>, labels: &Labels<'_>) -> Self {
        let mut frames = Self { stacks: BTreeMap::new(), ends: BTreeMap::new(), processes: BTreeMap::new() };
        for row in &stacks.rows {
            frames.processes.insert(row.process, 0);
            frames.stacks.extend(labels.frames(row.stack).iter().map(|frame| (*frame, 0)));
            frames.ends.extend(labels.end(row.stack).map(|label| (label, 0)));
        }
        let mut next = 1;
        for (frame, number) in &mut frames.stacks {
            *number = next;
            next += labels.of_frame(*frame).len() as u32;
        }
        for number in frames.ends.values_mut().chain(frames.processes.values_mut()) {
            *number = next;
            next += 1;
        }
        frames
    }

    /// Those of a row, innermost first.
    fn of(&self, row: &Row, labels: &Labels<'_>) -> Vec<u32> {
        let mut numbers = Vec::new();
        for frame in labels.frames(row.stack) {
            if let Some(first) = self.stacks.get(frame) {
                numbers.extend(*first..first + labels.of_frame(*frame).len() as u32);
            }
        }
        numbers.extend(labels.end(row.stack).and_then(|label| self.ends.get(&label)));
        numbers.extend(self.processes.get(&row.process));
        numbers
    }
}

/// The frames' texts.
struct Table<'a> {
    stacks: &'a Stacks<'a>,
    labels: &'a Labels<'a>,
    frames: &'a Frames,
}

impl Serialize for Table<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { stacks, labels, frames } = self;
        let profile = stacks.profile;
        let mut list = to.serialize_seq(None)?;
        list.serialize_element("[root]")?;
        for frame in frames.stacks.keys() {
            let address =
                profile.frames.get(frame.index()).map_or(0, |frame| frame.address.saturating_sub(1));
            for label in labels.of_frame(*frame) {
                list.serialize_element(&labels.at_address(*label, address))?;
            }
        }
        for label in frames.ends.keys() {
            list.serialize_element(&labels.get(*label).name)?;
        }
        for process in frames.processes.keys() {
            list.serialize_element(&process_name(&profile.processes[process.index()]))?;
        }
        list.end()
    }
}

/// The stacks, one in memory at a time.
struct Points<'a> {
    stacks: &'a Stacks<'a>,
    labels: &'a Labels<'a>,
    frames: &'a Frames,
    /// Which measure that is, if there is more of blocks than totals.
    live: Option<usize>,
    /// `None` where the end is the peak.
    at_peak: Option<HashMap<Key, Amount>>,
}

#[derive(Serialize)]
struct Point {
    tb: u64,
    tbk: u64,
    #[serde(flatten)]
    blocks: Option<Blocks>,
    fs: Vec<u32>,
}

/// Without `tl`, the sum of lifetimes: the viewer then says that they are no number.
#[derive(Serialize)]
struct Blocks {
    mb: u64,
    mbk: u64,
    gb: u64,
    gbk: u64,
    eb: u64,
    ebk: u64,
}

impl Serialize for Points<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Self { stacks, labels, frames, live, at_peak } = self;
        to.collect_seq(stacks.rows.iter().map(|row| {
            let Amount { bytes: tb, count: tbk } = row.amounts[0];
            let blocks = live.map(|live| {
                let end = row.amounts[live];
                let peak = at_peak.as_ref();
                let peak =
                    peak.map_or(end, |at| at.get(&(row.process, row.stack)).copied().unwrap_or_default());
                Blocks {
                    mb: peak.bytes.max(end.bytes),
                    mbk: peak.count.max(end.count),
                    gb: peak.bytes,
                    gbk: peak.count,
                    eb: end.bytes,
                    ebk: end.count,
                }
            });
            Point { tb, tbk, blocks, fs: frames.of(row, labels) }
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{empty, full};
    use crate::model::{History, Peak};
    use crate::report::View;
    use insta::assert_snapshot;

    fn rendered(profile: &Profile, options: &Options) -> String {
        let mut out = Vec::new();
        render(profile, options, &mut out).expect("a vector");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn totals_peak_and_end_of_each_stack() {
        let mut profile = full();
        let mut peak = Peak::of(&profile);
        peak.at_ns = 2_500_000_000;
        peak.sites[0] = Amount { bytes: 2_000_001, count: 20 };
        profile.history = Some(History { peak: Some(peak), ..History::default() });
        let text = rendered(&profile, &Options::default());
        let (_, text) = text.split_once(r#""verb""#).expect("a verb");
        assert_snapshot!(text.replace("},{", "},\n{").replace(":[", ":\n[").replace("\",\"", "\",\n\""));
    }

    #[test]
    fn what_was_much_at_the_peak_alone_is_shown_and_all_else_is_told() {
        let mut profile = full();
        let mut peak = Peak::of(&profile);
        // Few bytes of it are live in the end.
        peak.sites[4] = Amount { bytes: 70_001, count: 2 };
        peak.processes[0].bytes += 70_001 - 33;
        let all: u64 = peak.processes.iter().map(|process| process.bytes).sum();
        profile.history = Some(History { peak: Some(peak), ..History::default() });
        let text = rendered(&profile, &Options { min_bytes: 60_000, ..Options::default() });
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let points = json["pps"].as_array().expect("points");
        let sum = |key: &str| points.iter().filter_map(|point| point[key].as_u64()).sum::<u64>();
        assert_eq!((points.len(), sum("gb"), sum("eb")), (3, 947_778, 877_810));
        let mode = json["mode"].as_str().expect("remarks");
        let hidden = thousands(all - sum("gb"));
        assert!(
            mode.contains(&format!("; {hidden} bytes at t-gmax are of stacks that are not shown; ")),
            "{mode}"
        );
        assert!(mode.contains(" smaller stacks not shown: 73,351 bytes live in "), "{mode}");
    }

    #[test]
    fn other_views_have_totals_alone() {
        let text = rendered(&full(), &Options { view: View::Growth, ..Options::default() });
        assert!(text.contains(r#""verb":"Mapped","bklt":false"#) && !text.contains(r#""eb""#), "{text}");
        let text = rendered(&empty(), &Options::default());
        assert!(text.contains(r#""pps":[],"ftbl":["[root]"]"#), "{text}");
    }
}
