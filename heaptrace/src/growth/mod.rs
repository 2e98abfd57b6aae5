//! What a process maps, and whose call that was, kept up with its calls: pure arithmetic over address ranges, which asks nobody.

mod intervals;
mod origins;
mod pages;
mod space;
mod told;

pub use intervals::{Intervals, Kind, Removed};
pub use origins::{Origin, Origins, What};
pub use pages::{Page, Seen, chunks, compound, seen, seen_mapped};
pub use space::{Call, Change, Space, When};
pub use told::call_of;
