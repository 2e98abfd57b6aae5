//! heaptrace: a system-wide heap-allocation tracer for Linux.
//!
//! Data flows one way: probes -> maps -> drain -> model -> symbolize -> render. See `ARCHITECTURE.md`.

pub mod cli;
pub mod commands;
pub mod error;
pub mod file;
pub mod model;
pub mod report;
pub mod symbolize;
