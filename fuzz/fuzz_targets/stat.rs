//! See `heaptrace::fuzz::stat`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::stat(bytes));
