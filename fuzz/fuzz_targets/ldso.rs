//! See `heaptrace::fuzz::ldso`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::ldso(bytes));
