#![no_main]

// The reader of parquet files catches panics of the library below it; the fuzzer's own hook would
// end the process before that. A panic that leaves the target still ends it.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| deptune_fuzz_targets::rows(bytes)
);
