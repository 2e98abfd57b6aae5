//! See `heaptrace::fuzz::unwind_cache`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::unwind_cache(bytes));
