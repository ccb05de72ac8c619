#![no_main]

mod checkpoint_input;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checkpoint_input::checkpoint(bytes));
