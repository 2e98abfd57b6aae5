//! The JSON of `heaptrace doctor`, schema 1, as far as tests look at it. A field that is missing is a failure.

use anyhow::{Context as _, Result};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Diagnosis {
    pub schema: u32,
    pub host: Host,
    pub attach: Option<String>,
    pub features: Vec<Feature>,
    pub privileges: Privileges,
    pub tracefs: Tracefs,
    pub cost: Cost,
    pub process: Option<Process>,
    pub can_trace: bool,
    pub reason: Option<String>,
    pub modes: Option<Modes>,
}

#[derive(Debug, Deserialize)]
pub struct Modes {
    pub prices: Vec<Price>,
    pub error: Option<String>,
}

/// What a malloc and free take in a mode.
#[derive(Debug, Deserialize)]
pub struct Price {
    pub mode: String,
    pub frees: bool,
    pub alone_ns: f64,
    pub pair_ns: f64,
}

#[derive(Debug, Deserialize)]
pub struct Host {
    pub kernel: String,
}

#[derive(Debug, Deserialize)]
pub struct Feature {
    pub name: String,
    pub state: String,
    pub required: bool,
    pub used_for: String,
    pub otherwise: String,
    pub detail: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Privileges {
    pub effective_uid: u32,
    pub capabilities: Vec<Capability>,
    pub missing: Vec<String>,
    pub grants: Vec<Grant>,
}

#[derive(Debug, Deserialize)]
pub struct Capability {
    pub name: String,
    pub held: bool,
}

#[derive(Debug, Deserialize)]
pub struct Grant {
    pub command: String,
}

#[derive(Debug, Deserialize)]
pub struct Tracefs {
    pub mounted: bool,
}

#[derive(Debug, Deserialize)]
pub struct Cost {
    pub calls_per_round: u32,
    pub rounds: u32,
    pub emulated_ns: Option<f64>,
    pub single_stepped_ns: Option<f64>,
    pub error: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub exe: Option<String>,
    pub threads: Option<u32>,
    pub checks: Vec<Check>,
    pub allocators: Vec<Allocator>,
    pub probes: Vec<Probe>,
    pub can_trace: bool,
    pub reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Check {
    pub name: String,
    pub verdict: String,
}

#[derive(Debug, Deserialize)]
pub struct Allocator {
    pub kind: String,
    pub path: String,
    pub called: bool,
    pub functions: Vec<Function>,
}

#[derive(Debug, Deserialize)]
pub struct Function {
    pub symbol: String,
    pub fate: String,
    pub of: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Probe {
    pub symbol: String,
    pub path: String,
    pub entry: u64,
    pub offset: u64,
    pub kind: String,
    pub traps: [u32; 2],
    pub sites: Vec<Site>,
    pub verified_from: Option<Site>,
    pub returns: bool,
}

#[derive(Debug, Deserialize)]
pub struct Site {
    pub offset: u64,
    pub from_entry: i64,
    pub reads: String,
}

impl Process {
    /// The verdict of one check.
    pub fn verdict(&self, name: &str) -> Option<&str> {
        self.checks.iter().find(|check| check.name == name).map(|check| check.verdict.as_str())
    }
}

impl Diagnosis {
    /// What is said of one feature.
    pub fn state(&self, name: &str) -> Result<&str> {
        let feature = self.features.iter().find(|feature| feature.name == name);
        Ok(&feature.with_context(|| format!("nothing is said of {name}"))?.state)
    }
}
