//! A model's `model.safetensors`: 8 bytes with the header's length (little endian), a JSON header
//! that names each tensor's type, shape and place, and the tensors' bytes.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::config::{FeedForward, Gpt2Config, LlamaConfig, ModelConfig, T5Config};

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

/// Checks the header (the JSON after the prefix) and the file's length, and that every tensor
/// that a model of this configuration needs is there in its shape.
///
/// # Errors
/// See [`WeightsError`]: a damaged or truncated file, a missing tensor, a wrong shape or type.
pub fn check_weights(
    file: &str,
    header: &[u8],
    file_length: u64,
    config: &ModelConfig,
) -> Result<(), WeightsError> {
    let tensors = read_header(file, header)?;
    check_length(file, header.len() as u64, &tensors, file_length)?;
    let needed = needed_tensors(config, prefix(config, &tensors));
    let mut missing = needed.keys().filter(|name| !tensors.contains_key(*name));
    if let Some(first) = missing.next() {
        return Err(WeightsError::Missing {
            file: file.to_owned(),
            tensor: first.clone(),
            missing: 1 + missing.count(),
            needed: needed.len(),
        });
    }
    for (name, expected) in needed {
        let Some(tensor) = tensors.get(&name) else { continue };
        if tensor.shape != expected {
            return Err(WeightsError::Shape {
                file: file.to_owned(),
                tensor: name,
                expected,
                found: tensor.shape.clone(),
            });
        }
        if !matches!(tensor.dtype.as_str(), "F32" | "BF16" | "F16" | "F64") {
            let found = tensor.dtype.clone();
            return Err(WeightsError::Type { file: file.to_owned(), tensor: name, found });
        }
    }
    Ok(())
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

/// Names and shapes of every tensor that a model of this configuration needs; a decoder's body
/// has its names behind `prefix`.
pub(super) fn needed_tensors(config: &ModelConfig, prefix: &str) -> BTreeMap<String, Vec<u64>> {
    match config {
        ModelConfig::T5(config) => t5_tensors(config),
        ModelConfig::Gpt2(config) => gpt2_tensors(config, prefix),
        ModelConfig::Llama(config) => llama_tensors(config, prefix),
    }
}

fn t5_tensors(config: &T5Config) -> BTreeMap<String, Vec<u64>> {
    let d = u64::from(config.d_model);
    let ff = u64::from(config.d_ff);
    let heads = u64::from(config.num_heads);
    let inner = heads * u64::from(config.d_kv);
    let vocab = u64::from(config.vocab_size);
    let buckets = u64::from(config.relative_attention_num_buckets);
    let mut needed = BTreeMap::from([("shared.weight".to_owned(), vec![vocab, d])]);
    if !config.tied_head {
        needed.insert("lm_head.weight".to_owned(), vec![vocab, d]);
    }
    let inputs: &[&str] = match config.feed_forward {
        FeedForward::Relu => &["wi"],
        FeedForward::GatedGelu => &["wi_0", "wi_1"],
    };
    let stacks: [(&str, u32, &[&str]); 2] = [
        ("encoder", config.num_layers, &["SelfAttention"]),
        ("decoder", config.num_decoder_layers, &["SelfAttention", "EncDecAttention"]),
    ];
    for (stack, blocks, attentions) in stacks {
        needed.insert(format!("{stack}.final_layer_norm.weight"), vec![d]);
        // Block 0 holds the position bias that the stack's other blocks share.
        needed.insert(
            format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"),
            vec![buckets, heads],
        );
        for block in 0..blocks {
            for (layer, attention) in attentions.iter().enumerate() {
                let layer = format!("{stack}.block.{block}.layer.{layer}");
                for part in ["q", "k", "v"] {
                    needed.insert(format!("{layer}.{attention}.{part}.weight"), vec![inner, d]);
                }
                needed.insert(format!("{layer}.{attention}.o.weight"), vec![d, inner]);
                needed.insert(format!("{layer}.layer_norm.weight"), vec![d]);
            }
            let layer = format!("{stack}.block.{block}.layer.{}", attentions.len());
            for input in inputs {
                needed.insert(format!("{layer}.DenseReluDense.{input}.weight"), vec![ff, d]);
            }
            needed.insert(format!("{layer}.DenseReluDense.wo.weight"), vec![d, ff]);
            needed.insert(format!("{layer}.layer_norm.weight"), vec![d]);
        }
    }
    needed
}

fn gpt2_tensors(config: &Gpt2Config, prefix: &str) -> BTreeMap<String, Vec<u64>> {
    let d = u64::from(config.n_embd);
    let ff = u64::from(config.n_inner);
    let vocab = u64::from(config.vocab_size);
    let mut needed = BTreeMap::from([
        (format!("{prefix}wte.weight"), vec![vocab, d]),
        (format!("{prefix}wpe.weight"), vec![u64::from(config.n_positions), d]),
        (format!("{prefix}ln_f.weight"), vec![d]),
        (format!("{prefix}ln_f.bias"), vec![d]),
    ]);
    if !config.tied_head {
        needed.insert("lm_head.weight".to_owned(), vec![vocab, d]);
    }
    for block in 0..config.n_layer {
        let block = format!("{prefix}h.{block}");
        for norm in ["ln_1", "ln_2"] {
            needed.insert(format!("{block}.{norm}.weight"), vec![d]);
            needed.insert(format!("{block}.{norm}.bias"), vec![d]);
        }
        // Stored as [in, out].
        let maps = [
            ("attn.c_attn", d, 3 * d),
            ("attn.c_proj", d, d),
            ("mlp.c_fc", d, ff),
            ("mlp.c_proj", ff, d),
        ];
        for (map, inputs, outputs) in maps {
            needed.insert(format!("{block}.{map}.weight"), vec![inputs, outputs]);
            needed.insert(format!("{block}.{map}.bias"), vec![outputs]);
        }
    }
    needed
}

fn llama_tensors(config: &LlamaConfig, prefix: &str) -> BTreeMap<String, Vec<u64>> {
    let d = u64::from(config.hidden_size);
    let ff = u64::from(config.intermediate_size);
    let vocab = u64::from(config.vocab_size);
    let size = u64::from(config.head_dim);
    let heads = u64::from(config.num_attention_heads) * size;
    let shared = u64::from(config.num_key_value_heads) * size;
    let mut needed = BTreeMap::from([
        (format!("{prefix}embed_tokens.weight"), vec![vocab, d]),
        (format!("{prefix}norm.weight"), vec![d]),
    ]);
    if !config.tied_head {
        needed.insert("lm_head.weight".to_owned(), vec![vocab, d]);
    }
    for block in 0..config.num_hidden_layers {
        let block = format!("{prefix}layers.{block}");
        for norm in ["input_layernorm", "post_attention_layernorm"] {
            needed.insert(format!("{block}.{norm}.weight"), vec![d]);
        }
        let maps = [
            ("self_attn.q_proj", heads, d, config.attention_bias),
            ("self_attn.k_proj", shared, d, config.attention_bias),
            ("self_attn.v_proj", shared, d, config.attention_bias),
            ("self_attn.o_proj", d, heads, config.attention_bias),
            ("mlp.gate_proj", ff, d, config.mlp_bias),
            ("mlp.up_proj", ff, d, config.mlp_bias),
            ("mlp.down_proj", d, ff, config.mlp_bias),
        ];
        for (map, outputs, inputs, bias) in maps {
            needed.insert(format!("{block}.{map}.weight"), vec![outputs, inputs]);
            if bias {
                needed.insert(format!("{block}.{map}.bias"), vec![outputs]);
            }
        }
    }
    needed
}

/// What stands in front of the names of a decoder's body: files of the whole model have its name
/// there, files of the bare body have nothing.
fn prefix(config: &ModelConfig, tensors: &BTreeMap<String, Tensor>) -> &'static str {
    let (prefix, embedding) = match config {
        ModelConfig::T5(_) => return "",
        ModelConfig::Gpt2(_) => ("transformer.", "wte.weight"),
        ModelConfig::Llama(_) => ("model.", "embed_tokens.weight"),
    };
    if tensors.contains_key(embedding) { "" } else { prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        check_weights("w", &header, length, &config()).unwrap();
    }

    #[test]
    fn damaged_files_say_what_was_expected() {
        let (header, length) = file(|_| {});
        let config = config();
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
            error(check_weights("w", &header, length - 100, &config).map(|()| 0)),
            format!(
                "w is truncated: expected {length} bytes, found {}; fetch the model again",
                length - 100
            )
        );
        assert!(
            error(check_weights("w", &header, length + 1, &config).map(|()| 0)).contains("has")
        );
        assert!(
            error(check_weights("w", b"{\"a\": 3}", 16, &config).map(|()| 0))
                .contains("the header of w is not valid")
        );
        let overlap = br#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
        assert!(
            error(check_weights("w", overlap, 16, &config).map(|()| 0))
                .contains("tensor 'a' has impossible offsets")
        );
        let overflow =
            br#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#;
        assert!(
            error(check_weights("w", overflow, 16, &config).map(|()| 0))
                .contains("tensor 'a' has impossible")
        );
    }

    #[test]
    fn tensors_must_be_those_of_the_configuration() {
        let (header, length) = file(|tensors| {
            tensors.remove("decoder.block.0.layer.1.EncDecAttention.q.weight");
        });
        let error = check_weights("w", &header, length, &config()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "w: tensor 'decoder.block.0.layer.1.EncDecAttention.q.weight' is missing (1 of 26"
            ),
            "{error}"
        );
        let (header, length) = file(|tensors| {
            tensors.insert("shared.weight".to_owned(), vec![11, 8]);
        });
        let error = check_weights("w", &header, length, &config()).unwrap_err().to_string();
        assert!(
            error.starts_with(
                "w: tensor 'shared.weight' has shape [11, 8], config.json asks for [10, 8]"
            ),
            "{error}"
        );
    }
}
