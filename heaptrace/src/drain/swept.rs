//! What is remembered of blocks that were removed from the live map.

use std::collections::{HashMap, HashSet};

/// Oldest allocation times of blocks that were removed from the live map, by site number in the map.
#[derive(Default)]
pub struct Ages {
    pub removed: HashMap<u32, u64>,
    /// Records that ended and whose blocks were removed.
    pub swept: HashSet<u32>,
}
