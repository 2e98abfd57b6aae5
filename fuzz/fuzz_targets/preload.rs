//! See `heaptrace::fuzz::preload`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::preload(bytes));
