//! A model's directory: are the files complete and do they fit each other?

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use deptune_sweep::model::{
    CONFIG_FILE, INDEX_FILE, ModelConfig, PREFIX_BYTES, TOKENIZER_FILE, WEIGHTS_FILE, WeightsFile,
    check_tokenizer, check_weights, header_length, shard_names,
};

use crate::paths::shown;
use crate::spec_file::chain;

/// Files that make a model with its weights in one file.
const FILES: [&str; 3] = [CONFIG_FILE, WEIGHTS_FILE, TOKENIZER_FILE];

/// Largest tokenizer file that is read.
const MAX_TOKENIZER: u64 = 256 << 20;

/// Largest index of weight files that is read.
const MAX_INDEX: u64 = 64 << 20;

/// The files in `dir` that make a model, with its shards if it has them; all of them are hashed
/// at submission.
///
/// # Errors
/// When an index cannot be read or is no index.
pub(crate) fn files(dir: &Path) -> Result<Vec<String>, String> {
    let mut files = vec![CONFIG_FILE.to_owned()];
    match shards(dir)? {
        Some(shards) => {
            files.push(INDEX_FILE.to_owned());
            files.extend(shards);
        }
        None => files.push(WEIGHTS_FILE.to_owned()),
    }
    files.push(TOKENIZER_FILE.to_owned());
    Ok(files)
}

/// What is wrong with the weights and the tokenizer in `dir`, one message each. Reads the
/// headers of the weights only.
pub(crate) fn problems(dir: &Path, config: &ModelConfig) -> Vec<String> {
    let checks =
        [check_weight_files(dir, config), check_tokenizer_file(&dir.join(TOKENIZER_FILE), config)];
    checks.into_iter().filter_map(Result::err).collect()
}

/// The shards that an index names; none where there is one file, or neither.
fn shards(dir: &Path) -> Result<Option<BTreeSet<String>>, String> {
    let path = dir.join(INDEX_FILE);
    if dir.join(WEIGHTS_FILE).exists() || !path.exists() {
        return Ok(None);
    }
    let name = shown(&path);
    let io = |error| format!("cannot read {name}: {error}");
    let length = std::fs::metadata(&path).map_err(io)?.len();
    if length > MAX_INDEX {
        return Err(format!("{name} has {length} bytes; that is no index of weight files"));
    }
    let text = std::fs::read(&path).map_err(io)?;
    shard_names(&name, &text).map(Some).map_err(|error| chain(&error))
}

fn check_weight_files(dir: &Path, config: &ModelConfig) -> Result<(), String> {
    let (whole, names) = match shards(dir)? {
        Some(shards) => (INDEX_FILE, shards),
        None => (WEIGHTS_FILE, BTreeSet::from([WEIGHTS_FILE.to_owned()])),
    };
    let files = names.iter().map(|name| weights_file(&dir.join(name)));
    let files = files.collect::<Result<Vec<WeightsFile>, String>>()?;
    check_weights(&shown(&dir.join(whole)), &files, config).map_err(|error| chain(&error))
}

fn weights_file(path: &Path) -> Result<WeightsFile, String> {
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
    Ok(WeightsFile { file: name, header, length })
}

fn missing(name: &str) -> String {
    format!("{name} is missing; a model is a directory with {}", FILES.join(", "))
}

fn check_tokenizer_file(path: &Path, config: &ModelConfig) -> Result<(), String> {
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
