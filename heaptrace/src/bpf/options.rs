//! What to load.

use super::sizes::MapSizes;

/// How stacks are walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StackMode {
    None,
    FramePointers,
    /// By unwind tables, and by frame pointers where there are none.
    #[default]
    Auto,
    /// By unwind tables only.
    Dwarf,
}

impl StackMode {
    /// Whether unwind tables are looked at.
    pub fn uses_tables(self) -> bool {
        matches!(self, Self::Auto | Self::Dwarf)
    }
}

/// Processes that are targets, running or new, without being named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// All whose effective user has this id.
    User(u32),
    /// All in the cgroup of this id (its directory's inode number) or below.
    Cgroup(u64),
    /// All of the machine.
    All,
}

/// What is told of the calls that map memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Calls {
    /// What they come to, by site.
    #[default]
    Summed,
    /// Each, with a stack if it concerns so many bytes.
    Shown { min_bytes: u64 },
    /// Each, and each page fault, with its site: what became of the memory can be followed.
    Followed,
}

impl Calls {
    /// Whether each is told of.
    pub fn are_told(self) -> bool {
        self != Self::Summed
    }
}

/// What to load.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Every process counts, not only registered ones.
    pub all: bool,
    /// Probes will be placed in files, not in processes.
    pub probes_for_all: bool,
    /// Children of targets are targets.
    pub follow: bool,
    pub stacks: StackMode,
    pub sizes: MapSizes,
    /// Attach to brk, mmap, munmap and mremap.
    pub growth: bool,
    /// Attach to page faults.
    pub faults: bool,
    pub calls: Calls,
    /// Load what is placed in allocators.
    pub probes: bool,
    /// Functions that free are among what will be probed, if anything is.
    pub frees: bool,
    /// Mean bytes from one block that is entered to the next; 0 for every block.
    pub sample_bytes: u64,
    /// Only to see whether it works: neither growth nor faults are attached, and tracefs is not mounted.
    pub trial: bool,
    /// Who becomes a target by an exec, beside children of targets.
    pub members: Option<Members>,
    /// Least and largest size of the blocks that count; others are counted as filtered and looked at no further.
    pub block_sizes: Option<(u64, u64)>,
    /// Probes that programs offer are used.
    pub own_samples: bool,
    /// Log lines from the rare and odd places.
    pub log: bool,
}
