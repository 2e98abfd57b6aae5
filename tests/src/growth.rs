//! Lists of calls that changed what a process maps: the test program's own, and what `heaptrace watch` printed.

use crate::live::number;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::Path};

/// Bytes in a page.
pub const PAGE: i64 = 4096;
/// What a mapping of the program grows by being touched, without a call.
pub const GROWN: i64 = 4 * PAGE;

/// One call, as the program or heaptrace has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub call: String,
    pub tid: u64,
    pub delta: i64,
    pub address: u64,
}

/// The program's own list.
#[derive(Default)]
pub struct Listed {
    pub calls: Vec<Call>,
    /// Bytes mapped before and after.
    pub maps: Vec<u64>,
    /// By thread: its number.
    pub threads: BTreeMap<u64, i64>,
}

impl Listed {
    pub fn read(file: &Path) -> Result<Self> {
        let mut listed = Self::default();
        for line in fs::read_to_string(file).context("the program left no list")?.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["maps", bytes] => listed.maps.push(bytes.parse()?),
                ["thread", tid, number, _] => {
                    listed.threads.insert(tid.parse()?, number.parse()?);
                }
                [call, tid, delta, address] => listed.calls.push(Call {
                    call: call.to_owned(),
                    tid: tid.parse()?,
                    delta: delta.parse()?,
                    address: address.parse()?,
                }),
                _ => bail!("{line:?} is no line of a list"),
            }
        }
        ensure!(listed.maps.len() == 2, "{} sums of the maps", listed.maps.len());
        Ok(listed)
    }

    /// By how much its maps grew.
    pub fn growth(&self) -> i64 {
        self.maps[1] as i64 - self.maps[0] as i64
    }
}

/// What heaptrace printed: calls, and the end.
pub struct Printed {
    pub lines: Vec<Value>,
    pub summary: Value,
}

impl Printed {
    pub fn new(mut prints: Vec<Value>) -> Result<Self> {
        let last = prints.pop().context("no print")?;
        ensure!(last["summary"].is_object(), "the last print is no summary: {last}");
        Ok(Self { lines: prints, summary: last["summary"].clone() })
    }

    pub fn calls(&self) -> Result<Vec<Call>> {
        let call = |line: &Value| {
            Some(Call {
                call: line["call"].as_str()?.to_owned(),
                tid: line["tid"].as_u64()?,
                delta: line["delta"].as_i64()?,
                address: line["addr"].as_u64()?,
            })
        };
        self.lines.iter().map(|line| call(line).with_context(|| format!("{line} is no call"))).collect()
    }

    /// Whether the kernel left programs of ours out, which is told: newer ones do, where threads preempt each other in
    /// them. Then calls are missing.
    pub fn left_out(&self) -> bool {
        let notes = self.summary["coverage"]["notes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let note = notes
            .iter()
            .filter_map(Value::as_str)
            .find(|note| note.contains("left programs of tracepoints out"));
        if let Some(note) = note {
            println!("\nnote: {note}");
        }
        note.is_some()
    }

    pub fn lost(&self) -> Result<u64> {
        number(&self.summary, "coverage.lost.ring_full")
    }

    /// Every line's total is the one before and its own delta; but for what grew without a call.
    pub fn check_totals(&self) -> Result<()> {
        let mut other = 0;
        for pair in self.lines.windows(2) {
            let total = |line: &Value| line["total"].as_i64().context("no total");
            // What is given back by madvise stays mapped.
            let delta = if pair[1]["call"] == "madvise" { Some(0) } else { pair[1]["delta"].as_i64() };
            let delta = delta.context("no delta")?;
            let more = total(&pair[1])? - delta - total(&pair[0])?;
            ensure!(more == 0 || more == GROWN, "{} does not follow {}", pair[1], pair[0]);
            other += more;
            let time = |line: &Value| line["time"].as_str().map(str::to_owned);
            ensure!(time(&pair[0]) <= time(&pair[1]), "{} is not before {}", pair[0], pair[1]);
        }
        ensure!(other == GROWN, "{other} bytes grew without a call");
        Ok(())
    }
}
