//! See `heaptrace::fuzz::chunk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::chunk(bytes));
