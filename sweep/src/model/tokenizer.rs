//! A model's `tokenizer.json`, as far as it must fit the configuration.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::config::ModelConfig;

/// Why a tokenizer cannot be used with a model.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// Not the JSON that a tokenizer file holds.
    #[error(
        "{file} is no tokenizer file (a JSON object with 'model' and its 'vocab' is expected); \
         fetch the model again"
    )]
    Json {
        /// The file's name.
        file: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// No tokens in it.
    #[error("{file}: the vocabulary is empty; fetch the model again")]
    Empty {
        /// The file's name.
        file: String,
    },
    /// Ids past the embedding's end.
    #[error(
        "tokenizer does not fit the model: {file} has ids up to {largest}, config.json's \
         vocab_size is {vocab_size}; take both files from the same model"
    )]
    TooLarge {
        /// The file's name.
        file: String,
        /// Largest id.
        largest: u64,
        /// Rows of the embedding.
        vocab_size: u32,
    },
    /// A special token that the model needs has no entry.
    #[error(
        "tokenizer does not fit the model: config.json's {field} is {id}, {file} has no token \
         with that id; take both files from the same model"
    )]
    NoToken {
        /// The file's name.
        file: String,
        /// Field of the configuration.
        field: &'static str,
        /// Its value.
        id: u32,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<Added>,
    model: Model,
}

#[derive(Deserialize)]
struct Added {
    id: u64,
}

#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
}

/// Unigram files list tokens with scores (the id is the place), all others map tokens to ids.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vocab {
    Places(Vec<IgnoredAny>),
    Ids(BTreeMap<String, u64>),
}

/// Checks the bytes of a `tokenizer.json` against the configuration: all ids below `vocab_size`,
/// the end-of-sequence and padding tokens present.
///
/// # Errors
/// See [`TokenizerError`].
pub fn check_tokenizer(
    file: &str,
    text: &[u8],
    config: &ModelConfig,
) -> Result<(), TokenizerError> {
    let parsed: File = serde_json::from_slice(text)
        .map_err(|source| TokenizerError::Json { file: file.to_owned(), source })?;
    let listed = match &parsed.model.vocab {
        Vocab::Places(places) => (places.len() as u64).checked_sub(1),
        Vocab::Ids(ids) => ids.values().max().copied(),
    };
    let added = parsed.added_tokens.iter().map(|token| token.id).max();
    let largest =
        listed.max(added).ok_or_else(|| TokenizerError::Empty { file: file.to_owned() })?;
    if largest >= u64::from(config.vocab_size()) {
        return Err(TokenizerError::TooLarge {
            file: file.to_owned(),
            largest,
            vocab_size: config.vocab_size(),
        });
    }
    let has = |id: u64| {
        let listed = match &parsed.model.vocab {
            Vocab::Places(places) => id < places.len() as u64,
            Vocab::Ids(ids) => ids.values().any(|known| *known == id),
        };
        listed || parsed.added_tokens.iter().any(|token| token.id == id)
    };
    for (field, id) in
        [("eos_token_id", config.eos_token_id()), ("pad_token_id", config.pad_token_id())]
    {
        if !has(u64::from(id)) {
            return Err(TokenizerError::NoToken { file: file.to_owned(), field, id });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vocab: &str, added: &str) -> Result<(), String> {
        let config = r#"{"model_type":"t5","d_model":8,"d_kv":2,"d_ff":16,"num_layers":1,
            "num_heads":2,"vocab_size":4}"#;
        let config = ModelConfig::parse("config.json", config).unwrap();
        let text = format!(r#"{{"added_tokens":{added},"model":{{"vocab":{vocab}}}}}"#);
        check_tokenizer("tokenizer.json", text.as_bytes(), &config).map_err(|e| e.to_string())
    }

    #[test]
    fn both_forms_of_vocabulary_are_read() {
        check(r#"[["<pad>",0.0],["</s>",0.0],["a",-1.5]]"#, "[]").unwrap();
        check(r#"{"a":2}"#, r#"[{"id":0,"content":"<pad>"},{"id":1,"content":"</s>"}]"#).unwrap();
    }

    #[test]
    fn a_tokenizer_of_another_model_is_refused() {
        assert_eq!(
            check(r#"{"<pad>":0,"</s>":1,"a":31999}"#, "[]").unwrap_err(),
            "tokenizer does not fit the model: tokenizer.json has ids up to 31999, config.json's \
             vocab_size is 4; take both files from the same model"
        );
        assert_eq!(
            check(r#"{"<pad>":0,"a":2}"#, "[]").unwrap_err(),
            "tokenizer does not fit the model: config.json's eos_token_id is 1, tokenizer.json \
             has no token with that id; take both files from the same model"
        );
        assert_eq!(
            check("[]", "[]").unwrap_err(),
            "tokenizer.json: the vocabulary is empty; fetch the model again"
        );
        assert!(check("3", "[]").unwrap_err().contains("is no tokenizer file"));
    }
}
