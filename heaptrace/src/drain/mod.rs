//! From the BPF maps to the model: reads counters, gives addresses their modules, and hands out what changed.

mod ages;
mod attendance;
mod builder;
mod carried;
mod code;
mod cohorts;
mod followed;
mod frees;
mod gone;
mod growth;
mod images;
mod interner;
mod kept_sites;
mod kernel;
mod liveness;
mod old;
mod origins;
mod outstanding;
mod over;
mod owners;
mod past;
mod pauses;
mod processes;
mod retiring;
mod sites;
mod statistics;
mod swept;
mod told;
mod weighing;

pub use builder::{ProfileBuilder, SymbolInputs};
pub use code::Code;
pub use images::is_code;
pub(crate) use images::{CodeMapping, Image};
#[cfg(test)]
pub(crate) use kernel::KernelTables;
pub use processes::Counted;
pub use weighing::Weighing;

#[cfg(test)]
mod kernel_tests;
