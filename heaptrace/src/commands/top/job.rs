//! What is done behind the screen, and what comes of it.

use crate::{
    model::{AllocatorInfo, LocationId, Names, ProcessId, Profile},
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
    /// What tracing a process would be.
    Examine {
        pid: u32,
        table_bytes: u64,
    },
    /// What traced calls of a process with these allocators cost.
    Cost {
        pid: u32,
        allocators: Vec<AllocatorInfo>,
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
