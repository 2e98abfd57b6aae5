//! What a process maps, kept up with its calls: pure arithmetic over address ranges, which asks nobody.

mod intervals;
mod space;

pub use intervals::{Intervals, Kind, Removed};
pub use space::{Call, Change, Space, When};
