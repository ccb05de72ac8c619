//! A model's directory: are the files complete and do they fit each other?

use std::fs::File;
use std::io::Read;
use std::path::Path;

use deptune_sweep::model::{
    CONFIG_FILE, INDEX_FILE, MAX_INDEX_BYTES, ModelConfig, PREFIX_BYTES, TOKENIZER_FILE,
    WEIGHTS_FILE, WeightsFile, check_shards, check_tokenizer, header_length, shard_names,
};

use crate::paths::shown;
use crate::spec_file::chain;

/// Largest tokenizer file that is read.
const MAX_TOKENIZER: u64 = 256 << 20;

/// What is wrong with the weights and the tokenizer in `dir`, one message each. Reads the
/// headers of the weights only.
pub(crate) fn problems(dir: &Path, config: &ModelConfig) -> Vec<String> {
    let checks =
        [check_weights_files(dir, config), check_tokenizer_file(&dir.join(TOKENIZER_FILE), config)];
    checks.into_iter().filter_map(Result::err).collect()
}

/// Names of the files that make the model in `dir`; all of them are hashed at submission.
///
/// # Errors
/// An index that cannot be read, in words.
pub(crate) fn files(dir: &Path) -> Result<Vec<String>, String> {
    let weights = weights(dir)?;
    let mut files = vec![CONFIG_FILE.to_owned()];
    if !weights.iter().any(|name| name == WEIGHTS_FILE) {
        files.push(INDEX_FILE.to_owned());
    }
    files.extend(weights);
    files.push(TOKENIZER_FILE.to_owned());
    Ok(files)
}

/// Names of the files with the weights: one, or those of the index.
fn weights(dir: &Path) -> Result<Vec<String>, String> {
    let index = dir.join(INDEX_FILE);
    if dir.join(WEIGHTS_FILE).exists() || !index.exists() {
        return Ok(vec![WEIGHTS_FILE.to_owned()]);
    }
    let name = shown(&index);
    let mut text = Vec::new();
    let read = File::open(&index).and_then(|f| f.take(MAX_INDEX_BYTES).read_to_end(&mut text));
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    shard_names(&name, &text).map_err(|error| chain(&error))
}

fn check_weights_files(dir: &Path, config: &ModelConfig) -> Result<(), String> {
    let mut read = Vec::new();
    for name in weights(dir)? {
        read.push(header(&dir.join(name))?);
    }
    let files: Vec<WeightsFile<'_>> = read
        .iter()
        .map(|(name, header, length)| WeightsFile { name, header, length: *length })
        .collect();
    let model = match files.as_slice() {
        [one] => one.name.to_owned(),
        _ => shown(&dir.join(INDEX_FILE)),
    };
    check_shards(&model, &files, config).map_err(|error| chain(&error))
}

/// Name for messages, header and length of a file of weights.
fn header(path: &Path) -> Result<(String, Vec<u8>, u64), String> {
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
    Ok((name, header, length))
}

fn missing(name: &str) -> String {
    format!(
        "{name} is missing; a model is a directory with {CONFIG_FILE}, {WEIGHTS_FILE} (or \
         {INDEX_FILE} and its files) and {TOKENIZER_FILE}"
    )
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
