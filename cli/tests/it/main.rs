//! The program as people run it, without workers: help, exit codes, messages.

// Helpers outside of #[test] functions are test code, too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod check;
mod help;
mod manners;
mod serving;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What a run said.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the program in `dir`, without the settings of the person who runs the tests.
fn deptune(dir: &Path, args: &[&str]) -> Ran {
    run(command(dir).args(args))
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deptune"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["DEPTUNE_", "HF_"].iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command.current_dir(dir).env("HOME", dir).env_remove("XDG_DATA_HOME").env_remove("NO_COLOR");
    // Nothing here asks the network.
    command.env("HF_HUB_OFFLINE", "1").env_remove("XDG_CACHE_HOME");
    command
}

fn run(command: &mut Command) -> Ran {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A copy of the quickstart, to be spoilt.
fn quickstart(dir: &Path) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart");
    for folder in ["data", "model"] {
        std::fs::create_dir_all(dir.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.join(folder).join(entry.file_name())).unwrap();
        }
    }
    let spec = dir.join("sweep.toml");
    std::fs::copy(from.join("sweep.toml"), &spec).unwrap();
    spec
}

/// Replaces a text that must be there.
fn replace(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}
