//! See `heaptrace::fuzz::child`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::child(bytes));
