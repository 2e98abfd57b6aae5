//! See `heaptrace::fuzz::debug_link`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::debug_link(bytes));
