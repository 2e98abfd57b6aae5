//! Heaps of other processes, read from outside: which allocator a process calls, and what it holds. Layouts by version,
//! and walks over a [`memory::Memory`]; nothing is traced, stopped or written to.

mod broken;
pub mod data;
pub mod glibc;
pub mod jemalloc;
pub mod memory;
mod recognize;

pub use recognize::{Known, Recognizer};
