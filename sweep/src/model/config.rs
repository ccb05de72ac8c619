//! A model's `config.json`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The values of `model_type` that this version supports.
pub const MODEL_TYPES: &[&str] = &["t5"];

/// Shapes and constants of a T5 backbone (encoder and decoder), under the names of its
/// `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
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
    #[error("{file}: field '{field}' is missing; a T5 config.json needs it")]
    Missing {
        /// The file's name.
        file: String,
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
    /// Fields that T5's own configuration class gives a default may be missing.
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
        let fields = Fields { file, map: &map };
        fields.choice("model_type", None, MODEL_TYPES)?;
        let num_layers = fields.whole("num_layers", None, 1, 1_000)?;
        let pad_token_id = fields.whole("pad_token_id", Some(0), 0, MAX_VOCAB - 1)?;
        let forward = ["relu", "gated-gelu"];
        let config = ModelConfig {
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
            tied_head: fields.flag("tie_word_embeddings", true)?
                && fields.flag("scale_decoder_outputs", true)?,
            pad_token_id,
            eos_token_id: fields.whole("eos_token_id", Some(1), 0, MAX_VOCAB - 1)?,
            decoder_start_token_id: fields.whole(
                "decoder_start_token_id",
                Some(pad_token_id),
                0,
                MAX_VOCAB - 1,
            )?,
        };
        config.check(file)?;
        Ok(config)
    }

    /// Relations between fields.
    fn check(&self, file: &str) -> Result<(), ModelError> {
        let ids = [
            ("pad_token_id", self.pad_token_id),
            ("eos_token_id", self.eos_token_id),
            ("decoder_start_token_id", self.decoder_start_token_id),
        ];
        for (field, id) in ids {
            if id >= self.vocab_size {
                return Err(ModelError::Wrong {
                    file: file.to_owned(),
                    field,
                    expected: format!("less than vocab_size ({})", self.vocab_size),
                    found: id.to_string(),
                });
            }
        }
        if self.relative_attention_max_distance <= self.relative_attention_num_buckets / 2 {
            return Err(ModelError::Wrong {
                file: file.to_owned(),
                field: "relative_attention_max_distance",
                expected: "more than half of relative_attention_num_buckets".to_owned(),
                found: self.relative_attention_max_distance.to_string(),
            });
        }
        Ok(())
    }
}

const MAX_VOCAB: u32 = 10_000_000;

/// An object whose fields are read one by one, `null` counting as missing.
struct Fields<'a> {
    file: &'a str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn missing(&self, field: &'static str) -> ModelError {
        ModelError::Missing { file: self.file.to_owned(), field }
    }

    fn wrong(&self, field: &'static str, expected: String, found: &Value) -> ModelError {
        let found = found.to_string().chars().take(60).collect();
        ModelError::Wrong { file: self.file.to_owned(), field, expected, found }
    }

    /// A whole number in `least..=most`.
    fn whole(
        &self,
        field: &'static str,
        default: Option<u32>,
        least: u32,
        most: u32,
    ) -> Result<u32, ModelError> {
        let Some(value) = self.get(field) else {
            return default.ok_or_else(|| self.missing(field));
        };
        value
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| (least..=most).contains(n))
            .ok_or_else(|| {
                self.wrong(field, format!("a whole number from {least} to {most}"), value)
            })
    }

    /// A number in `least..most`.
    fn real(
        &self,
        field: &'static str,
        default: f64,
        least: f64,
        most: f64,
    ) -> Result<f64, ModelError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_f64().filter(|x| (least..most).contains(x)).ok_or_else(|| {
            let least = if least == 0.0 { "at least 0" } else { "more than 0" };
            self.wrong(field, format!("a number, {least} and less than {most}"), value)
        })
    }

    fn flag(&self, field: &'static str, default: bool) -> Result<bool, ModelError> {
        let Some(value) = self.get(field) else { return Ok(default) };
        value.as_bool().ok_or_else(|| self.wrong(field, "true or false".to_owned(), value))
    }

    /// One of the `supported` words.
    fn choice<'s>(
        &self,
        field: &'static str,
        default: Option<&'s str>,
        supported: &[&'s str],
    ) -> Result<&'s str, ModelError> {
        let Some(value) = self.get(field) else {
            return default.ok_or_else(|| self.missing(field));
        };
        let Some(word) = value.as_str() else {
            return Err(self.wrong(field, "a string".to_owned(), value));
        };
        supported.iter().find(|known| **known == word).copied().ok_or_else(|| {
            ModelError::Unsupported {
                file: self.file.to_owned(),
                field,
                found: word.chars().take(60).collect(),
                supported: supported.join(", "),
            }
        })
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
        assert_eq!((full.d_model, full.num_heads, full.vocab_size), (192, 3, 8064));
        let short = r#"{"model_type":"t5","d_model":192,"d_kv":64,"d_ff":768,"num_layers":3,
            "num_decoder_layers":null,"num_heads":3,"vocab_size":8064}"#;
        assert_eq!(ModelConfig::parse("config.json", short).unwrap(), full);
    }

    #[test]
    fn v1_1_differs_in_two_fields() {
        let text = MINI
            .replace("\"relu\"", "\"gated-gelu\"")
            .replace("\"tie_word_embeddings\":true", "\"tie_word_embeddings\":false");
        let config = ModelConfig::parse("config.json", &text).unwrap();
        assert_eq!(config.feed_forward, FeedForward::GatedGelu);
        assert!(!config.tied_head);
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
            "m/config.json: model_type 'bert' is not supported in this version (supported: t5)"
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
}
