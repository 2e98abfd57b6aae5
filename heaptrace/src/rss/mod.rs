//! Why a process's RSS is what it is: [`measure`] looks at one from outside, and [`reconcile`], pure arithmetic, divides
//! its resident bytes into parts that sum to the RSS, each marked as measured, inferred or a bound.
//!
//! RSS is the sum of `Rss` over /proc/PID/smaps, the counts of the page tables themselves. `VmRSS` in /proc/PID/status
//! differs by what CPUs or threads have counted and not summed up yet (`percpu_counter` since Linux 6.2, before in
//! batches of 64 events a thread, mm/memory.c).

mod counted;
mod heap;
pub mod mappings;
mod measure;
mod own_mappings;
mod pages;
mod parts;
mod reconcile;
mod rounds;

pub use measure::{Limits, Measured, measure};
pub use parts::{How, Part, PartKind};
pub use reconcile::{Reconciliation, reconcile};
pub use rounds::Rounds;
