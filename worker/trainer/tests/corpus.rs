//! Replays the corpus of the fuzzer of checkpoints and adapters.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

#[path = "../../../fuzz/bin/checkpoint_input.rs"]
mod checkpoint_input;

use std::path::Path;

#[test]
fn the_corpus_is_read_without_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/checkpoint");
    let mut inputs = 0;
    for file in std::fs::read_dir(&corpus).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let result = std::panic::catch_unwind(|| checkpoint_input::checkpoint(&bytes));
        assert!(result.is_ok(), "{} panics", path.display());
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus is empty");
}
