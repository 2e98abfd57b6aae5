//! heaptrace: a system-wide heap-allocation tracer for Linux.
//!
//! Data flows one way: probes -> maps -> drain -> model -> symbolize -> render. See `ARCHITECTURE.md`.

#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]
#![cfg_attr(test, expect(clippy::disallowed_methods, reason = "tests read what they made themselves"))]

pub mod allocators;
pub mod attribution;
pub mod bpf;
pub mod budget;
pub mod cli;
pub mod commands;
pub mod created;
mod demangle;
pub mod doctor;
pub mod drain;
pub mod engine;
pub mod error;
pub mod file;
#[cfg(test)]
mod fixtures;
#[doc(hidden)]
pub mod fuzz;
pub mod growth;
pub mod inspect;
pub mod model;
pub mod printable;
pub mod probes;
pub mod process;
pub mod report;
pub mod rss;
pub mod session;
pub mod symbolize;
pub mod target;
pub mod top;
mod units;
pub mod unwind;
pub mod verdicts;
pub mod walk;
pub mod widgets;
