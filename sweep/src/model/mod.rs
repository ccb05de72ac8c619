//! What can be said about a model from its files' text and headers alone: its shapes, whether
//! the weights are complete and fit them, whether the tokenizer fits.
//!
//! No input or output here: callers read the files and hand in bytes, so that submission, the
//! coordinator and the trainer make the same checks with the same words.

mod config;
mod tokenizer;
mod weights;

pub use config::{
    FeedForward, Gpt2Config, LlamaConfig, MODEL_TYPES, ModelConfig, ModelError, RopeScaling,
    T5Config,
};
pub use tokenizer::{TokenizerError, check_tokenizer};
pub use weights::{MAX_HEADER_BYTES, PREFIX_BYTES, WeightsError, check_weights, header_length};

/// File names within a model's directory.
pub const CONFIG_FILE: &str = "config.json";
/// The weights.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// The tokenizer.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
