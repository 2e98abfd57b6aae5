//! Why a target cannot be traced.

use crate::{
    bpf::MapError,
    probes::{discover::DiscoverError, refusal::Refusal},
};
use std::io;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("process {pid} cannot be looked at: {source}")]
    Discover { pid: u32, source: DiscoverError },
    #[error("process {pid} ({comm}) cannot be traced: {reason}")]
    Refused { pid: u32, comm: String, reason: Refusal },
    #[error("failed to place probes in {path}: {source}")]
    Attach { path: String, source: io::Error },
    #[error("the process table is full; raise --max-processes")]
    TableFull,
    #[error("failed to register process {pid}: {source}")]
    Register { pid: u32, source: MapError },
    #[error("cannot trace {command}: {reason}")]
    Command { command: String, reason: String },
}
