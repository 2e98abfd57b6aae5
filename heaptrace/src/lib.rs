//! heaptrace: a system-wide heap-allocation tracer for Linux.
//!
//! Data flows one way: probes -> maps -> drain -> model -> symbolize -> render. See `ARCHITECTURE.md`.

pub mod bpf;
pub mod model;
pub mod probes;
pub mod process;
