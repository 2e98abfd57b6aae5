//! What changed between recordings, `heaptrace diff`: call stacks matched by what stays the same across builds, restarts and
//! machines, and how their bytes and blocks differ.
//!
//! Each recording becomes a [`Side`], so that only one profile is in memory at a time; [`Compared`] is what several come to,
//! and one file a format writes that down.

mod compare;
mod csv;
mod json;
mod markdown;
mod measured;
mod names;
mod options;
mod render;
mod side;
mod svg;
mod text;

#[cfg(test)]
mod tests;

pub use compare::Compared;
pub use names::Names;
pub use options::{Chosen, DiffBy, DiffFormat, DiffOptions, Limit, Per};
pub use render::render_diff;
pub use side::Side;
