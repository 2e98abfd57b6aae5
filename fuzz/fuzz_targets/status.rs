//! See `heaptrace::fuzz::status`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::status(bytes));
