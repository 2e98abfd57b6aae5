//! The findings, which are also the JSON's schema 1: keys are only ever added.

use crate::model;
use serde::Serialize;

pub const SCHEMA: u32 = 1;

/// Everything that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    pub schema: u32,
    pub heaptrace: String,
    pub host: Host,
    /// How probes would be placed; `None` if they cannot be.
    pub attach: Option<Attach>,
    pub features: Vec<Feature>,
    pub privileges: Privileges,
    pub tracefs: TracefsFound,
    pub cost: Cost,
    /// `None` if no process was named.
    pub process: Option<Process>,
    pub can_trace: bool,
    /// Why not.
    pub reason: Option<String>,
    /// `None` if they were not asked for.
    pub modes: Option<Modes>,
}

/// What each mode costs.
#[derive(Clone, Debug, Serialize)]
pub struct Modes {
    pub measured_in: &'static str,
    /// The cheapest first.
    pub prices: Vec<ModePrice>,
    /// Why there are no figures.
    pub error: Option<String>,
}

/// What a malloc and free take in a mode of `--trace`.
#[derive(Clone, Debug, Serialize)]
pub struct ModePrice {
    pub mode: &'static str,
    /// With `--frees`.
    pub frees: bool,
    /// Nanoseconds without tracing, and with it.
    pub alone_ns: f64,
    pub pair_ns: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct Host {
    pub kernel: String,
    pub arch: String,
}

impl From<model::Host> for Host {
    fn from(model::Host { kernel, arch }: model::Host) -> Self {
        Self { kernel, arch }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Attach {
    UprobeMulti,
    PerfEvent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Works,
    Missing,
    /// It could not be found out.
    Unknown,
}

/// One ability of the kernel.
#[derive(Clone, Debug, Serialize)]
pub struct Feature {
    pub name: &'static str,
    pub title: &'static str,
    pub state: State,
    /// Whether nothing can be traced without it.
    pub required: bool,
    pub used_for: &'static str,
    pub otherwise: &'static str,
    /// The kernel's answer, or why it was not asked.
    pub detail: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Privileges {
    pub uid: u32,
    pub effective_uid: u32,
    pub user_namespace: bool,
    pub capabilities: Vec<Capability>,
    /// Of those that heaptrace is to be given, the ones that are not there.
    pub missing: Vec<String>,
    pub grants: Vec<Grant>,
    pub settings: Vec<Setting>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Capability {
    pub name: String,
    pub held: bool,
    pub required: bool,
    pub used_for: &'static str,
    pub otherwise: &'static str,
}

/// A way to get the capabilities.
#[derive(Clone, Debug, Serialize)]
pub struct Grant {
    pub how: &'static str,
    pub command: String,
}

/// A setting of the kernel, and whether it matters here.
#[derive(Clone, Debug, Serialize)]
pub struct Setting {
    pub name: &'static str,
    /// `None` if this kernel has no such setting, or does not show it.
    pub value: Option<String>,
    pub matters: bool,
    pub meaning: &'static str,
}

#[derive(Clone, Debug, Serialize)]
pub struct TracefsFound {
    pub mounted: bool,
    pub path: Option<String>,
    pub usable: bool,
    /// What there is to do, or to know.
    pub advice: Option<String>,
}

/// What a hit costs. `None` where it could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// Where it was measured.
    pub measured_in: &'static str,
    pub attach: Option<Attach>,
    /// Calls of each function in each round.
    pub calls_per_round: u32,
    pub rounds: u32,
    /// Nanoseconds by which a call gets longer.
    pub emulated_ns: Option<f64>,
    pub single_stepped_ns: Option<f64>,
    /// Why there are no figures.
    pub error: Option<String>,
}

/// How a process would be traced.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Process {
    pub pid: u32,
    pub comm: Option<String>,
    pub exe: Option<String>,
    pub threads: Option<u32>,
    pub uid: Option<u32>,
    pub checks: Vec<Check>,
    /// Files with allocation functions, in the order in which the program's calls are resolved.
    pub allocators: Vec<Allocator>,
    pub probes: Vec<Probe>,
    /// Files whose allocators tell of samples themselves.
    pub own_samples: Vec<OwnSamples>,
    /// Allocators that it has inside without names: their blocks are not seen.
    pub hidden: Vec<Hidden>,
    /// What is not probed, or was not looked into, one sentence each.
    pub left_out: Vec<String>,
    pub can_trace: bool,
    pub reason: Option<String>,
}

/// See [`Process::hidden`].
#[derive(Clone, Debug, Serialize)]
pub struct Hidden {
    pub kind: String,
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Fine,
    /// Can be traced, and there is something to know.
    Note,
    Refused,
}

/// What `record --trace native` would go by in a file.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OwnSamples {
    pub path: String,
    /// Probes (USDT), as `otel_memory:alloc`.
    pub probes: Vec<String>,
    /// What it does not tell, one sentence each.
    pub left_out: Vec<String>,
}

/// One question about a process.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub verdict: Verdict,
    pub detail: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Allocator {
    pub kind: String,
    pub path: String,
    /// Whether its functions are what the program calls.
    pub called: bool,
    pub probed: usize,
    pub functions: Vec<Function>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Probed,
    /// Another name of a probed function, in `of`.
    Alias,
    /// A file before it defines the name: `of`.
    Overridden,
    /// Passes its block on to a probed function: `of`.
    Forwards,
    /// No program calls it: the dynamic linker's own, a private function, the operators of a C++ library.
    NotCounted,
}

/// An allocation function that a file defines.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    pub symbol: String,
    pub fate: Fate,
    pub of: Option<String>,
}

/// The probes of one function.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    pub symbol: String,
    /// What reports call it.
    pub function: &'static str,
    pub path: String,
    /// Offset in the file.
    pub entry: u64,
    /// Offset in the file of the first probed instruction, and bytes from the entry to it.
    pub offset: u64,
    pub site: i64,
    pub emulated: bool,
    /// Bytes pushed on the stack in between.
    pub pushed: u32,
    /// Whether there is a return probe.
    pub returns: bool,
    /// `one_trap`, `stash`, `entry_and_exits`, `stepped`, or `free`.
    pub kind: &'static str,
    /// The least and the most that a call takes; a single-stepped instruction takes two.
    pub traps: [u32; 2],
    pub sites: Vec<Site>,
    /// Probed, too, during the first calls, to verify the sites.
    pub verified_from: Option<Site>,
    /// Exits whose calls are not seen.
    pub unseen_exits: u32,
    /// What the kind means and, if there is a cheaper one, why it is not that.
    pub why: String,
}

/// A probed instruction.
#[derive(Clone, Debug, Serialize)]
pub struct Site {
    /// Offset in the file.
    pub offset: u64,
    /// Bytes from the function's entry.
    pub from_entry: i64,
    /// What is read there of a call: `arguments`, `result`, `whole call`, `free` or `entry`.
    pub reads: &'static str,
    /// Whether the kernel emulates the instruction.
    pub emulated: bool,
    /// Its disassembly.
    pub code: String,
}
