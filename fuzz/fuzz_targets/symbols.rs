//! See `heaptrace::fuzz::symbols`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::symbols(bytes));
