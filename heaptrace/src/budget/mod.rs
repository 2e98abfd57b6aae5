//! When the probes of which process are in place: so that tracing takes no more than its share of the processor time of
//! what is traced, and, where that is asked for, only of processes that grow. Knows no process and no clock but what it is
//! told.

mod account;
mod growth;
mod schedule;

pub use growth::{Growing, Grown};
pub use schedule::{Change, Reading, Schedule};

#[cfg(test)]
mod simulation_tests;
