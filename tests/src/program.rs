//! Where the programs under test are.

use std::path::{Path, PathBuf};

/// The directory with the programs: `DEPTUNE_BIN_DIR`, else the one that cargo put the running
/// test's programs into.
fn directory() -> PathBuf {
    if let Some(named) = std::env::var_os("DEPTUNE_BIN_DIR") {
        return PathBuf::from(named);
    }
    // target/PROFILE/deps/TEST-HASH
    let test = std::env::current_exe().expect("the test's own path");
    test.ancestors().nth(2).expect("a test within a target directory").to_path_buf()
}

fn built(name: &str, build: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(
        path.is_file(),
        "{} is not built; run: {build} (or name another directory with DEPTUNE_BIN_DIR)",
        path.display()
    );
    path
}

/// `deptune`.
#[must_use]
pub fn program() -> PathBuf {
    built("deptune", "cargo build -p deptune")
}

/// The child that only pretends to train.
#[must_use]
pub fn fake_trainer() -> PathBuf {
    built("fake-trainer", "cargo build -p deptune-tests --bins")
}

/// The real trainer: `DEPTUNE_TRAINER`, else beside the other programs. `None`, said loudly, where
/// it is not built, so that everything else can be tested without libtorch.
#[must_use]
pub fn trainer() -> Option<PathBuf> {
    let path = std::env::var_os("DEPTUNE_TRAINER")
        .map_or_else(|| directory().join("deptune-trainer"), PathBuf::from);
    if path.is_file() {
        return Some(path.canonicalize().unwrap_or(path));
    }
    eprintln!(
        "SKIPPED: {} is not built; run: cargo build -p deptune-trainer (or name it with \
         DEPTUNE_TRAINER)",
        path.display()
    );
    None
}

/// The root of the source tree.
pub(crate) fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_path_buf()
}
