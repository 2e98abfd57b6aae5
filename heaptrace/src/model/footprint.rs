//! How much memory what a recording holds takes: in a profile, and in the reports that are made of it.

use super::{
    AllocatorInfo, BadFree, BuildId, Cohort, Cohorts, Coverage, Frame, FrameId, FreePair, Frees, GrowthId,
    Heap, JemallocHeap, LifetimeHistogram, Location, LocationId, Module, Note, Notes, Process, ProcessId,
    Residency, Samples, Site, SiteId, SizeHistogram, Stack, Symbol, Thread, Untraceable,
};

/// What the allocator needs for a piece of memory beside what was asked for.
pub(crate) const PIECE: u64 = 16;

/// Bytes in memory.
pub(crate) trait Footprint: Sized {
    /// What reports make of each, at most, at one time.
    const REPORTED: u64 = 0;

    /// What it has beside itself.
    fn beside(&self) -> u64;

    /// With itself, and what reports make of it.
    fn whole(&self) -> u64 {
        size_of::<Self>() as u64 + Self::REPORTED + self.beside()
    }
}

macro_rules! flat {
    ($($type:ty: $reported:literal;)*) => {
        $(impl Footprint for $type {
            const REPORTED: u64 = $reported;
            fn beside(&self) -> u64 { 0 }
        })*
    };
}

flat! {
    u8: 0;
    u64: 0;
    FrameId: 0;
    LocationId: 0;
    ProcessId: 0;
    // Its site is found again, chosen, sorted, and may be a row.
    SiteId: 320;
    GrowthId: 320;
    Frame: 0;
    Cohort: 0;
    // Sorted, and shown.
    BadFree: 320;
    FreePair: 320;
    // It is looked up, and has a name made of its module's if no symbol is found.
    Location: 232;
}

impl Footprint for String {
    fn beside(&self) -> u64 {
        if self.is_empty() { 0 } else { self.len() as u64 + PIECE }
    }
}

impl<T: Footprint> Footprint for Vec<T> {
    fn beside(&self) -> u64 {
        self.iter().map(T::whole).fold(if self.is_empty() { 0 } else { PIECE }, u64::saturating_add)
    }
}

impl<T: Footprint> Footprint for Option<T> {
    fn beside(&self) -> u64 {
        self.as_ref().map_or(0, T::beside)
    }
}

impl<A: Footprint, B: Footprint> Footprint for (A, B) {
    const REPORTED: u64 = A::REPORTED + B::REPORTED;

    fn beside(&self) -> u64 {
        self.0.beside() + self.1.beside()
    }
}

impl Footprint for BuildId {
    fn beside(&self) -> u64 {
        self.0.beside()
    }
}

impl Footprint for Module {
    fn beside(&self) -> u64 {
        let Self { path, build_id } = self;
        path.beside() + build_id.beside()
    }
}

impl Footprint for Symbol {
    /// A label.
    const REPORTED: u64 = 96;

    fn beside(&self) -> u64 {
        let Self { name, file, line: _, inlined: _ } = self;
        name.beside() + file.beside()
    }
}

impl Footprint for Stack {
    fn beside(&self) -> u64 {
        self.frames.beside()
    }
}

impl Footprint for Thread {
    /// A row.
    const REPORTED: u64 = 320;

    fn beside(&self) -> u64 {
        let Self { tid: _, name } = self;
        2 * name.beside()
    }
}

impl Footprint for SizeHistogram {
    fn beside(&self) -> u64 {
        self.0.beside()
    }
}

impl Footprint for LifetimeHistogram {
    fn beside(&self) -> u64 {
        self.0.beside()
    }
}

impl Footprint for Site {
    fn beside(&self) -> u64 {
        // Reports have as much of each again.
        let samples = self.samples.as_ref().map_or(0, |_| 2 * (size_of::<Samples>() as u64 + PIECE));
        self.sizes.beside() + self.lifetimes.beside() + samples
    }
}

impl Footprint for Cohorts {
    /// A place in a map, a judgement.
    const REPORTED: u64 = 256;

    fn beside(&self) -> u64 {
        let Self { span_ns: _, parts } = self;
        parts.beside()
    }
}

impl Footprint for Frees {
    fn beside(&self) -> u64 {
        let Self { bad, pairs, is_cut: _ } = self;
        bad.beside() + pairs.beside()
    }
}

impl Footprint for AllocatorInfo {
    fn beside(&self) -> u64 {
        let Self { kind, path } = self;
        kind.beside() + path.beside()
    }
}

impl Footprint for Process {
    /// A row, a histogram.
    const REPORTED: u64 = 1024;

    fn beside(&self) -> u64 {
        // Names are in all of them.
        4 * (self.comm.beside() + self.exe.beside()) + self.allocators.beside()
    }
}

impl Footprint for Untraceable {
    const REPORTED: u64 = 128;

    fn beside(&self) -> u64 {
        let Self { pid: _, comm, reason } = self;
        2 * (comm.beside() + reason.beside())
    }
}

impl Footprint for Coverage {
    fn beside(&self) -> u64 {
        self.untraceable.beside() + self.notes.beside()
    }
}

impl Footprint for Note {
    const REPORTED: u64 = 128;

    fn beside(&self) -> u64 {
        // Once more for its sentence.
        2 * match self {
            Self::TrapsForOthers { files, more: _ } => files.beside(),
            Self::ProbedLate { comm, files, .. }
            | Self::EndedUnseen { comm, files, .. }
            | Self::OwnSamples { comm, files, .. } => comm.beside() + files.beside(),
            Self::CodeReplaced { comm, before, after, .. } => {
                comm.beside() + before.beside() + after.beside()
            }
            Self::LeftOut { comm, reason, .. } => comm.beside() + reason.beside(),
            Self::Distrusted { function, path, reason, .. } => {
                function.beside() + path.beside() + reason.beside()
            }
            Self::Grew { comm, .. } => comm.beside(),
            Self::HiddenAllocator { path, allocator } => path.beside() + allocator.beside(),
            Self::PriceUnknown { reason: text }
            | Self::GrowthUnavailable { reason: text }
            | Self::FaultsUnavailable { reason: text }
            | Self::MappingsFromProc { reason: text }
            | Self::NoUnwindTable { reason: text }
            | Self::NotProbed { what: text }
            | Self::ProbesNotPlaced { reason: text, .. }
            | Self::NotProbedAgain { reason: text, .. }
            | Self::BreakpointsNotHeld { reason: text, .. }
            | Self::EndedBlocksNotRemoved { reason: text }
            | Self::TablesNotGrown { reason: text }
            | Self::LiveBlocksUnreadable { reason: text }
            | Self::UnmappedBlocksUnknown { reason: text }
            | Self::MappingsUnreadable { reason: text, .. }
            | Self::HeapNotRead { reason: text, .. }
            | Self::MemoryNotMeasured { reason: text, .. }
            | Self::Marked { name: text, .. }
            | Self::NamesMissing { what: text }
            | Self::FileDamaged { reason: text, .. }
            | Self::PartsSkipped { what: text }
            | Self::Told { text } => text.beside(),
            Self::PerfEventProbes { .. }
            | Self::GrowthOff
            | Self::Budget { .. }
            | Self::WhenGrowing { .. }
            | Self::MappingsLost { .. }
            | Self::TracepointsSkipped { .. }
            | Self::MappingsWithoutTable { .. }
            | Self::StacksNotKept { .. }
            | Self::UnclassedBlocks { .. }
            | Self::BreakpointsGone { .. }
            | Self::ProbesMoved { .. }
            | Self::MappingsNotRead => 0,
        }
    }
}

impl Footprint for Notes {
    fn beside(&self) -> u64 {
        let cases = self.kinds().iter().flat_map(|cases| cases.kept());
        cases.map(Note::whole).fold(self.kinds().len() as u64 * PIECE, u64::saturating_add)
    }
}

impl Footprint for Residency {
    /// The parts that its resident memory is divided into, with their sentences.
    const REPORTED: u64 = 4096;

    fn beside(&self) -> u64 {
        match &self.heap {
            Heap::Unreadable { allocator, why } => 4 * (allocator.beside() + why.beside()),
            Heap::Glibc(_) => 0,
            Heap::Jemalloc(JemallocHeap { version, .. }) => 4 * version.beside(),
        }
    }
}
