use super::*;
use crate::fixtures::profiles::{empty, full, threaded};
use crate::report::View;
use opentelemetry_proto::tonic::profiles::v1development::{ProfilesData, ProfilesDictionary};
use prost::Message as _;

fn rendered(profile: &Profile, options: &Options) -> ProfilesData {
    let mut out = Vec::new();
    render(profile, options, &mut out).expect("a vector");
    ProfilesData::decode(&out[..]).expect("a message")
}

fn string(dictionary: &ProfilesDictionary, number: i32) -> &str {
    &dictionary.string_table[number as usize]
}

/// Sums of a process by sample type, in their order.
fn sums(data: &ProfilesData, process: usize) -> Vec<(&str, i64)> {
    let dictionary = data.dictionary.as_ref().expect("a dictionary");
    let scopes = &data.resource_profiles[process].scope_profiles;
    scopes[0]
        .profiles
        .iter()
        .map(|profile| {
            let name = string(dictionary, profile.sample_type.expect("a type").type_strindex);
            (name, profile.samples.iter().map(|sample| sample.values[0]).sum())
        })
        .collect()
}

#[test]
fn each_process_has_a_profile_for_each_weight_with_the_sums_of_the_recording() {
    let profile = full();
    let data = rendered(&profile, &Options::default());
    assert_eq!(data.resource_profiles.len(), 2);
    for (number, process) in profile.processes.iter().enumerate() {
        let expected = [
            ("inuse_space", process.totals.live_bytes()),
            ("inuse_objects", process.totals.live_count()),
            ("alloc_space", process.totals.alloc_bytes),
            ("alloc_objects", process.totals.alloc_count),
        ];
        assert_eq!(sums(&data, number), expected.map(|(name, sum)| (name, sum as i64)));
    }
    let data = rendered(&profile, &Options { view: View::Growth, ..Options::default() });
    let mapped = [sums(&data, 0)[0], sums(&data, 1)[0]];
    assert_eq!(mapped, [("mapped_space", 1_081_344), ("mapped_space", 135_168)]);
}

#[test]
fn stacks_are_whole_with_inlined_functions_lines_and_build_ids() {
    let data = rendered(&full(), &Options::default());
    let dictionary = data.dictionary.as_ref().expect("a dictionary");
    let largest = data.resource_profiles[0].scope_profiles[0].profiles[0]
        .samples
        .iter()
        .max_by_key(|sample| sample.values[0])
        .expect("a sample");
    let stack = &dictionary.stack_table[largest.stack_index as usize];
    let mut names = Vec::new();
    for number in &stack.location_indices {
        for line in &dictionary.location_table[*number as usize].lines {
            let function = dictionary.function_table[line.function_index as usize];
            let file = string(dictionary, function.filename_strindex);
            names.push(format!("{} {file}:{}", string(dictionary, function.name_strindex), line.line));
        }
    }
    assert_eq!(
        names,
        [
            "buffer::grow /src/buffer.rs:31",
            "buffer::parse /src/parse.rs:77",
            "main /src/main.rs:10",
            "__libc_start_main :0"
        ]
    );
    let first = &dictionary.location_table[stack.location_indices[0] as usize];
    let mapping = &dictionary.mapping_table[first.mapping_index as usize];
    assert_eq!(string(dictionary, mapping.filename_strindex), "/usr/bin/app");
    assert!((mapping.memory_start..mapping.memory_limit).contains(&first.address));
    let attribute = &dictionary.attribute_table[mapping.attribute_indices[0] as usize];
    assert_eq!(string(dictionary, attribute.key_strindex), "process.executable.build_id.gnu");
    assert_eq!(attribute.value, Some(AnyValue { value: Some(Value::StringValue("ab12".into())) }));
}

#[test]
fn samples_have_their_threads() {
    let profile = threaded();
    let data = rendered(&profile, &Options::default());
    let dictionary = data.dictionary.as_ref().expect("a dictionary");
    let attribute = |number: &i32| {
        let of = &dictionary.attribute_table[*number as usize];
        (string(dictionary, of.key_strindex), of.value.as_ref().and_then(|value| value.value.clone()))
    };
    let mut found = std::collections::BTreeMap::new();
    for resource in &data.resource_profiles {
        let live = &resource.scope_profiles[0].profiles[0];
        for sample in &live.samples {
            let of: Vec<_> = sample.attribute_indices.iter().map(attribute).collect();
            let (tid, name) = match &of[..] {
                [] => (0, String::new()),
                [
                    ("thread.id", Some(Value::IntValue(tid))),
                    ("thread.name", Some(Value::StringValue(name))),
                ] => (*tid, name.clone()),
                other => panic!("{other:?}"),
            };
            *found.entry((tid, name)).or_insert(0) += sample.values[0];
        }
    }
    let mut expected = std::collections::BTreeMap::new();
    for site in profile.sites.iter().filter(|site| site.totals.live_bytes() > 0) {
        let of = site.thread.map(|id| &profile.threads[id.index()]);
        let key = of.map_or((0, String::new()), |of| (i64::from(of.tid), of.name.clone()));
        *expected.entry(key).or_insert(0) += site.totals.live_bytes() as i64;
    }
    // What found no room among the sites is no thread's.
    let all: u64 = profile.processes.iter().map(|process| process.totals.live_bytes()).sum();
    let kept: u64 = profile.sites.iter().map(|site| site.totals.live_bytes()).sum();
    *expected.entry((0, String::new())).or_insert(0) += (all - kept) as i64;
    assert!(expected.len() > 3, "{expected:?}");
    assert_eq!(found, expected);
}

#[test]
fn remarks_are_said_once_even_of_nothing() {
    for profile in [full(), empty()] {
        let data = rendered(&profile, &Options::default());
        let said: Vec<_> = data
            .resource_profiles
            .iter()
            .flat_map(|resource| &resource.scope_profiles)
            .filter_map(|scope| scope.scope.as_ref())
            .flat_map(|scope| &scope.attributes)
            .collect();
        let [remarks] = said[..] else { panic!("{said:?}") };
        assert_eq!(remarks.key, "heaptrace.remarks");
    }
}

#[test]
fn tables_begin_with_nothing_and_have_nothing_twice() {
    let data = rendered(&full(), &Options::default());
    let dictionary = data.dictionary.expect("a dictionary");
    assert_eq!(dictionary.string_table[0], "");
    assert_eq!(dictionary.link_table.len(), 1);
    assert!(
        dictionary.stack_table[0].location_indices.is_empty()
            && dictionary.location_table[0].lines.is_empty()
    );
    let mut strings = dictionary.string_table.clone();
    strings.sort();
    strings.dedup();
    assert_eq!(strings.len(), dictionary.string_table.len());
}
