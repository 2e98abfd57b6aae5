//! End-to-end test harness: runs the real `heaptrace` on test programs that keep a ledger, and compares.
//!
//! `programs` compiles the test programs, `session` records one of them, `compare` holds the report against the
//! ledger, `live` runs the commands that print while they trace,
//! `runner` turns a list of functions into a test binary.
//!
//! `cargo test -p heaptrace-tests [--test SUITE] -- [FILTER] [--test-threads N]`, as root; suites are in `suites`.
//! `HEAPTRACE_BIN` names another binary than the one that is built. Where BPF cannot be used, the end-to-end tests
//! are ignored and a line `NOT RUN: N end-to-end tests: REASON` says so.

pub mod bpf;
pub mod caller;
pub mod code;
pub mod compare;
pub mod diagnosis;
pub mod estimates;
pub mod gdb;
pub mod growth;
pub mod heaptrace;
pub mod huge_pages;
pub mod judged;
pub mod ledger;
pub mod live;
pub mod picture;
pub mod postgres;
pub mod probe;
pub mod programs;
pub mod redis;
pub mod report;
pub mod runner;
pub mod running;
pub mod session;
pub mod slow_names;
pub mod steps;
pub mod terminal;
