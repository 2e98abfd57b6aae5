//! See `heaptrace::fuzz::elf`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| heaptrace::fuzz::elf(bytes));
