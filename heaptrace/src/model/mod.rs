//! What a recording holds, free of kernel and file formats: interned tables, counters, and the immutable
//! [`Profile`] that every report is rendered from.

mod ids;
mod profile;
mod sizes;

pub use ids::{BuildId, FrameId, LocationId, ModuleId, ProcessId, SiteId, StackId};
pub use profile::{
    AllocatorInfo, Coverage, Frame, Host, Location, Lost, Mode, Module, Process, Profile, Site, Stack,
    Symbol, Totals, Untraceable,
};
pub use sizes::SizeHistogram;
