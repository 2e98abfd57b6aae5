//! The Firefox Profiler's processed profile: its tables fit together, and it comes to what the JSON report says.
//!
//! There is no schema, so what is checked is what the profiler relies on: each table's columns are as long as it says, numbers
//! lead to rows that are there, a stack's prefix comes before it, and all is symbolicated.

use crate::recorded::{PEAK, Recorded, json};
use anyhow::{Context as _, Result, ensure};
use heaptrace_tests::live::{list, number};
use serde_json::Value;

/// How many rows a table has, which all of these columns have.
fn rows(thread: &Value, table: &str, columns: &[&str]) -> Result<u64> {
    let length = number(&thread[table], "length")?;
    for column in columns {
        let values = list(&thread[table], column)?;
        ensure!(values.len() as u64 == length, "{table}.{column} has {} rows, not {length}", values.len());
    }
    Ok(length)
}

/// That a column of a table leads to rows of one that has so many.
fn leads(thread: &Value, table: &str, column: &str, rows: u64) -> Result<()> {
    for value in list(&thread[table], column)? {
        let fits = value.is_null() || value.as_u64().is_some_and(|row| row < rows);
        ensure!(fits, "{table}.{column} leads to {value} of {rows}");
    }
    Ok(())
}

fn tables(thread: &Value) -> Result<()> {
    let strings = list(thread, "stringArray")?.len() as u64;
    let functions = rows(thread, "funcTable", &["name"])?;
    leads(thread, "funcTable", "name", strings)?;
    let frames = rows(thread, "frameTable", &["func"])?;
    leads(thread, "frameTable", "func", functions)?;
    let stacks = rows(thread, "stackTable", &["frame", "prefix"])?;
    leads(thread, "stackTable", "frame", frames)?;
    for (stack, prefix) in list(&thread["stackTable"], "prefix")?.iter().enumerate() {
        let comes_before = prefix.as_u64().is_none_or(|prefix| prefix < stack as u64);
        ensure!(comes_before, "stack {stack} hangs on {prefix}");
    }
    rows(thread, "nativeAllocations", &["time", "weight", "stack", "memoryAddress", "threadId"])?;
    leads(thread, "nativeAllocations", "stack", stacks)
}

/// The bytes of stacks that go through a function.
fn bytes_of(thread: &Value, function: &str) -> Result<u64> {
    let (strings, stacks) = (list(thread, "stringArray")?, &thread["stackTable"]);
    let is_it = |stack: usize| {
        let frame = stacks["frame"][stack].as_u64()? as usize;
        let name =
            thread["funcTable"]["name"][thread["frameTable"]["func"][frame].as_u64()? as usize].as_u64()?;
        Some(strings[name as usize].as_str()?.split(' ').next() == Some(function))
    };
    let allocations = &thread["nativeAllocations"];
    let mut sum = 0;
    for (stack, weight) in list(allocations, "stack")?.iter().zip(list(allocations, "weight")?) {
        let mut at = stack.as_u64();
        while let Some(stack) = at {
            if is_it(stack as usize) == Some(true) {
                sum += weight.as_u64().context("a weight")?;
                break;
            }
            at = stacks["prefix"][stack as usize].as_u64();
        }
    }
    Ok(sum)
}

pub fn fits_together() -> Result<()> {
    let recorded = Recorded::get()?;
    let (live, allocated) = (
        recorded.export("live.firefox.json", &[])?,
        recorded.export("alloc.firefox.json", &["--view", "alloc"])?,
    );
    let report = recorded.json()?;
    let process = recorded.process(&report)?;
    for (file, expected) in [(live, process.live_bytes), (allocated, process.alloc_bytes)] {
        let profile = json(&file)?;
        ensure!(profile["meta"]["symbolicated"] == true, "{}", profile["meta"]);
        let [thread] = list(&profile, "threads")? else { anyhow::bail!("not one thread") };
        let pid = thread["pid"].as_str().and_then(|pid| pid.parse().ok());
        ensure!(pid == Some(recorded.pid) && thread["name"] == "shaped", "{}", thread["name"]);
        tables(thread)?;
        for function in ["_start", "main"] {
            let bytes = bytes_of(thread, function)?;
            ensure!(bytes == expected, "{function} has {bytes}, not {expected}");
        }

        let [counter] = list(&profile, "counters")? else { anyhow::bail!("not one counter") };
        ensure!(counter["category"] == "Memory", "{counter}");
        let changes = list(&counter["samples"], "count")?.iter().filter_map(Value::as_f64);
        let levels: Vec<f64> = changes
            .scan(0.0, |level, change| {
                *level += change;
                Some(*level)
            })
            .collect();
        ensure!(
            levels.first() == Some(&0.0) && levels.last() == Some(&(process.live_bytes as f64)),
            "{levels:?}"
        );
        ensure!(levels.iter().any(|level| *level > PEAK as f64), "no peak: {levels:?}");
        let calls: u64 = list(&counter["samples"], "number")?.iter().filter_map(Value::as_u64).sum();
        ensure!(calls == process.alloc_count, "{calls} allocations, not {}", process.alloc_count);
    }
    Ok(())
}
