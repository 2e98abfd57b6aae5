//! See `heaptrace::fuzz::cuts`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::cuts(bytes));
