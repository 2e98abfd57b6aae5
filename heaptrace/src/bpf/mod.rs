//! The kernel side as userspace sees it: loading, attaching, and typed handles on the maps. Only this folder
//! knows aya and bpf(2).

mod attach;
mod btf;
mod checks;
mod chunks;
mod empty;
mod events;
mod features;
mod gates;
mod growing;
mod kernel_types;
mod live_table;
mod load;
mod maps;
mod multi;
pub mod probing;
mod settings;
mod shares;
mod syscall;
mod thread_filter;
mod tracepoints;
mod unwind_maps;

pub use attach::{Attacher, Links, PlacedSite, ProbeSite};
pub use aya::maps::MapError;
pub use btf::Btf;
pub use checks::FunctionCheck;
pub use empty::EmptyProbes;
pub use events::{EventRing, Told};
pub use features::Features;

pub use load::{LoadError, MapSizes, Members, Memory, Options, OtherBuild, StackMode, Tracer, load_instead};
pub use maps::{Counters, Maps};
pub use multi::MultiProgram;
pub use thread_filter::own_code;
pub use tracepoints::Placed;
pub use unwind_maps::{PublishError, UnwindArrays, UnwindLosses, UnwindMaps, UnwindSizes};
