use super::*;
use crate::fixtures::profiles::{empty, full, sampled, threaded};
use crate::report::View;
use flate2::read::GzDecoder;
use insta::assert_snapshot;
use prost::Message as _;
use std::fmt::Write as _;
use std::io::Read as _;

fn decoded(profile: &Profile, options: &Options) -> proto::Profile {
    let mut written = Vec::new();
    render(profile, options, &mut written).expect("a vector");
    let mut message = Vec::new();
    GzDecoder::new(&written[..]).read_to_end(&mut message).expect("gzip");
    proto::Profile::decode(&message[..]).expect("a profile")
}

/// What it says, with names for numbers.
fn text(profile: &proto::Profile) -> String {
    let string = |number: i64| profile.string_table[number as usize].as_str();
    let mut text = String::new();
    for proto::ValueType { r#type, unit } in &profile.sample_type {
        let _ = writeln!(text, "type {}/{}", string(*r#type), string(*unit));
    }
    let _ = writeln!(text, "default {}, period {}", string(profile.default_sample_type), profile.period);
    for comment in &profile.comment {
        let _ = writeln!(text, "comment {}", string(*comment));
    }
    for mapping in &profile.mapping {
        let proto::Mapping { id, memory_start, memory_limit, file_offset, .. } = mapping;
        let (file, build_id) = (string(mapping.filename), string(mapping.build_id));
        let range = format!("{memory_start:#x}-{memory_limit:#x} at {file_offset:#x}");
        let _ = writeln!(text, "mapping {id} {range} {file} {build_id} named {}", mapping.has_functions);
    }
    for sample in &profile.sample {
        let labels: Vec<_> = sample
            .label
            .iter()
            .map(|label| format!("{} {}{}", string(label.key), string(label.str), label.num))
            .collect();
        let _ = writeln!(text, "sample {:?} {labels:?}", sample.value);
        for id in &sample.location_id {
            let location = profile.location.iter().find(|location| location.id == *id).expect("a location");
            let _ = write!(text, "  {:#x} in {}:", location.address, location.mapping_id);
            for proto::Line { function_id, line } in &location.line {
                let function = profile.function.iter().find(|of| of.id == *function_id).expect("a function");
                let _ = write!(text, " {} {}:{line}", string(function.name), string(function.filename));
            }
            text.push('\n');
        }
    }
    text
}

#[test]
fn samples_have_their_threads() {
    let profile = threaded();
    let text = text(&decoded(&profile, &Options::default()));
    let labels = |of: &str| text.matches(of).count();
    assert_eq!(
        (labels("\"thread app0\", \"tid 42\""), labels("\"thread done0\", \"tid 44\"")),
        (3, 2),
        "{text}"
    );
}

#[test]
fn a_heap_profile_as_gos() {
    assert_snapshot!(text(&decoded(&full(), &Options::default())));
}

#[test]
fn a_profile_of_growth() {
    assert_snapshot!(text(&decoded(&full(), &Options { view: View::Growth, ..Options::default() })));
}

#[test]
fn samples_are_said_to_be_estimates_with_their_period() {
    let profile = decoded(&sampled(false), &Options { view: View::Alloc, ..Options::default() });
    let said = text(&profile);
    assert!(said.contains("default alloc_space, period 16384\n"), "{said}");
    assert!(said.contains("comment bytes and blocks are estimates"), "{said}");
    assert!(said.contains("comment live is a bound"), "{said}");
}

#[test]
fn an_empty_one_is_one_and_what_is_hidden_is_told() {
    let nothing = decoded(&empty(), &Options::default());
    assert_eq!((nothing.sample.len(), nothing.string_table[0].as_str()), (0, ""));
    let said = text(&decoded(&full(), &Options { min_bytes: 80_000, ..Options::default() }));
    assert!(said.contains("comment 10 smaller stacks not shown: 151,161 bytes live in 21 blocks, 160,820 bytes allocated in 29 blocks\n"), "{said}");
}

#[test]
fn what_was_allocated_and_freed_is_not_left_out_for_being_small() {
    let mut profile = full();
    for totals in [&mut profile.sites[0].totals, &mut profile.processes[0].totals] {
        totals.free_bytes += 799_997;
    }
    let said = text(&decoded(&profile, &Options { min_bytes: 80_000, ..Options::default() }));
    assert!(said.contains("sample [11, 900001, 10, 3] "), "{said}");
}

#[test]
fn names_give_terminals_no_orders_and_numbers_fit() {
    let mut profile = full();
    profile.symbols[1][0].name = "evil\u{1b}[2J".into();
    profile.processes[0].comm = "a\nb".into();
    profile.sites[0].totals.alloc_bytes = u64::MAX;
    let decoded = decoded(&profile, &Options::default());
    assert!(decoded.string_table.iter().all(|text| !text.contains(['\u{1b}', '\n'])));
    assert!(decoded.sample.iter().any(|sample| sample.value.contains(&i64::MAX)));
    assert!(decoded.sample.iter().all(|sample| sample.value.iter().all(|value| *value >= 0)));
}
