//! See `heaptrace::fuzz::mapped`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::mapped(bytes));
