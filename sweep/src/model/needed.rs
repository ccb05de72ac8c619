//! The tensors that a model of a configuration needs.

use std::collections::BTreeMap;

use super::config::{FeedForward, Gpt2Config, LlamaConfig, ModelConfig, T5Config};

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
pub(super) fn prefix<T>(config: &ModelConfig, tensors: &BTreeMap<String, T>) -> &'static str {
    let (prefix, embedding) = match config {
        ModelConfig::T5(_) => return "",
        ModelConfig::Gpt2(_) => ("transformer.", "wte.weight"),
        ModelConfig::Llama(_) => ("model.", "embed_tokens.weight"),
    };
    if tensors.contains_key(embedding) { "" } else { prefix }
}
