//! The shape of a T5, read from the `config.json` that lies beside its weights.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Why a `config.json` cannot be used. Every variant names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is no JSON, or a field is missing or of another type.
    #[error("{} is not the configuration of a T5 model", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Names the field, line and column.
        #[source]
        source: serde_json::Error,
    },
    /// A field holds something that this version has no code for.
    #[error("{}: {field} = {value} is not supported (supported: {supported})", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// Name of the field.
        field: &'static str,
        /// What the file says.
        value: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// A field holds a number outside of its range.
    #[error("{}: {field} = {value} is out of range (expected {expected})", path.display())]
    OutOfRange {
        /// The file.
        path: PathBuf,
        /// Name of the field.
        field: &'static str,
        /// What the file says.
        value: String,
        /// The accepted range.
        expected: &'static str,
    },
}

/// The feed-forward layer of a T5 block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedForwardKind {
    /// v1.0: `wo(relu(wi(x)))`.
    Relu,
    /// v1.1: `wo(gelu(wi_0(x)) * wi_1(x))` with the tanh approximation of gelu.
    GatedGelu,
}

/// The numbers that define a T5 encoder-decoder. Field names are those of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct T5Config {
    /// Hidden size d.
    pub d_model: usize,
    /// Size of one attention head; `num_heads * d_kv` may differ from `d_model`.
    pub d_kv: usize,
    /// Inner size of the feed-forward layer.
    pub d_ff: usize,
    /// Blocks of the encoder.
    pub num_layers: usize,
    /// Blocks of the decoder.
    pub num_decoder_layers: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Rows of the embedding (padded: may exceed the tokenizer's vocabulary).
    pub vocab_size: usize,
    /// Kind of the feed-forward layer.
    pub feed_forward: FeedForwardKind,
    /// Dropout rate of the backbone in training, 0 to below 1.
    pub dropout_rate: f64,
    /// Epsilon of the RMS norms.
    pub layer_norm_epsilon: f64,
    /// Buckets of the relative position bias.
    pub relative_attention_num_buckets: usize,
    /// Distance from which on all positions share the last bucket.
    pub relative_attention_max_distance: usize,
    /// The head is a matrix of its own (`lm_head.weight`), not the embedding.
    pub own_head: bool,
    /// The decoder's output is multiplied by `d_model^-0.5` before the head.
    pub scale_decoder_outputs: bool,
    /// First token of every decoder input.
    pub decoder_start_token_id: i64,
    /// Token that pads inputs.
    pub pad_token_id: i64,
    /// Token that ends a generated text.
    pub eos_token_id: i64,
}

/// The file as written. Defaults are those of the `transformers` class for absent keys.
#[derive(Deserialize)]
struct Raw {
    model_type: String,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_decoder_layers: Option<usize>,
    num_heads: usize,
    vocab_size: usize,
    #[serde(default = "relu")]
    feed_forward_proj: String,
    #[serde(default = "tenth")]
    dropout_rate: f64,
    #[serde(default = "millionth")]
    layer_norm_epsilon: f64,
    #[serde(default = "buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
    scale_decoder_outputs: Option<bool>,
    #[serde(default)]
    decoder_start_token_id: i64,
    #[serde(default)]
    pad_token_id: i64,
    #[serde(default = "one")]
    eos_token_id: i64,
}

fn relu() -> String {
    "relu".to_owned()
}
fn tenth() -> f64 {
    0.1
}
fn millionth() -> f64 {
    1e-6
}
fn buckets() -> usize {
    32
}
fn distance() -> usize {
    128
}
fn yes() -> bool {
    true
}
fn one() -> i64 {
    1
}

impl T5Config {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the field.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }

    /// Reads the text of a `config.json`; `path` only serves the messages.
    ///
    /// # Errors
    /// [`ConfigError`], naming the file and the field.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let raw: Raw = serde_json::from_str(text)
            .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })?;
        let unsupported = |field, value: &str, supported| ConfigError::Unsupported {
            path: path.to_owned(),
            field,
            value: value.to_owned(),
            supported,
        };
        if raw.model_type != "t5" {
            return Err(unsupported("model_type", &raw.model_type, "t5"));
        }
        let feed_forward = match raw.feed_forward_proj.as_str() {
            "relu" => FeedForwardKind::Relu,
            "gated-gelu" => FeedForwardKind::GatedGelu,
            other => return Err(unsupported("feed_forward_proj", other, "relu, gated-gelu")),
        };
        // transformers 5 writes the factor under a name of its own and no longer tells the
        // untied head by `tie_word_embeddings`; a model without the factor has its own head.
        let scale_decoder_outputs = raw.scale_decoder_outputs.unwrap_or(raw.tie_word_embeddings);
        let config = Self {
            d_model: raw.d_model,
            d_kv: raw.d_kv,
            d_ff: raw.d_ff,
            num_layers: raw.num_layers,
            num_decoder_layers: raw.num_decoder_layers.unwrap_or(raw.num_layers),
            num_heads: raw.num_heads,
            vocab_size: raw.vocab_size,
            feed_forward,
            dropout_rate: raw.dropout_rate,
            layer_norm_epsilon: raw.layer_norm_epsilon,
            relative_attention_num_buckets: raw.relative_attention_num_buckets,
            relative_attention_max_distance: raw.relative_attention_max_distance,
            own_head: !raw.tie_word_embeddings || !scale_decoder_outputs,
            scale_decoder_outputs,
            decoder_start_token_id: raw.decoder_start_token_id,
            pad_token_id: raw.pad_token_id,
            eos_token_id: raw.eos_token_id,
        };
        config.check(path)?;
        Ok(config)
    }

    fn check(&self, path: &Path) -> Result<(), ConfigError> {
        let bad = |field, value: String, expected| {
            Err(ConfigError::OutOfRange { path: path.to_owned(), field, value, expected })
        };
        // The upper bound keeps every product of two sizes far inside i64.
        for (field, value) in [
            ("d_model", self.d_model),
            ("d_kv", self.d_kv),
            ("d_ff", self.d_ff),
            ("num_layers", self.num_layers),
            ("num_decoder_layers", self.num_decoder_layers),
            ("num_heads", self.num_heads),
            ("vocab_size", self.vocab_size),
        ] {
            if value == 0 || value > 1 << 24 {
                return bad(field, value.to_string(), "1 to 16777216");
            }
        }
        let buckets = self.relative_attention_num_buckets;
        if !(4..=1 << 16).contains(&buckets) || !buckets.is_multiple_of(4) {
            let field = "relative_attention_num_buckets";
            return bad(field, buckets.to_string(), "a multiple of 4 up to 65536");
        }
        if self.relative_attention_max_distance <= buckets / 2 {
            let value = self.relative_attention_max_distance.to_string();
            return bad(
                "relative_attention_max_distance",
                value,
                "more than half of relative_attention_num_buckets",
            );
        }
        if !(0.0..1.0).contains(&self.dropout_rate) {
            return bad("dropout_rate", self.dropout_rate.to_string(), "0 to below 1");
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon < 1.0) {
            let value = self.layer_norm_epsilon.to_string();
            return bad("layer_norm_epsilon", value, "above 0, below 1");
        }
        for (field, id) in [
            ("decoder_start_token_id", self.decoder_start_token_id),
            ("pad_token_id", self.pad_token_id),
            ("eos_token_id", self.eos_token_id),
        ] {
            if id < 0 || id as usize >= self.vocab_size {
                return bad(field, id.to_string(), "a token below vocab_size");
            }
        }
        Ok(())
    }

    /// Width of all heads together, `num_heads * d_kv`.
    pub fn inner(&self) -> usize {
        self.num_heads * self.d_kv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V10: &str = r#"{"model_type":"t5","d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,
        "num_heads":4,"vocab_size":384}"#;

    fn parse(text: &str) -> Result<T5Config, ConfigError> {
        T5Config::parse(text, Path::new("m/config.json"))
    }

    #[test]
    fn absent_keys_take_the_defaults_of_v10() {
        let config = parse(V10).unwrap();
        assert_eq!(config.num_decoder_layers, 2);
        assert_eq!(config.feed_forward, FeedForwardKind::Relu);
        assert!(config.scale_decoder_outputs && !config.own_head);
        assert_eq!(config.dropout_rate, 0.1);
    }

    #[test]
    fn untied_head_takes_the_factor_away() {
        let text = V10.replace('}', r#","tie_word_embeddings":false}"#);
        let config = parse(&text).unwrap();
        assert!(!config.scale_decoder_outputs && config.own_head);
        let text =
            V10.replace('}', r#","tie_word_embeddings":true,"scale_decoder_outputs":false}"#);
        let config = parse(&text).unwrap();
        assert!(!config.scale_decoder_outputs && config.own_head);
    }

    #[test]
    fn problems_name_file_and_field() {
        let missing = parse(&V10.replace("\"d_ff\":128,", "")).unwrap_err();
        assert!(missing.to_string().contains("m/config.json"));
        let source = std::error::Error::source(&missing).unwrap().to_string();
        assert!(source.contains("d_ff"), "{source}");
        let other = parse(&V10.replace("\"t5\"", "\"bert\"")).unwrap_err();
        assert!(other.to_string().contains("model_type = bert"), "{other}");
        let heads = parse(&V10.replace("\"num_heads\":4", "\"num_heads\":0")).unwrap_err();
        assert!(heads.to_string().contains("num_heads = 0"), "{heads}");
    }
}
