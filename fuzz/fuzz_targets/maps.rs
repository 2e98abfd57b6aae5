//! See `heaptrace::fuzz::maps`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::maps(bytes));
