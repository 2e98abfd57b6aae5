//! speedscope's JSON: what it comes to, and that it is as speedscope's schema has it.

use crate::{
    recorded::{Recorded, json},
    schema,
};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::live::{list, number};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

fn schema_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/schemas/speedscope.json")
}

/// Why there is no schema, if there is none.
pub fn missing_schema() -> Option<String> {
    let is_there = schema_file().is_file();
    (!is_there).then(|| "the schema is not there; `./x test` fetches it".to_owned())
}

fn exported(recorded: &Recorded) -> Result<Value> {
    json(&recorded.export("heap.speedscope.json", &[])?)
}

pub fn totals() -> Result<()> {
    let recorded = Recorded::get()?;
    let (exported, report) = (exported(recorded)?, recorded.json()?);
    let process = recorded.process(&report)?;
    let frames = list(&exported["shared"], "frames")?;
    let profiles = list(&exported, "profiles")?;
    for (profile, (name, expected)) in profiles.iter().zip([
        ("live bytes", process.live_bytes),
        ("live blocks", process.live_count),
        ("allocated bytes", process.alloc_bytes),
        ("allocated blocks", process.alloc_count),
    ]) {
        ensure!(profile["name"] == name, "{} is no {name}", profile["name"]);
        let (samples, weights) = (list(profile, "samples")?, list(profile, "weights")?);
        let sum: u64 = weights.iter().filter_map(Value::as_u64).sum();
        ensure!((sum, number(profile, "endValue")?) == (expected, expected), "{name}: {sum}, not {expected}");
        ensure!(
            samples.len() == weights.len(),
            "{name}: {} stacks, {} weights",
            samples.len(),
            weights.len()
        );
        for stack in samples {
            let stack = stack.as_array().context("a stack")?;
            let mut names = stack.iter().map(|frame| Some(&frames.get(frame.as_u64()? as usize)?["name"]));
            // The outermost first, which is the process.
            let root = names.next().flatten().context("a stack of nothing")?;
            ensure!(*root == format!("shaped:{}", recorded.pid), "{root}");
            ensure!(names.all(|name| name.is_some()), "{name}: a frame that is not there");
        }
    }
    Ok(())
}

pub fn valid() -> Result<()> {
    let schema: Value = serde_json::from_str(&fs::read_to_string(schema_file())?)?;
    schema::check(&exported(Recorded::get()?)?, &schema, &schema, "speedscope")
}
