//! See `heaptrace::fuzz::unwind`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::unwind(bytes));
