//! The shape of a Llama.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ModelError;
use super::fields::{Fields, MAX_VOCAB};

/// Shapes and constants of a Llama, under the names of its `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LlamaConfig {
    /// d: hidden size.
    pub hidden_size: u32,
    /// Inner size of the feed-forward layers.
    pub intermediate_size: u32,
    /// Blocks.
    pub num_hidden_layers: u32,
    /// Attention heads of the queries.
    pub num_attention_heads: u32,
    /// Attention heads of keys and values; each serves an equal share of the queries' heads.
    pub num_key_value_heads: u32,
    /// Size of one attention head, even; heads × `head_dim` may differ from `hidden_size`.
    pub head_dim: u32,
    /// Positions that the model was made for.
    pub max_position_embeddings: u32,
    /// Rows of the word embedding; at least the number of tokens.
    pub vocab_size: u32,
    /// Added to the mean square in norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched, if at all.
    pub rope_scaling: Option<RopeScaling>,
    /// Whether the attention's linear maps have a bias.
    pub attention_bias: bool,
    /// Whether the feed-forward's linear maps have a bias.
    pub mlp_bias: bool,
    /// Dropout rate of attention weights, in [0, 1).
    pub attention_dropout: f64,
    /// Whether the head is the word embedding; otherwise the weights hold a head of their own.
    pub tied_head: bool,
    /// Id of the end-of-text token.
    pub eos_token_id: u32,
    /// Id of the padding token, where there is one.
    pub pad_token_id: Option<u32>,
}

/// How rotary frequencies are stretched for longer texts than the model was trained on first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// All frequencies divided by the factor.
    Linear {
        /// 1 or more.
        factor: f64,
    },
    /// Llama 3: low frequencies divided by the factor, high ones kept, a ramp in between.
    Llama3 {
        /// 1 or more.
        factor: f64,
        /// Wavelengths longer than the original length over this are stretched in full.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original length over this are kept.
        high_freq_factor: f64,
        /// Positions before stretching.
        original_max_position_embeddings: u32,
    },
}

impl LlamaConfig {
    pub(super) fn read(fields: &Fields<'_>) -> Result<LlamaConfig, ModelError> {
        fields.choice("hidden_act", Some("silu"), &["silu", "swish"])?;
        let hidden_size = fields.whole("hidden_size", None, 1, 65_536)?;
        let heads = fields.whole("num_attention_heads", None, 1, 4_096)?;
        let shared = fields.whole("num_key_value_heads", Some(heads), 1, 4_096)?;
        if !heads.is_multiple_of(shared) {
            let expected = format!("a divisor of num_attention_heads ({heads})");
            return Err(fields.wrong("num_key_value_heads", expected, &shared.into()));
        }
        let head_dim = fields.whole("head_dim", Some((hidden_size / heads).max(1)), 1, 65_536)?;
        if !head_dim.is_multiple_of(2) {
            return Err(fields.wrong("head_dim", "an even number".to_owned(), &head_dim.into()));
        }
        let rope = Rope::read(fields)?;
        Ok(LlamaConfig {
            hidden_size,
            intermediate_size: fields.whole("intermediate_size", None, 1, 1 << 20)?,
            num_hidden_layers: fields.whole("num_hidden_layers", None, 1, 1_000)?,
            num_attention_heads: heads,
            num_key_value_heads: shared,
            head_dim,
            max_position_embeddings: fields.whole(
                "max_position_embeddings",
                Some(2_048),
                1,
                1 << 24,
            )?,
            vocab_size: fields.whole("vocab_size", None, 1, MAX_VOCAB)?,
            rms_norm_eps: fields.real("rms_norm_eps", 1e-6, f64::MIN_POSITIVE, 1.0)?,
            rope_theta: rope.theta,
            rope_scaling: rope.scaling,
            attention_bias: fields.flag("attention_bias", false)?,
            mlp_bias: fields.flag("mlp_bias", false)?,
            attention_dropout: fields.real("attention_dropout", 0.0, 0.0, 1.0)?,
            tied_head: fields.flag("tie_word_embeddings", false)?,
            eos_token_id: fields.end_token(2)?,
            pad_token_id: fields.padding()?,
        })
    }
}

/// What the file says about rotary positions: `rope_theta` and `rope_scaling`, or both in
/// `rope_parameters` as newer files have it.
struct Rope {
    theta: f64,
    scaling: Option<RopeScaling>,
}

const THETA: f64 = 10_000.0;
const LARGEST: f64 = 1e12;

impl Rope {
    fn read(fields: &Fields<'_>) -> Result<Rope, ModelError> {
        let newer = fields.get("rope_parameters");
        let field = if newer.is_some() { "rope_parameters" } else { "rope_scaling" };
        let theta = fields.real("rope_theta", THETA, 1.0, LARGEST)?;
        let Some(value) = newer.or_else(|| fields.get("rope_scaling")) else {
            return Ok(Rope { theta, scaling: None });
        };
        let Value::Object(map) = value else {
            return Err(fields.wrong(field, "an object".to_owned(), value));
        };
        let inner = Fields { map, ..*fields };
        let theta = inner.real("rope_theta", theta, 1.0, LARGEST)?;
        let key = if inner.get("rope_type").is_some() { "rope_type" } else { "type" };
        let kinds = ["default", "linear", "llama3"];
        let factor = || inner.real("factor", 1.0, 1.0, LARGEST);
        let scaling = match inner.choice(key, Some("default"), &kinds)? {
            "linear" => Some(RopeScaling::Linear { factor: factor()? }),
            "llama3" => {
                let low_freq_factor = inner.real("low_freq_factor", 1.0, 1e-6, LARGEST)?;
                let high_freq_factor = inner.real("high_freq_factor", 4.0, 1e-6, LARGEST)?;
                if high_freq_factor <= low_freq_factor {
                    let expected = format!("more than low_freq_factor ({low_freq_factor})");
                    let found = &high_freq_factor.into();
                    return Err(inner.wrong("high_freq_factor", expected, found));
                }
                Some(RopeScaling::Llama3 {
                    factor: factor()?,
                    low_freq_factor,
                    high_freq_factor,
                    original_max_position_embeddings: inner.whole(
                        "original_max_position_embeddings",
                        None,
                        1,
                        1 << 24,
                    )?,
                })
            }
            _ => None,
        };
        Ok(Rope { theta, scaling })
    }
}
