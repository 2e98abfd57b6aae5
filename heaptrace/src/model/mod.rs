//! What a recording holds, free of kernel and file formats: interned tables, counters, and the immutable
//! [`Profile`] that every report is rendered from.

mod chunk;
mod classes;
mod cohorts;
mod counts;
mod earlier;
mod estimate;
mod footprint;
mod frees;
mod history;
mod ids;
mod lifetimes;
mod note;
mod outstanding;
mod part;
mod profile;
mod residency;
mod sizes;
mod statistics;
mod stills;
mod timeline;
mod without;

pub use chunk::{BadChunk, Chunk, Names, Start};
pub use cohorts::{COHORTS, Cohort, Cohorts};
pub use counts::Counts;
pub use earlier::Earlier;
pub use estimate::{Apart, Estimate, Sums};
pub(crate) use footprint::{Footprint, PIECE};
pub use frees::{BadFree, Call, FreePair, Frees, Meant};
pub use history::{History, Moment, Peak, Still};
pub use ids::{BuildId, FrameId, GrowthId, LocationId, ModuleId, ProcessId, SiteId, StackId, ThreadId};
pub use lifetimes::LifetimeHistogram;
pub use note::{AfterDistrust, Cases, Note, Notes, StackTable};
pub use outstanding::{Amount, Change, Old, OldBlocks, Trend};
pub use part::{Part, PartKind, RealPeak};
pub use profile::{
    AllocatorInfo, Coverage, Frame, HitPrice, Host, Location, Mode, Module, OWN_SAMPLES, Overhead, Process,
    Profile, Samples, Sampling, Site, SizeFilter, Stack, Symbol, Thread, Totals, Untraceable,
};
pub use residency::{Extent, GlibcHeap, Heap, JemallocHeap, Mappings, Residency, Traced, TracedBlocks};
pub use sizes::SizeHistogram;
pub use statistics::{FunctionStatistics, Statistics};
pub use stills::Stills;
pub use timeline::Timeline;
