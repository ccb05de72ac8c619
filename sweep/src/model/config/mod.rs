//! A model's `config.json`.

mod fields;
mod gpt2;
mod llama;
mod t5;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use fields::Fields;
pub use gpt2::Gpt2Config;
pub use llama::{LlamaConfig, RopeScaling};
pub use t5::{FeedForward, T5Config};

/// The values of `model_type` that this version supports.
pub const MODEL_TYPES: &[&str] = &["t5", "gpt2", "llama"];

/// Shapes and constants of a backbone, by architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type", rename_all = "lowercase")]
pub enum ModelConfig {
    /// T5, v1.0 and v1.1: encoder and decoder.
    T5(T5Config),
    /// GPT-2: decoder with learned positions.
    Gpt2(Gpt2Config),
    /// Llama: decoder with rotary positions.
    Llama(LlamaConfig),
}

/// Why a `config.json` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not JSON.
    #[error("{file} is not valid JSON; fetch the model again or restore the file")]
    Json {
        /// The file's name.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// JSON, but no object.
    #[error("{file} does not hold a JSON object; is it a model's config.json?")]
    NoObject {
        /// The file's name.
        file: String,
    },
    /// A field is not there.
    #[error("{file}: field '{field}' is missing; {owner} config.json needs it")]
    Missing {
        /// The file's name.
        file: String,
        /// Whose file it is: "a T5".
        owner: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field has a value that cannot be.
    #[error("{file}: field '{field}' is {found}, expected {expected}")]
    Wrong {
        /// The file's name.
        file: String,
        /// The field.
        field: &'static str,
        /// What was expected.
        expected: String,
        /// What was found, as JSON, shortened.
        found: String,
    },
    /// A field asks for something that is not built.
    #[error("{file}: {field} '{found}' is not supported in this version (supported: {supported})")]
    Unsupported {
        /// The file's name.
        file: String,
        /// The field.
        field: &'static str,
        /// What was found.
        found: String,
        /// What would do.
        supported: String,
    },
}

impl ModelConfig {
    /// Reads the text of a `config.json`; `file` is its name for messages.
    ///
    /// Fields that the architecture's own configuration class gives a default may be missing.
    ///
    /// # Errors
    /// Text that is no JSON object, another `model_type`, a missing field, or a value out of
    /// range, by name.
    pub fn parse(file: &str, text: &str) -> Result<ModelConfig, ModelError> {
        let value: Value = serde_json::from_str(text)
            .map_err(|source| ModelError::Json { file: file.to_owned(), source })?;
        let Value::Object(map) = value else {
            return Err(ModelError::NoObject { file: file.to_owned() });
        };
        let fields = |owner| Fields { file, owner, map: &map };
        let config = match fields("a model's").choice("model_type", None, MODEL_TYPES)? {
            "gpt2" => ModelConfig::Gpt2(Gpt2Config::read(&fields("a GPT-2"))?),
            "llama" => ModelConfig::Llama(LlamaConfig::read(&fields("a Llama"))?),
            _ => ModelConfig::T5(T5Config::read(&fields("a T5"))?),
        };
        config.check(file)?;
        Ok(config)
    }

    /// The special tokens must be in the vocabulary.
    fn check(&self, file: &str) -> Result<(), ModelError> {
        let vocabulary = self.vocab_size();
        let mut ids =
            vec![("eos_token_id", self.eos_token_id()), ("pad_token_id", self.pad_token_id())];
        if let ModelConfig::T5(config) = self {
            ids.push(("decoder_start_token_id", config.decoder_start_token_id));
        }
        for (field, id) in ids {
            if id >= vocabulary {
                return Err(ModelError::Wrong {
                    file: file.to_owned(),
                    field,
                    expected: format!("less than vocab_size ({vocabulary})"),
                    found: id.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The architecture, as `config.json` names it.
    pub fn model_type(&self) -> &'static str {
        match self {
            ModelConfig::T5(_) => "t5",
            ModelConfig::Gpt2(_) => "gpt2",
            ModelConfig::Llama(_) => "llama",
        }
    }

    /// The architecture's name for people.
    pub fn architecture(&self) -> &'static str {
        match self {
            ModelConfig::T5(_) => "T5",
            ModelConfig::Gpt2(_) => "GPT-2",
            ModelConfig::Llama(_) => "Llama",
        }
    }

    /// Whether source and answer are one text (GPT-2, Llama), not two (T5).
    pub fn is_decoder(&self) -> bool {
        !matches!(self, ModelConfig::T5(_))
    }

    /// d: hidden size.
    pub fn hidden_size(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.d_model,
            ModelConfig::Gpt2(config) => config.n_embd,
            ModelConfig::Llama(config) => config.hidden_size,
        }
    }

    /// Rows of the word embedding; at least the number of tokens.
    pub fn vocab_size(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.vocab_size,
            ModelConfig::Gpt2(config) => config.vocab_size,
            ModelConfig::Llama(config) => config.vocab_size,
        }
    }

    /// Id of the token that ends a text.
    pub fn eos_token_id(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.eos_token_id,
            ModelConfig::Gpt2(config) => config.eos_token_id,
            ModelConfig::Llama(config) => config.eos_token_id,
        }
    }

    /// Id of the padding token; the end token where a decoder has none.
    pub fn pad_token_id(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.pad_token_id,
            ModelConfig::Gpt2(config) => config.pad_token_id.unwrap_or(config.eos_token_id),
            ModelConfig::Llama(config) => config.pad_token_id.unwrap_or(config.eos_token_id),
        }
    }

    /// Dropout rate in training, in [0, 1), at every place where the architecture drops (Llama:
    /// attention weights alone).
    pub fn dropout(&self) -> f64 {
        match self {
            ModelConfig::T5(config) => config.dropout_rate,
            ModelConfig::Gpt2(config) => config.dropout,
            ModelConfig::Llama(config) => config.attention_dropout,
        }
    }

    /// Positions that prompt, text and answer share; none where any number will do (T5).
    pub fn max_positions(&self) -> Option<u32> {
        match self {
            ModelConfig::T5(_) => None,
            ModelConfig::Gpt2(config) => Some(config.n_positions),
            ModelConfig::Llama(config) => Some(config.max_position_embeddings),
        }
    }

    /// Blocks, of all stacks together.
    pub fn layers(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.num_layers + config.num_decoder_layers,
            ModelConfig::Gpt2(config) => config.n_layer,
            ModelConfig::Llama(config) => config.num_hidden_layers,
        }
    }

    /// Blocks that the prompt and the text pass: all of a decoder's, the encoder's of a T5.
    pub fn text_layers(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.num_layers,
            ModelConfig::Gpt2(_) | ModelConfig::Llama(_) => self.layers(),
        }
    }

    /// Attention heads (of queries).
    pub fn heads(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.num_heads,
            ModelConfig::Gpt2(config) => config.n_head,
            ModelConfig::Llama(config) => config.num_attention_heads,
        }
    }

    /// Size of one attention head; heads × head size may differ from the hidden size.
    pub fn head_dim(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.d_kv,
            ModelConfig::Gpt2(config) => config.n_embd / config.n_head,
            ModelConfig::Llama(config) => config.head_dim,
        }
    }

    /// Inner size of the feed-forward layers.
    pub fn inner_size(&self) -> u32 {
        match self {
            ModelConfig::T5(config) => config.d_ff,
            ModelConfig::Gpt2(config) => config.n_inner,
            ModelConfig::Llama(config) => config.intermediate_size,
        }
    }

    /// Numbers that LoRA of rank `rank` trains: r·(inputs + outputs) for the maps to queries and
    /// values of every attention. GPT-2 has one map for queries, keys and values.
    #[must_use]
    pub fn lora_parameters(&self, rank: u32) -> u64 {
        let [rank, d, head] = [rank, self.hidden_size(), self.head_dim()].map(u64::from);
        let heads = u64::from(self.heads());
        let each = match self {
            ModelConfig::T5(config) => {
                let maps =
                    2 * (u64::from(config.num_layers) + 2 * u64::from(config.num_decoder_layers));
                maps * (d + heads * head)
            }
            ModelConfig::Gpt2(config) => u64::from(config.n_layer) * (d + 3 * d),
            ModelConfig::Llama(config) => {
                let values = u64::from(config.num_key_value_heads);
                u64::from(config.num_hidden_layers) * (2 * d + (heads + values) * head)
            }
        };
        rank.saturating_mul(each)
    }

    /// Numbers in the weights.
    pub fn weight_count(&self) -> u64 {
        let sizes = super::weights::needed_tensors(self, "");
        let size = |shape: &Vec<u64>| shape.iter().copied().fold(1, u64::saturating_mul);
        sizes.values().map(size).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINI: &str = r#"{"model_type":"t5","d_model":192,"d_kv":64,"d_ff":768,
        "num_layers":3,"num_decoder_layers":3,"num_heads":3,"vocab_size":8064,
        "feed_forward_proj":"relu","dropout_rate":0.1,"layer_norm_epsilon":1e-06,
        "relative_attention_num_buckets":32,"relative_attention_max_distance":128,
        "tie_word_embeddings":true,"decoder_start_token_id":0,"pad_token_id":0,"eos_token_id":1}"#;

    fn error(text: &str) -> String {
        ModelConfig::parse("m/config.json", text).unwrap_err().to_string()
    }

    #[test]
    fn a_t5_config_is_read_with_its_defaults() {
        let full = ModelConfig::parse("config.json", MINI).unwrap();
        assert_eq!((full.hidden_size(), full.heads(), full.vocab_size()), (192, 3, 8064));
        let short = r#"{"model_type":"t5","d_model":192,"d_kv":64,"d_ff":768,"num_layers":3,
            "num_decoder_layers":null,"num_heads":3,"vocab_size":8064}"#;
        assert_eq!(ModelConfig::parse("config.json", short).unwrap(), full);
    }

    fn t5(text: &str) -> T5Config {
        match ModelConfig::parse("config.json", text).unwrap() {
            ModelConfig::T5(config) => config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn v1_1_differs_in_two_fields() {
        let tied = t5(MINI);
        assert!(tied.tied_head && tied.scale_decoder_outputs);
        let text = MINI
            .replace("\"relu\"", "\"gated-gelu\"")
            .replace("\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false");
        let config = t5(&text);
        assert_eq!(config.feed_forward, FeedForward::GatedGelu);
        assert!(!config.tied_head && !config.scale_decoder_outputs);
        let newer = MINI.replace("\"relu\"", "\"relu\",\"scale_decoder_outputs\":false");
        assert!(!t5(&newer).tied_head && !t5(&newer).scale_decoder_outputs);
    }

    #[test]
    fn each_wrong_field_is_named() {
        assert_eq!(
            error("{\"model_type\""),
            "m/config.json is not valid JSON; fetch the model again or restore the file"
        );
        assert_eq!(
            error("[]"),
            "m/config.json does not hold a JSON object; is it a model's config.json?"
        );
        assert_eq!(
            error(&MINI.replace("\"t5\"", "\"bert\"")),
            "m/config.json: model_type 'bert' is not supported in this version (supported: t5, gpt2, llama)"
        );
        assert_eq!(
            error(&MINI.replace("\"d_model\"", "\"dmodel\"")),
            "m/config.json: field 'd_model' is missing; a T5 config.json needs it"
        );
        assert_eq!(
            error(&MINI.replace("\"d_model\":192", "\"d_model\":-1")),
            "m/config.json: field 'd_model' is -1, expected a whole number from 1 to 65536"
        );
        assert_eq!(
            error(&MINI.replace("\"dropout_rate\":0.1", "\"dropout_rate\":1.5")),
            "m/config.json: field 'dropout_rate' is 1.5, expected a number, at least 0 and less than 1"
        );
        assert_eq!(
            error(&MINI.replace("\"eos_token_id\":1", "\"eos_token_id\":9000")),
            "m/config.json: field 'eos_token_id' is 9000, expected less than vocab_size (8064)"
        );
    }

    const LLAMA: &str = r#"{"model_type":"llama","hidden_size":64,"intermediate_size":128,
        "num_hidden_layers":2,"num_attention_heads":4,"vocab_size":384}"#;

    fn with(text: &str, field: &str) -> String {
        text.replacen('}', &format!(",{field}}}"), 1)
    }

    #[test]
    fn a_llama_is_read_in_its_older_and_newer_form() {
        let read = |field: &str| match ModelConfig::parse("c", &with(LLAMA, field)).unwrap() {
            ModelConfig::Llama(config) => config,
            other => panic!("{other:?}"),
        };
        let plain = read(r#""pad_token_id":-1"#);
        assert_eq!((plain.head_dim, plain.num_key_value_heads, plain.pad_token_id), (16, 4, None));
        assert_eq!((plain.rope_theta, plain.rope_scaling, plain.eos_token_id), (1e4, None, 2));
        let newer = read(r#""rope_parameters":{"rope_theta":500.0,"rope_type":"default"}"#);
        assert_eq!((newer.rope_theta, newer.rope_scaling), (500.0, None));
        assert_eq!(read(r#""eos_token_id":[7,9]"#).eos_token_id, 7);
        let linear = read(r#""rope_scaling":{"type":"linear","factor":2.0}"#);
        assert_eq!(linear.rope_scaling, Some(RopeScaling::Linear { factor: 2.0 }));
    }

    #[test]
    fn what_decoders_ask_for_and_is_not_built_is_named() {
        let llama = |field: &str| error(&with(LLAMA, field));
        assert_eq!(
            llama(r#""rope_scaling":{"rope_type":"yarn","factor":2.0}"#),
            "m/config.json: rope_type 'yarn' is not supported in this version (supported: default, \
             linear, llama3)"
        );
        assert_eq!(
            llama(r#""num_key_value_heads":3"#),
            "m/config.json: field 'num_key_value_heads' is 3, expected a divisor of \
             num_attention_heads (4)"
        );
        assert!(llama(r#""head_dim":7"#).ends_with("is 7, expected an even number"));
        assert!(llama(r#""hidden_act":"gelu""#).contains("hidden_act 'gelu' is not supported"));
        let gpt2 = |field: &str| error(&with(r#"{"model_type":"gpt2","vocab_size":50257}"#, field));
        assert_eq!(
            gpt2(r#""resid_pdrop":0.2"#),
            "m/config.json: resid_pdrop '0.2' is not supported in this version (supported: the rate \
             of attn_pdrop, 0.1)"
        );
        assert!(gpt2(r#""add_cross_attention":true"#).contains("add_cross_attention 'true'"));
        assert!(gpt2(r#""n_head":7"#).contains("expected a multiple of n_head (7)"));
    }
}
