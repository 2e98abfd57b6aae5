//! What is done behind the screen, and what comes of it.

use crate::{
    model::{AllocatorInfo, LocationId, Mode, Names, ProcessId, Profile},
    session::SymbolJob,
    top::{Answer, ProbeCost},
};
use std::sync::Arc;

/// What is to be done.
pub enum Job {
    Names {
        feed: u64,
        ids: Vec<LocationId>,
        job: SymbolJob,
    },
    /// Of one process of `profile`; `ids` are the locations of its sites.
    Flame {
        profile: Arc<Profile>,
        process: ProcessId,
        ids: Vec<LocationId>,
        job: SymbolJob,
        growth: bool,
        pid: u32,
    },
    /// What tracing a process in this mode would be.
    Examine {
        pid: u32,
        table_bytes: u64,
        mode: Mode,
    },
    /// What traced calls of a process with these allocators cost in this mode.
    Cost {
        pid: u32,
        allocators: Vec<AllocatorInfo>,
        mode: Mode,
    },
}

/// What came of it.
pub enum Done {
    Names {
        feed: u64,
        names: Names,
    },
    /// What is to be said.
    Flame(String),
    Examined {
        pid: u32,
        answer: Answer,
    },
    Cost {
        allocators: Vec<AllocatorInfo>,
        cost: Option<ProbeCost>,
    },
}
