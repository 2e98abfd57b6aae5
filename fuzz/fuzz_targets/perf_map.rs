//! See `heaptrace::fuzz::perf_map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::perf_map(bytes));
