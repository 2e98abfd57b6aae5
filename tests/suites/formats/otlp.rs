//! OTLP profiles in the classes that OpenTelemetry publishes for Python.

use crate::recorded::{Recorded, printed, sum};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::{live::number, programs::installed};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Decodes a file, fails where a number leads nowhere, and prints what it comes to.
const VIEW: &str = "
import json, sys
sys.path.insert(0, sys.argv[1])
from opentelemetry.proto.profiles.v1development.profiles_pb2 import ProfilesData, Mapping, Location, Function, Link, KeyValueAndUnit, Stack
data = ProfilesData()
data.ParseFromString(open(sys.argv[2], 'rb').read())
d = data.dictionary
assert d.string_table[0] == ''
for table, kind in [(d.mapping_table, Mapping), (d.location_table, Location), (d.function_table, Function),
                    (d.link_table, Link), (d.attribute_table, KeyValueAndUnit), (d.stack_table, Stack)]:
    assert table[0] == kind(), kind
assert len(set(d.string_table)) == len(d.string_table)
for mapping in d.mapping_table:
    for number in mapping.attribute_indices:
        assert 0 < number < len(d.attribute_table)
names = []
for location in d.location_table:
    assert location.mapping_index < len(d.mapping_table)
    mapping = d.mapping_table[location.mapping_index]
    assert not location.mapping_index or mapping.memory_start <= location.address < mapping.memory_limit
    names.append([d.string_table[d.function_table[line.function_index].name_strindex] for line in location.lines])
stacks = [[name for number in stack.location_indices for name in names[number]] for stack in d.stack_table]
processes, remarks = [], []
for resource in data.resource_profiles:
    attributes = {of.key: of.value for of in resource.resource.attributes}
    process = {'pid': attributes['process.pid'].int_value, 'name': attributes['process.executable.name'].string_value}
    [scope] = resource.scope_profiles
    assert scope.scope.name == 'heaptrace'
    remarks += [line.string_value for of in scope.scope.attributes for line in of.value.array_value.values]
    for profile in scope.profiles:
        kind = d.string_table[profile.sample_type.type_strindex]
        assert profile.time_unix_nano > 0 and profile.duration_nano > 0
        process[kind] = sum(sample.values[0] for sample in profile.samples)
        for sample in profile.samples:
            assert 0 < sample.stack_index and len(sample.values) == 1
            key = kind + ' of ' + stacks[sample.stack_index][0]
            process[key] = process.get(key, 0) + sample.values[0]
    processes.append(process)
print(json.dumps({'processes': processes, 'remarks': remarks}))
";

fn packages() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pypi")
}

/// Why the classes are not there, if so.
pub fn missing() -> Option<String> {
    let is_there = packages().join("opentelemetry/proto/profiles/v1development/profiles_pb2.py").is_file();
    (!is_there).then(|| "opentelemetry-proto is not there; `./x setup` fetches it".to_owned())
}

fn view(recorded: &Recorded) -> Result<Value> {
    let file = recorded.export("heap.otlp", &[])?;
    let mut command = Command::new(installed("python3", &["/usr/bin"])?);
    let view = printed(command.args(["-c", VIEW]).arg(packages()).arg(&file))?;
    serde_json::from_str(&view).context(view)
}

pub fn decoded() -> Result<()> {
    let recorded = Recorded::get()?;
    let (view, report) = (view(recorded)?, recorded.json()?);
    let process = recorded.process(&report)?;
    let [of] = view["processes"].as_array().context("no processes")?.as_slice() else {
        anyhow::bail!("not one process: {view}")
    };
    ensure!(of["pid"] == recorded.pid && of["name"] == "shaped", "{of}");
    for (key, expected) in [
        ("inuse_space", process.live_bytes),
        ("inuse_objects", process.live_count),
        ("alloc_space", process.alloc_bytes),
        ("alloc_objects", process.alloc_count),
        ("alloc_objects of site_peak", 61),
        ("inuse_space of site_peak", 30_011),
        ("alloc_space of site_passing", 4003),
    ] {
        ensure!(number(of, key)? == expected, "{key} is not {expected}: {of}");
    }
    ensure!(view["remarks"].to_string().contains("exact mode (every block)"), "{}", view["remarks"]);
    Ok(())
}

/// Parent and children, each a resource.
pub fn several(recorded: &Recorded) -> Result<()> {
    let (view, report) = (view(recorded)?, recorded.json()?);
    let processes = view["processes"].as_array().context("no processes")?;
    ensure!(processes.len() == report.processes.len(), "{view}");
    let mut all = 0;
    for of in processes {
        all += number(of, "alloc_space")?;
    }
    let expected = sum(&report, |process| process.alloc_bytes);
    ensure!(all == expected, "{all} bytes, not {expected}");
    Ok(())
}
