//! A sharded model's `model.safetensors.index.json`: which file holds which tensor.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Longest index accepted, in bytes.
pub const MAX_INDEX_BYTES: u64 = 16 << 20;

/// Most files of one model.
const MAX_SHARDS: usize = 1000;

/// Why an index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It is not the JSON that it should be.
    #[error("{file} does not map tensors to files; fetch the model again")]
    Json {
        /// The index.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It names no file at all, or too many.
    #[error("{file} names {found} files (1 to {MAX_SHARDS} are accepted); fetch the model again")]
    Number {
        /// The index.
        file: String,
        /// How many.
        found: usize,
    },
    /// It names something that is no safetensors file beside it.
    #[error("{file} names '{shard}', which is no safetensors file in its own directory")]
    Shard {
        /// The index.
        file: String,
        /// The name.
        shard: String,
    },
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// Names of the files that hold a sharded model's tensors, sorted; `file` names the index in
/// messages.
///
/// # Errors
/// A text that is no index, or one that leads out of its directory.
pub fn shard_names(file: &str, text: &[u8]) -> Result<Vec<String>, IndexError> {
    let file = || file.to_owned();
    let index: Index =
        serde_json::from_slice(text).map_err(|source| IndexError::Json { file: file(), source })?;
    let names: BTreeSet<String> = index.weight_map.into_values().collect();
    if names.is_empty() || names.len() > MAX_SHARDS {
        return Err(IndexError::Number { file: file(), found: names.len() });
    }
    let fits = |name: &&String| {
        name.ends_with(".safetensors")
            && !name.starts_with('.')
            && !name.contains(|c: char| matches!(c, '/' | '\\') || c.is_control())
    };
    match names.iter().find(|name| !fits(name)) {
        Some(shard) => Err(IndexError::Shard { file: file(), shard: shard.clone() }),
        None => Ok(names.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_lie_beside_their_index() {
        let names = |text: &str| shard_names("i", text.as_bytes()).map_err(|e| e.to_string());
        let text = r#"{"metadata": {"total_size": 3}, "weight_map":
            {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}}"#;
        assert_eq!(names(text).unwrap(), ["model-1.safetensors", "model-2.safetensors"]);
        assert!(names("[]").unwrap_err().contains("does not map"));
        assert!(names(r#"{"weight_map": {}}"#).unwrap_err().contains("0 files"));
        for wrong in ["../x.safetensors", "/x.safetensors", "x.bin", ".safetensors"] {
            let error = names(&format!(r#"{{"weight_map": {{"a": "{wrong}"}}}}"#)).unwrap_err();
            assert!(error.contains("no safetensors file in its own"), "{error}");
        }
    }
}
