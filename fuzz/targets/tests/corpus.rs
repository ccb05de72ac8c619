//! Replays the fuzzers' corpus: every input that ever reached new code, and every one that was
//! once a failure.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::Path;

use deptune_fuzz_targets::TARGETS;

#[test]
fn the_corpus_is_read_without_panic() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    for (name, target) in TARGETS {
        let folder = corpus.join(name);
        let files = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("no corpus in {}: {error}", folder.display()));
        let mut inputs = 0;
        for file in files {
            let path = file.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{} panics", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", folder.display());
    }
}
