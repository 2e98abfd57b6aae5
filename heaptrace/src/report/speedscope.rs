//! speedscope's JSON: a profile for each thing that stacks are weighed by, that of the view first.

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::{Label, LabelId, Labels};
use super::remarks::title_of;
use super::stacks::{Row, Stacks};
use super::table::process_name;
use crate::model::{Amount, Profile};
use crate::printable::write_json;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "speedscope",
    help: "Flame graphs by bytes and by blocks, for speedscope.",
    files: &["*.speedscope.json"],
    content: Content::Stacks,
    is_binary: false,
    past: Past::None,
    tells_losses: false,
    render,
};

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::new(profile, options);
    stacks.hide_below(options.min_bytes);
    let labels = Labels::new(profile);
    let frames = Frames::new(&stacks, &labels);
    let of = |measure| Of { stacks: &stacks, labels: &labels, frames: &frames, measure };
    let profiles = stacks.in_order().flat_map(|measure| {
        [Sampled::new(of(measure), "bytes", |of| of.bytes), Sampled::new(of(measure), "none", |of| of.count)]
    });
    let document = Document {
        schema: "https://www.speedscope.app/file-format-schema.json",
        shared: Shared { frames: Listed { labels: &labels, stacks: &stacks, frames: &frames } },
        profiles: profiles.collect(),
        exporter: format!("heaptrace {}", profile.heaptrace),
        active_profile_index: 0,
    };
    write_json(&document, out)?;
    writeln!(out)?;
    Ok(stacks.not_shown())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    shared: Shared<'a>,
    profiles: Vec<Sampled<'a>>,
    exporter: String,
    active_profile_index: usize,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Listed<'a>,
}

/// Which frames there are: a process's, then functions, whatever lines of them are in stacks; the numbers of both.
struct Frames {
    processes: BTreeMap<usize, usize>,
    functions: BTreeMap<LabelId, usize>,
    /// Of each label the one that stands for its function.
    same: Vec<LabelId>,
}

impl Frames {
    /// Of the stacks that are shown.
    fn new(stacks: &Stacks<'_>, labels: &Labels<'_>) -> Self {
        let mut processes: BTreeMap<usize, usize> = BTreeMap::new();
        let same = labels.same_functions();
        let mut seen = vec![false; labels.len()];
        for row in &stacks.rows {
            processes.insert(row.process.index(), 0);
            labels.walk(row.stack).for_each(|label| seen[same[label as usize] as usize] = true);
        }
        processes.values_mut().zip(0..).for_each(|(number, next)| *number = next);
        let seen = (0..).zip(seen).filter_map(|(label, is_seen)| is_seen.then_some(label));
        let functions = seen.zip(processes.len()..).collect();
        Self { processes, functions, same }
    }

    /// The numbers of a stack, outermost first.
    fn of(&self, row: &Row, labels: &Labels<'_>) -> Vec<usize> {
        let process = self.processes.get(&row.process.index()).copied();
        let functions = labels.walk_inwards(row.stack).map(|label| self.same[label as usize]);
        let inside = functions.filter_map(|label| self.functions.get(&label).copied());
        process.into_iter().chain(inside).collect()
    }
}

/// The frames as they are written.
struct Listed<'a> {
    labels: &'a Labels<'a>,
    stacks: &'a Stacks<'a>,
    frames: &'a Frames,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
}

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq as _;
        let mut list = to.serialize_seq(None)?;
        for process in self.frames.processes.keys() {
            let name = process_name(&self.stacks.profile.processes[*process]);
            list.serialize_element(&Frame { name: &name, file: None })?;
        }
        for label in self.frames.functions.keys() {
            let Label { name, source, .. } = self.labels.get(*label);
            let file = source.as_ref().map(|(file, _)| file.as_ref());
            list.serialize_element(&Frame { name, file })?;
        }
        list.end()
    }
}

/// What a profile is made of.
#[derive(Clone, Copy)]
struct Of<'a> {
    stacks: &'a Stacks<'a>,
    labels: &'a Labels<'a>,
    frames: &'a Frames,
    measure: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled<'a> {
    r#type: &'static str,
    name: String,
    unit: &'static str,
    start_value: u64,
    end_value: u64,
    samples: Each<'a>,
    weights: Weights<'a>,
}

impl<'a> Sampled<'a> {
    fn new(of: Of<'a>, unit: &'static str, weigh: fn(&Amount) -> u64) -> Self {
        let weights = Weights { of, weigh };
        let is_bytes = unit == "bytes";
        Self {
            r#type: "sampled",
            name: title_of(of.stacks, of.measure, is_bytes),
            unit,
            start_value: 0,
            end_value: weights.rows().fold(0, |sum: u64, (_, weight)| sum.saturating_add(weight)),
            samples: Each(weights),
            weights,
        }
    }
}

/// Weights of the stacks that have any.
#[derive(Clone, Copy)]
struct Weights<'a> {
    of: Of<'a>,
    weigh: fn(&Amount) -> u64,
}

impl<'a> Weights<'a> {
    fn rows(self) -> impl Iterator<Item = (&'a Row, u64)> {
        let rows = self.of.stacks.rows.iter();
        let weighed = rows.map(move |row| (row, (self.weigh)(&row.amounts[self.of.measure])));
        weighed.filter(|(_, weight)| *weight > 0)
    }
}

impl Serialize for Weights<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.rows().map(|(_, weight)| weight))
    }
}

/// Their stacks, one in memory at a time.
struct Each<'a>(Weights<'a>);

impl Serialize for Each<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Of { frames, labels, .. } = self.0.of;
        to.collect_seq(self.0.rows().map(|(row, _)| frames.of(row, labels)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::profiles::{empty, full, sampled};
    use crate::report::View;
    use insta::assert_snapshot;
    use serde_json::Value;

    fn rendered(profile: &Profile, options: &Options) -> String {
        let mut out = Vec::new();
        render(profile, options, &mut out).expect("a vector");
        String::from_utf8(out).expect("UTF-8")
    }

    fn names(text: &str) -> Vec<String> {
        let json: Value = serde_json::from_str(text).expect("JSON");
        let profiles = json["profiles"].as_array().expect("profiles");
        profiles.iter().map(|profile| profile["name"].as_str().expect("a name").to_owned()).collect()
    }

    #[test]
    fn a_profile_for_each_weight_over_shared_frames() {
        let text = rendered(&full(), &Options::default());
        assert_snapshot!(text.replace("},{", "},\n{").replace(":[", ":\n["));
    }

    #[test]
    fn the_views_weight_is_first_and_what_it_is_not_is_said() {
        let alloc = names(&rendered(&full(), &Options { view: View::Alloc, ..Options::default() }));
        assert_eq!(alloc, ["allocated bytes", "allocated blocks", "live bytes", "live blocks"]);
        let growth = names(&rendered(&full(), &Options { view: View::Growth, ..Options::default() }));
        assert_eq!(growth, ["mapped bytes", "calls that map memory"]);
        let bound = names(&rendered(&sampled(false), &Options::default()));
        assert_eq!(bound[0], "live bytes, at most, estimated from samples");
    }

    #[test]
    fn what_is_not_shown_is_said_in_the_names_and_to_the_caller() {
        let options = Options { min_bytes: 80_000, ..Options::default() };
        let hidden = "10 smaller stacks not shown: 151,161 bytes live in 21 blocks, 160,820 bytes allocated in 29 blocks";
        assert_eq!(names(&rendered(&full(), &options))[3], format!("allocated blocks; {hidden}"));
        assert_eq!(render(&full(), &options, &mut io::sink()).expect("a sink").as_deref(), Some(hidden));
    }

    #[test]
    fn nothing_is_a_profile_too() {
        assert_eq!(names(&rendered(&empty(), &Options::default())).len(), 4);
    }
}
