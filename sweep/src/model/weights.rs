//! A model's `model.safetensors`: 8 bytes with the header's length (little endian), a JSON header
//! that names each tensor's type, shape and place, and the tensors' bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::config::ModelConfig;
use super::needed::{needed_tensors, prefix};

/// Bytes in front of the header.
pub const PREFIX_BYTES: u64 = 8;

/// Longest header accepted, in bytes. Real ones have some tens of kilobytes.
pub const MAX_HEADER_BYTES: u64 = 64 << 20;

/// Why a weights file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// Shorter than its header says.
    #[error(
        "{file} is truncated: expected {expected} bytes, found {actual}; fetch the model again"
    )]
    Truncated {
        /// The file's name.
        file: String,
        /// Bytes that there should be (at least).
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// Longer than its header says.
    #[error(
        "{file} has {actual} bytes where its header describes {expected}; fetch the model again"
    )]
    TooLong {
        /// The file's name.
        file: String,
        /// Bytes that there should be.
        expected: u64,
        /// Bytes that there are.
        actual: u64,
    },
    /// The length of the header is out of range.
    #[error(
        "{file} claims a header of {claimed} bytes (at most {MAX_HEADER_BYTES} are accepted); \
         it is damaged or no safetensors file"
    )]
    HeaderTooLarge {
        /// The file's name.
        file: String,
        /// What it claims.
        claimed: u64,
    },
    /// The header is not the JSON that it should be.
    #[error("the header of {file} is not valid; it is damaged or no safetensors file")]
    Header {
        /// The file's name.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The index of a sharded model is not the JSON that it should be.
    #[error("{file} is no index of weight files; fetch the model again")]
    Index {
        /// The file's name.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// The index names a file elsewhere.
    #[error("{file} names the file '{name}', which is no plain file name; fetch the model again")]
    Shard {
        /// The index's name.
        file: String,
        /// The name, shortened.
        name: String,
    },
    /// A tensor's place in the file is impossible.
    #[error("{file}: tensor '{tensor}' has impossible offsets or size; fetch the model again")]
    Layout {
        /// The file's name.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// Needed tensors are not there.
    #[error(
        "{file}: tensor '{tensor}' is missing ({missing} of {needed} missing); config.json \
         describes another model, or the weights are in another file"
    )]
    Missing {
        /// The file's name.
        file: String,
        /// The first of them.
        tensor: String,
        /// How many.
        missing: usize,
        /// How many are needed in all.
        needed: usize,
    },
    /// A tensor has another shape than the configuration says.
    #[error(
        "{file}: tensor '{tensor}' has shape {found:?}, config.json asks for {expected:?}; \
         the two files belong to different models"
    )]
    Shape {
        /// The file's name.
        file: String,
        /// The tensor.
        tensor: String,
        /// By `config.json`.
        expected: Vec<u64>,
        /// In the file.
        found: Vec<u64>,
    },
    /// A tensor is not of a floating-point type that can be read.
    #[error("{file}: tensor '{tensor}' has type {found}, expected F32, BF16, F16 or F64")]
    Type {
        /// The file's name.
        file: String,
        /// The tensor.
        tensor: String,
        /// In the file.
        found: String,
    },
}

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The number of header bytes that follow the prefix, from the file's first bytes (up to
/// [`PREFIX_BYTES`] of them) and its length.
///
/// # Errors
/// A file too short for its header, or a header longer than [`MAX_HEADER_BYTES`].
pub fn header_length(file: &str, first: &[u8], file_length: u64) -> Result<u64, WeightsError> {
    let truncated =
        |expected| WeightsError::Truncated { file: file.to_owned(), expected, actual: file_length };
    let prefix: [u8; 8] = first
        .get(..8)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| truncated(PREFIX_BYTES))?;
    let claimed = u64::from_le_bytes(prefix);
    if claimed > MAX_HEADER_BYTES {
        return Err(WeightsError::HeaderTooLarge { file: file.to_owned(), claimed });
    }
    if file_length < PREFIX_BYTES + claimed {
        return Err(truncated(PREFIX_BYTES + claimed));
    }
    Ok(claimed)
}

/// One of a model's weight files, as far as it is looked at.
#[derive(Debug, Clone)]
pub struct WeightsFile {
    /// Its name for messages.
    pub file: String,
    /// The JSON after the prefix.
    pub header: Vec<u8>,
    /// Its length in bytes.
    pub length: u64,
}

/// Checks headers and lengths of a model's weight files, and that every tensor that a model of
/// this configuration needs is in one of them in its shape. `name` is that of the whole: the
/// one file, or the index.
///
/// # Errors
/// See [`WeightsError`]: a damaged or truncated file, a missing tensor, a wrong shape or type.
pub fn check_weights(
    name: &str,
    files: &[WeightsFile],
    config: &ModelConfig,
) -> Result<(), WeightsError> {
    let mut found = BTreeMap::new();
    for WeightsFile { file, header, length } in files {
        let tensors = read_header(file, header)?;
        check_length(file, header.len() as u64, &tensors, *length)?;
        found.extend(tensors.into_iter().map(|(name, tensor)| (name, (file, tensor))));
    }
    let needed = needed_tensors(config, prefix(config, &found));
    let mut missing = needed.keys().filter(|name| !found.contains_key(*name));
    if let Some(first) = missing.next() {
        return Err(WeightsError::Missing {
            file: name.to_owned(),
            tensor: first.clone(),
            missing: 1 + missing.count(),
            needed: needed.len(),
        });
    }
    for (name, expected) in needed {
        let Some((file, tensor)) = found.get(&name) else { continue };
        let file = (*file).clone();
        if tensor.shape != expected {
            let found = tensor.shape.clone();
            return Err(WeightsError::Shape { file, tensor: name, expected, found });
        }
        if !matches!(tensor.dtype.as_str(), "F32" | "BF16" | "F16" | "F64") {
            let found = tensor.dtype.clone();
            return Err(WeightsError::Type { file, tensor: name, found });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The files that the index of a sharded model names, each once; `file` is the index's own name.
///
/// # Errors
/// [`WeightsError::Index`] for other JSON, [`WeightsError::Shard`] for a name that leads out of
/// the model's directory.
pub fn shard_names(file: &str, text: &[u8]) -> Result<BTreeSet<String>, WeightsError> {
    let index: Index = serde_json::from_slice(text)
        .map_err(|source| WeightsError::Index { file: file.to_owned(), source })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    let plain = |name: &String| Path::new(name).file_name() == Some(name.as_ref());
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(WeightsError::Shard {
            file: file.to_owned(),
            name: name.chars().take(60).collect(),
        }),
        None => Ok(names),
    }
}

fn read_header(file: &str, header: &[u8]) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let wrong = |source| WeightsError::Header { file: file.to_owned(), source };
    let raw: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).map_err(wrong)?;
    raw.into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(|(name, value)| Ok((name, serde_json::from_value(value).map_err(wrong)?)))
        .collect()
}

/// The tensors must tile the rest of the file: no gap, no overlap, each as long as its shape.
fn check_length(
    file: &str,
    header: u64,
    tensors: &BTreeMap<String, Tensor>,
    actual: u64,
) -> Result<(), WeightsError> {
    let mut by_place: Vec<_> = tensors.iter().collect();
    by_place.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut end = 0;
    for (name, tensor) in by_place {
        let (from, to) = tensor.data_offsets;
        let fits = from == end
            && to.checked_sub(from).is_some_and(|bytes| {
                tensor_bytes(tensor).is_none_or(|expected| expected == Some(bytes))
            });
        if !fits {
            let tensor = name.clone();
            return Err(WeightsError::Layout { file: file.to_owned(), tensor });
        }
        end = to;
    }
    let expected = end.saturating_add(PREFIX_BYTES + header);
    let file = file.to_owned();
    if actual < expected {
        return Err(WeightsError::Truncated { file, expected, actual });
    }
    if actual > expected {
        return Err(WeightsError::TooLong { file, expected, actual });
    }
    Ok(())
}

/// Bytes of a tensor by its shape: `Some(None)` on overflow, `None` for a type whose size is not
/// known here (it may be in a tensor that is not needed).
fn tensor_bytes(tensor: &Tensor) -> Option<Option<u64>> {
    let each = match tensor.dtype.as_str() {
        "F64" | "I64" | "U64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "I8" | "U8" | "BOOL" => 1,
        _ => return None,
    };
    Some(tensor.shape.iter().try_fold(each, |bytes: u64, n| bytes.checked_mul(*n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &[u8], length: u64) -> Result<(), WeightsError> {
        let (file, header) = ("w".to_owned(), header.to_vec());
        check_weights("w", &[WeightsFile { file, header, length }], &config())
    }

    fn config() -> ModelConfig {
        let text = r#"{"model_type":"t5","d_model":8,"d_kv":2,"d_ff":16,"num_layers":1,
            "num_heads":2,"vocab_size":10}"#;
        ModelConfig::parse("config.json", text).unwrap()
    }

    /// A header with every needed tensor, after `change`, and the whole file's length.
    fn file(change: impl FnOnce(&mut BTreeMap<String, Vec<u64>>)) -> (Vec<u8>, u64) {
        let mut tensors = needed_tensors(&config(), "");
        change(&mut tensors);
        let mut at = 0;
        let mut header = serde_json::Map::new();
        for (name, shape) in tensors {
            let bytes = shape.iter().product::<u64>() * 2;
            header.insert(
                name,
                serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [at, at + bytes]}),
            );
            at += bytes;
        }
        header.insert("__metadata__".to_owned(), serde_json::json!({"format": "pt"}));
        let header = serde_json::to_vec(&header).unwrap();
        let length = PREFIX_BYTES + header.len() as u64 + at;
        (header, length)
    }

    #[test]
    fn a_complete_file_passes() {
        let (header, length) = file(|_| {});
        let first = (header.len() as u64).to_le_bytes();
        assert_eq!(header_length("w", &first, length).unwrap(), header.len() as u64);
        check(&header, length).unwrap();
    }

    #[test]
    fn damaged_files_say_what_was_expected() {
        let (header, length) = file(|_| {});
        let error = |result: Result<_, WeightsError>| result.map(|_| ()).unwrap_err().to_string();
        assert_eq!(
            error(header_length("w", &[1, 2], 2)),
            "w is truncated: expected 8 bytes, found 2; fetch the model again"
        );
        assert_eq!(
            error(header_length("w", &100_u64.to_le_bytes(), 50)),
            "w is truncated: expected 108 bytes, found 50; fetch the model again"
        );
        assert!(
            error(header_length("w", b"<html>\n ", 5000)).contains("damaged or no safetensors")
        );
        assert_eq!(
            error(check(&header, length - 100).map(|()| 0)),
            format!(
                "w is truncated: expected {length} bytes, found {}; fetch the model again",
                length - 100
            )
        );
        assert!(error(check(&header, length + 1).map(|()| 0)).contains("has"));
        assert!(
            error(check(b"{\"a\": 3}", 16).map(|()| 0)).contains("the header of w is not valid")
        );
        let overlap = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(
            error(check(overlap, 16).map(|()| 0)).contains("tensor 'a' has impossible offsets")
        );
        let overflow =
            br#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
        assert!(error(check(overflow, 16).map(|()| 0)).contains("tensor 'a' has impossible"));
    }

    #[test]
    fn tensors_must_be_those_of_the_configuration() {
        let (header, length) = file(|tensors| {
            tensors.remove("decoder.block.0.layer.1.EncDecAttention.q.weight");
        });
        let error = check(&header, length).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "w: tensor 'decoder.block.0.layer.1.EncDecAttention.q.weight' is missing (1 of 26"
            ),
            "{error}"
        );
        let (header, length) = file(|tensors| {
            tensors.insert("shared.weight".to_owned(), vec![11, 8]);
        });
        let error = check(&header, length).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "w: tensor 'shared.weight' has shape [11, 8], config.json asks for [10, 8]"
            ),
            "{error}"
        );
    }
}
