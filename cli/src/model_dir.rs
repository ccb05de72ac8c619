//! A model's directory: are the files complete and do they fit each other?

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use deptune_sweep::model::{
    CONFIG_FILE, ModelConfig, PREFIX_BYTES, TOKENIZER_FILE, WEIGHTS_FILE, check_tokenizer,
    check_weights, header_length,
};

use crate::paths::shown;
use crate::spec_file::chain;

/// Files that make a model; all of them are hashed at submission.
pub(crate) const FILES: [&str; 3] = [CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE];

/// Largest tokenizer file that is read.
const MAX_TOKENIZER: u64 = 256 << 20;

/// What is wrong with the weights and the tokenizer in `dir`, one message each. Reads the
/// header of the weights only.
pub(crate) fn problems(dir: &Path, config: &ModelConfig) -> Vec<String> {
    let checks = [
        check_weights_file(&dir.join(WEIGHTS_FILE), config),
        check_tokenizer_file(&dir.join(TOKENIZER_FILE), config),
    ];
    checks.into_iter().filter_map(Result::err).collect()
}

fn check_weights_file(path: &PathBuf, config: &ModelConfig) -> Result<(), String> {
    let name = shown(path);
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(&name),
        _ => format!("cannot read {name}: {error}"),
    };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut first = Vec::new();
    Read::by_ref(&mut file).take(PREFIX_BYTES).read_to_end(&mut first).map_err(io)?;
    let header_length = header_length(&name, &first, length).map_err(|error| chain(&error))?;
    let mut header = Vec::new();
    file.take(header_length).read_to_end(&mut header).map_err(io)?;
    check_weights(&name, &header, length, config).map_err(|error| chain(&error))
}

fn missing(name: &str) -> String {
    format!("{name} is missing; a model is a directory with {}", FILES.join(", "))
}

fn check_tokenizer_file(path: &PathBuf, config: &ModelConfig) -> Result<(), String> {
    let name = shown(path);
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => missing(&name),
        _ => format!("cannot read {name}: {error}"),
    };
    let length = std::fs::metadata(path).map_err(io)?.len();
    if length > MAX_TOKENIZER {
        return Err(format!("{name} has {length} bytes; that is no tokenizer file"));
    }
    let text = std::fs::read(path).map_err(io)?;
    check_tokenizer(&name, &text, config).map_err(|error| chain(&error))
}
