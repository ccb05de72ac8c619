//! The shape of a GPT-2.

use serde::{Deserialize, Serialize};

use super::ModelError;
use super::fields::{Fields, MAX_VOCAB};

/// Shapes and constants of a GPT-2, under the names of its `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gpt2Config {
    /// d: hidden size, a multiple of the heads.
    pub n_embd: u32,
    /// Attention heads.
    pub n_head: u32,
    /// Blocks.
    pub n_layer: u32,
    /// Inner size of the feed-forward layers (4 d where the file has none).
    pub n_inner: u32,
    /// Rows of the position embedding.
    pub n_positions: u32,
    /// Rows of the word embedding; at least the number of tokens.
    pub vocab_size: u32,
    /// Added to the variance in layer norms.
    pub layer_norm_epsilon: f64,
    /// Whether attention scores are divided by the root of the head's size.
    pub scale_attn_weights: bool,
    /// Whether attention scores are also divided by the number of the block, from 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Dropout rate of embeddings, attention weights and sublayer outputs, in [0, 1).
    pub dropout: f64,
    /// Whether the head is the word embedding; otherwise the weights hold a head of their own.
    pub tied_head: bool,
    /// Id of the end-of-text token.
    pub eos_token_id: u32,
    /// Id of the padding token, where there is one.
    pub pad_token_id: Option<u32>,
}

impl Gpt2Config {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Gpt2Config, ModelError> {
        fields.must_be("add_cross_attention", false)?;
        fields.choice(
            "activation_function",
            Some("gelu_new"),
            &["gelu_new", "gelu_pytorch_tanh"],
        )?;
        let n_embd = fields.whole("n_embd", Some(768), 1, 65_536)?;
        let n_head = fields.whole("n_head", Some(12), 1, 4_096)?;
        if !n_embd.is_multiple_of(n_head) {
            let expected = format!("a multiple of n_head ({n_head})");
            return Err(fields.wrong("n_embd", expected, &n_embd.into()));
        }
        let attention = fields.real("attn_pdrop", 0.1, 0.0, 1.0)?;
        for field in ["embd_pdrop", "resid_pdrop"] {
            let rate = fields.real(field, 0.1, 0.0, 1.0)?;
            if rate.to_bits() != attention.to_bits() {
                let supported = format!("the rate of attn_pdrop, {attention}");
                return Err(fields.unsupported(field, rate.to_string(), supported));
            }
        }
        Ok(Gpt2Config {
            n_embd,
            n_head,
            n_layer: fields.whole("n_layer", Some(12), 1, 1_000)?,
            n_inner: fields.whole("n_inner", Some(4 * n_embd), 1, 1 << 20)?,
            n_positions: fields.whole("n_positions", Some(1_024), 1, 1 << 24)?,
            vocab_size: fields.whole("vocab_size", Some(50_257), 1, MAX_VOCAB)?,
            layer_norm_epsilon: fields.real("layer_norm_epsilon", 1e-5, f64::MIN_POSITIVE, 1.0)?,
            scale_attn_weights: fields.flag("scale_attn_weights", true)?,
            scale_attn_by_inverse_layer_idx: fields
                .flag("scale_attn_by_inverse_layer_idx", false)?,
            dropout: attention,
            tied_head: fields.flag("tie_word_embeddings", true)?,
            eos_token_id: fields.end_token(50_256)?,
            pad_token_id: fields.padding()?,
        })
    }
}
