//! The shape of a T5.

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::fields::{Fields, MAX_VOCAB};

/// Shapes and constants of a T5 backbone (encoder and decoder), under the names of its
/// `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct T5Config {
    /// d: hidden size.
    pub d_model: u32,
    /// Size of one attention head; heads × `d_kv` may differ from `d_model`.
    pub d_kv: u32,
    /// Inner size of the feed-forward layers.
    pub d_ff: u32,
    /// Blocks of the encoder.
    pub num_layers: u32,
    /// Blocks of the decoder.
    pub num_decoder_layers: u32,
    /// Attention heads.
    pub num_heads: u32,
    /// Rows of the word embedding; at least the number of tokens.
    pub vocab_size: u32,
    /// Buckets of the relative position bias.
    pub relative_attention_num_buckets: u32,
    /// Distance from which on all positions share the last bucket.
    pub relative_attention_max_distance: u32,
    /// Added to the variance in layer norms.
    pub layer_norm_epsilon: f64,
    /// Dropout rate, in [0, 1).
    pub dropout_rate: f64,
    /// Form of the feed-forward layers.
    pub feed_forward: FeedForward,
    /// Whether the head is the word embedding; otherwise the weights hold a head of their own.
    pub tied_head: bool,
    /// Whether the decoder's output is multiplied by d^-0.5 before the head.
    pub scale_decoder_outputs: bool,
    /// Id of the padding token.
    pub pad_token_id: u32,
    /// Id of the end-of-sequence token.
    pub eos_token_id: u32,
    /// Id that the decoder starts from.
    pub decoder_start_token_id: u32,
}

/// Form of the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// One input matrix and ReLU (v1.0).
    Relu,
    /// Two input matrices, one through GELU in its tanh form (v1.1).
    GatedGelu,
}

impl T5Config {
    /// Fields that T5's own configuration class gives a default may be missing.
    pub(super) fn read(fields: &Fields<'_>) -> Result<T5Config, ModelError> {
        let num_layers = fields.whole("num_layers", None, 1, 1_000)?;
        let pad_token_id = fields.whole("pad_token_id", Some(0), 0, MAX_VOCAB - 1)?;
        let forward = ["relu", "gated-gelu"];
        let tied = fields.flag("tie_word_embeddings", true)?;
        let scale_decoder_outputs = fields.flag("scale_decoder_outputs", tied)?;
        let config = T5Config {
            d_model: fields.whole("d_model", None, 1, 65_536)?,
            d_kv: fields.whole("d_kv", None, 1, 65_536)?,
            d_ff: fields.whole("d_ff", None, 1, 1 << 20)?,
            num_layers,
            num_decoder_layers: fields.whole("num_decoder_layers", Some(num_layers), 1, 1_000)?,
            num_heads: fields.whole("num_heads", None, 1, 4_096)?,
            vocab_size: fields.whole("vocab_size", None, 1, MAX_VOCAB)?,
            relative_attention_num_buckets: fields.whole(
                "relative_attention_num_buckets",
                Some(32),
                4,
                65_536,
            )?,
            relative_attention_max_distance: fields.whole(
                "relative_attention_max_distance",
                Some(128),
                2,
                1 << 20,
            )?,
            layer_norm_epsilon: fields.real("layer_norm_epsilon", 1e-6, f64::MIN_POSITIVE, 1.0)?,
            dropout_rate: fields.real("dropout_rate", 0.1, 0.0, 1.0)?,
            feed_forward: match fields.choice("feed_forward_proj", Some("relu"), &forward)? {
                "gated-gelu" => FeedForward::GatedGelu,
                _ => FeedForward::Relu,
            },
            // Newer files keep tie_word_embeddings true and say the same by the other field.
            tied_head: tied && scale_decoder_outputs,
            scale_decoder_outputs,
            pad_token_id,
            eos_token_id: fields.whole("eos_token_id", Some(1), 0, MAX_VOCAB - 1)?,
            decoder_start_token_id: fields.whole(
                "decoder_start_token_id",
                Some(pad_token_id),
                0,
                MAX_VOCAB - 1,
            )?,
        };
        config.check_buckets(fields)?;
        Ok(config)
    }

    /// Each direction has half of the buckets, and half of those for exact distances.
    fn check_buckets(&self, fields: &Fields<'_>) -> Result<(), ModelError> {
        let (buckets, furthest) =
            (self.relative_attention_num_buckets, self.relative_attention_max_distance);
        if !buckets.is_multiple_of(4) {
            let field = "relative_attention_num_buckets";
            return Err(fields.wrong(field, "a multiple of 4".to_owned(), &buckets.into()));
        }
        if furthest <= buckets / 2 {
            let expected = "more than half of relative_attention_num_buckets".to_owned();
            let field = "relative_attention_max_distance";
            return Err(fields.wrong(field, expected, &furthest.into()));
        }
        Ok(())
    }
}
