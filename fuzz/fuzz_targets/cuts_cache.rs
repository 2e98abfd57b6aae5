//! See `heaptrace::fuzz::cuts_cache`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::cuts_cache(bytes));
