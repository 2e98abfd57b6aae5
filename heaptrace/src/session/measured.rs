//! Whose memory is to be measured next, and what was measured.

use crate::{
    allocators::{Known, Recognizer},
    model::{ProcessId, Residency},
    rss::Rounds,
};
use std::collections::{HashMap, HashSet};

/// See the module.
#[derive(Default)]
pub(super) struct Residencies {
    pub rounds: Rounds,
    pub recognizer: Recognizer,
    /// By record: one is one image of a process.
    pub allocators: HashMap<u32, Known>,
    /// Processes of which it was told that their heaps are not read.
    pub unread: HashSet<u32>,
    /// Since they were last handed out.
    pub new: HashMap<ProcessId, Residency>,
}
