#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| deptune_fuzz_targets::wire(bytes));
