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

impl TargetError {
    /// The reason alone, where it is said of which process.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Discover { source, .. } => source.to_string(),
            Self::Refused { reason, .. } => reason.to_string(),
            Self::Register { source, .. } => source.to_string(),
            Self::Command { reason, .. } => reason.clone(),
            Self::Attach { .. } | Self::TableFull => self.to_string(),
        }
    }
}
