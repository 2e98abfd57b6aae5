//! The kernel side as userspace sees it: loading, attaching, and typed handles on the maps. Only this folder
//! knows aya and bpf(2).

mod array;
mod attach;
mod btf;
mod checks;
mod chunks;
mod cursors;
mod empty;
mod error;
mod events;
mod features;
mod free_numbers;
mod gates;
mod given_back;
mod growing;
mod kernel_types;
mod live_table;
mod load;
mod log;
mod maps;
mod multi;
mod nodes;
mod options;
pub mod probing;
mod retiring;
mod settings;
mod shares;
mod site;
mod site_index;
mod sizes;
mod syscall;
mod taken;
mod thread_filter;
mod tracepoints;
mod unwind_maps;

pub use attach::{Attacher, Links};
pub use aya::maps::MapError;
pub use btf::Btf;
#[cfg(test)]
pub use checks::Checks;
pub use checks::FunctionCheck;
pub use empty::EmptyProbes;
pub use error::LoadError;
pub use events::{EventRing, Told};
pub use features::Features;
pub use load::{OtherBuild, Tracer, load_instead};
pub use log::LogRing;
pub use maps::{Counters, Maps};
pub use multi::MultiProgram;
pub use options::{Members, Options, StackMode};
pub use retiring::{Retired, wait_for_programs};
pub use site::{PlacedSite, ProbeSite};
pub use sizes::{MapSizes, Memory};
pub use thread_filter::own_code;
pub use tracepoints::Placed;
pub use unwind_maps::{PublishError, UnwindArrays, UnwindLosses, UnwindMaps, UnwindSizes};
