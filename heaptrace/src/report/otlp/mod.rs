//! OTLP profiles: the message `ProfilesData`, as OpenTelemetry's collectors take it and as files of it are. A resource for each
//! process, in it a profile for each thing that stacks are weighed by.

mod dictionary;
mod parts;

#[cfg(test)]
mod tests;

use super::Options;
use super::export::{Content, Export, Past, Untold};
use super::labels::Labels;
use super::remarks::remarks;
use super::stacks::{Row, Stacks};
use crate::model::{Process, Profile};
use crate::printable::printable;
use crate::units::signed;
use dictionary::{Dictionary, Numbers};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, any_value::Value},
    profiles::v1development::{Profile as OtlpProfile, ResourceProfiles, Sample, ScopeProfiles, ValueType},
    resource::v1::Resource,
};
use parts::Part;
use std::io::{self, Write};

pub(super) const EXPORT: Export = Export {
    name: "otlp",
    help: "OpenTelemetry's profiles (v1development), a message in a file.",
    files: &["*.otlp"],
    content: Content::Stacks,
    is_binary: true,
    past: Past::None,
    tells_losses: true,
    render,
};

/// In `ProfilesData`.
const RESOURCE_PROFILES: u32 = 1;
/// In `ResourceProfiles`.
const SCOPE_PROFILES: u32 = 2;
/// In `ScopeProfiles`.
const PROFILES: u32 = 2;
/// In `Profile`.
const SAMPLES: u32 = 2;

fn render(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<Untold> {
    let mut stacks = Stacks::by_thread(profile, options);
    stacks.hide_below(options.min_bytes);
    let labels = Labels::new(profile);
    let mut dictionary = Dictionary::new(profile, &labels, out)?;
    for row in &stacks.rows {
        dictionary.stack(row.stack)?;
        dictionary.thread(row.thread)?;
    }
    let weights = weights(&stacks, &mut dictionary)?;
    let numbers = dictionary.end()?;
    // Once: they are of all processes.
    let mut remarks = Some(remarks(&stacks));
    for rows in stacks.rows.chunk_by(|one, other| one.process == other.process) {
        let scope = scope(profile, remarks.take());
        resource(Some(stacks.process(&rows[0])), profile, scope, &weights, rows, &numbers).write(out)?;
    }
    if remarks.is_some() {
        resource(None, profile, scope(profile, remarks), &[], &[], &numbers).write(out)?;
    }
    Ok(None)
}

/// What the samples of a profile are.
struct Weight {
    head: OtlpProfile,
    of: Box<dyn Fn(&Row) -> u64>,
}

/// That of the report first, as viewers begin with it; bytes before blocks.
fn weights<'a>(stacks: &Stacks<'a>, dictionary: &mut Dictionary<'a, '_>) -> io::Result<Vec<Weight>> {
    let profile = stacks.profile;
    let bytes = dictionary.string("bytes")?;
    let period_type = Some(ValueType { type_strindex: dictionary.string("space")?, unit_strindex: bytes });
    let mut weights = Vec::new();
    for place in stacks.in_order() {
        let [blocks, space] = stacks.measures[place].sample_types();
        let of_bytes: Box<dyn Fn(&Row) -> u64> = Box::new(move |row| row.amounts[place].bytes);
        let of_blocks: Box<dyn Fn(&Row) -> u64> = Box::new(move |row| row.amounts[place].count);
        for (name, unit, of) in [(space, bytes, of_bytes), (blocks, dictionary.string("count")?, of_blocks)] {
            let head = OtlpProfile {
                sample_type: Some(ValueType { type_strindex: dictionary.string(name)?, unit_strindex: unit }),
                time_unix_nano: u64::try_from(profile.time().0).unwrap_or_default(),
                duration_nano: profile.time().1,
                period_type,
                // As Go has it where every block is recorded.
                period: signed(profile.sample_bytes().max(1)),
                ..OtlpProfile::default()
            };
            weights.push(Weight { head, of });
        }
    }
    Ok(weights)
}

/// A process with its profiles, none of which is in memory: samples are made when they are measured, and again when they are
/// written.
fn resource<'r>(
    process: Option<&Process>,
    profile: &Profile,
    scope: ScopeProfiles,
    weights: &'r [Weight],
    rows: &'r [Row],
    numbers: &'r Numbers,
) -> Part<'r> {
    let profiles = weights.iter().map(|Weight { head, of }| {
        let samples = move |take: &mut dyn FnMut(&Sample) -> io::Result<()>| {
            rows.iter().filter(|row| of(row) > 0).try_for_each(|row| {
                take(&Sample {
                    stack_index: numbers.of(row.stack),
                    attribute_indices: numbers.of_thread(row.thread),
                    values: vec![signed(of(row))],
                    ..Sample::default()
                })
            })
        };
        Part::of_samples(PROFILES, head, SAMPLES, Box::new(samples))
    });
    let scope = Part::of_parts(SCOPE_PROFILES, &scope, profiles.collect());
    let resource = ResourceProfiles {
        resource: Some(Resource { attributes: attributes(process, profile), ..Resource::default() }),
        ..ResourceProfiles::default()
    };
    Part::of_parts(RESOURCE_PROFILES, &resource, vec![scope])
}

/// Who made it, with what is to be known of the numbers.
fn scope(profile: &Profile, remarks: Option<Vec<String>>) -> ScopeProfiles {
    let remarks = remarks.map(|lines| {
        let values =
            lines.into_iter().map(|line| AnyValue { value: Some(Value::StringValue(line)) }).collect();
        attribute("heaptrace.remarks", Value::ArrayValue(ArrayValue { values }))
    });
    let scope = InstrumentationScope {
        name: "heaptrace".to_owned(),
        version: printable(&profile.heaptrace).into_owned(),
        attributes: remarks.into_iter().collect(),
        ..InstrumentationScope::default()
    };
    ScopeProfiles { scope: Some(scope), ..ScopeProfiles::default() }
}

/// By OpenTelemetry's semantic conventions.
fn attributes(process: Option<&Process>, profile: &Profile) -> Vec<KeyValue> {
    let text = |key, text: &str| attribute(key, Value::StringValue(printable(text).into_owned()));
    let arch = match profile.host.arch.as_str() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let mut attributes =
        vec![text("os.type", "linux"), text("os.version", &profile.host.kernel), text("host.arch", arch)];
    if let Some(process) = process {
        attributes.push(attribute("process.pid", Value::IntValue(process.pid.into())));
        attributes.push(text("process.executable.name", &process.comm));
        attributes.push(text("process.executable.path", &process.exe));
    }
    attributes
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
