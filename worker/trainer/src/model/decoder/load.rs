//! GPT-2 and Llama from their weight files, whose names may stand behind the body's name
//! (`transformer.`, `model.`) or bare.

use deptune_sweep::model::{Gpt2Config, LlamaConfig};
use tch::Tensor;

use super::Decoder;
use super::attention::Attention;
use super::block::{Block, FeedForward, Norm};
use super::position::{Positions, frequencies};
use crate::model::layers::{Linear, RmsNorm};
use crate::weights::{Weights, WeightsError};

/// What stands in front of the names of a GPT-2's body, and the name of its word embedding.
pub(super) const GPT2: (&str, &str) = ("transformer.", "wte.weight");
/// The same of a Llama.
pub(super) const LLAMA: (&str, &str) = ("model.", "embed_tokens.weight");

/// The prefix that this file uses.
pub(super) fn prefix(weights: &Weights, (prefix, embedding): (&'static str, &str)) -> &'static str {
    if weights.contains(embedding) { "" } else { prefix }
}

/// The output matrix: the word embedding, or one of its own.
fn head(weights: &Weights, tied: bool, embedding: &Tensor) -> Result<Linear, WeightsError> {
    let head = if tied {
        embedding.shallow_clone()
    } else {
        weights.get("lm_head.weight", &embedding.size())?
    };
    Ok(Linear::new(head))
}

pub(super) fn gpt2(
    weights: &Weights,
    config: &Gpt2Config,
    embedding: &Tensor,
) -> Result<Decoder, WeightsError> {
    let prefix = prefix(weights, GPT2);
    let (d, ff) = (config.n_embd, config.n_inner);
    let norm = |name: &str| Norm::layer(weights, name, d, config.layer_norm_epsilon);
    let size = d / config.n_head;
    let blocks = (0..config.n_layer)
        .map(|layer| {
            let name = format!("{prefix}h.{layer}");
            let map = |part: &str, inputs, outputs| {
                Linear::transposed(weights, &format!("{name}.{part}"), inputs, outputs)
            };
            let root = if config.scale_attn_weights { f64::from(size).sqrt() } else { 1.0 };
            let depth = if config.scale_attn_by_inverse_layer_idx { layer + 1 } else { 1 };
            Ok(Block {
                attention_norm: norm(&format!("{name}.ln_1"))?,
                attention: Attention {
                    qkv: map("attn.c_attn", d, 3 * d)?,
                    out: map("attn.c_proj", d, d)?,
                    heads: i64::from(config.n_head),
                    shared: i64::from(config.n_head),
                    size: i64::from(size),
                    scale: 1.0 / (root * f64::from(depth)),
                },
                feed_forward_norm: norm(&format!("{name}.ln_2"))?,
                feed_forward: FeedForward::Gelu {
                    inner: map("mlp.c_fc", d, ff)?,
                    outer: map("mlp.c_proj", ff, d)?,
                },
                drops_outputs: true,
            })
        })
        .collect::<Result<_, WeightsError>>()?;
    let positions = [i64::from(config.n_positions), i64::from(d)];
    Ok(Decoder {
        blocks,
        positions: Positions::Learned(weights.get(&format!("{prefix}wpe.weight"), &positions)?),
        norm: norm(&format!("{prefix}ln_f"))?,
        head: head(weights, config.tied_head, embedding)?,
        drops_inputs: true,
    })
}

pub(super) fn llama(
    weights: &Weights,
    config: &LlamaConfig,
    embedding: &Tensor,
) -> Result<Decoder, WeightsError> {
    let prefix = prefix(weights, LLAMA);
    let (d, ff) = (config.hidden_size, config.intermediate_size);
    let norm = |name: &str| RmsNorm::load(weights, name, d, config.rms_norm_eps).map(Norm::Rms);
    let inner = config.num_attention_heads * config.head_dim;
    let shared = i64::from(config.num_key_value_heads * config.head_dim);
    let blocks = (0..config.num_hidden_layers)
        .map(|layer| {
            let name = format!("{prefix}layers.{layer}");
            let part = |part: &str, rows: i64| (format!("{name}.{part}"), rows);
            let qkv = [
                part("self_attn.q_proj", i64::from(inner)),
                part("self_attn.k_proj", shared),
                part("self_attn.v_proj", shared),
            ];
            let gates = [part("mlp.gate_proj", i64::from(ff)), part("mlp.up_proj", i64::from(ff))];
            let (out, down) = (format!("{name}.self_attn.o_proj"), format!("{name}.mlp.down_proj"));
            Ok(Block {
                attention_norm: norm(&format!("{name}.input_layernorm"))?,
                attention: Attention {
                    qkv: Linear::stacked(weights, &qkv, d, config.attention_bias)?,
                    out: Linear::load(weights, &out, d, inner, config.attention_bias)?,
                    heads: i64::from(config.num_attention_heads),
                    shared: i64::from(config.num_key_value_heads),
                    size: i64::from(config.head_dim),
                    scale: 1.0 / f64::from(config.head_dim).sqrt(),
                },
                feed_forward_norm: norm(&format!("{name}.post_attention_layernorm"))?,
                feed_forward: FeedForward::SwiGlu {
                    inner: Linear::stacked(weights, &gates, d, config.mlp_bias)?,
                    outer: Linear::load(weights, &down, d, ff, config.mlp_bias)?,
                },
                drops_outputs: false,
            })
        })
        .collect::<Result<_, WeightsError>>()?;
    let frequencies = frequencies(config, weights.kind(), weights.device())
        .map_err(|source| weights.copy_failed("rotary frequencies", source))?;
    Ok(Decoder {
        blocks,
        positions: Positions::Rotary(frequencies),
        norm: norm(&format!("{prefix}norm"))?,
        head: head(weights, config.tied_head, embedding)?,
        drops_inputs: false,
    })
}
