//! Text to token ids and back, by the model's `tokenizer.json`.
//!
//! A T5's tokenizer ends every text with the end token. Those of decoders do not; there a text
//! is followed by " Label : " and its answer, and the answer by the end token.

use std::path::{Path, PathBuf};

use deptune_sweep::model::ModelConfig;
use deptune_sweep::task::Recipe;
use tokenizers::{Tokenizer as HfTokenizer, TruncationDirection, TruncationParams};

/// The start text of every prompt, letter for letter as the reference has it.
pub const INIT_TEXT: &str = "Classify this text is postive or not:";

/// What stands between a decoder's text and its answer, as in the reference.
const CUE: &str = " Label : ";

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is missing, or no tokenizer that this version reads.
    #[error("cannot read the tokenizer {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: tokenizers::Error,
    },
    /// Its ids do not fit the model.
    #[error(
        "the tokenizer {path} has ids up to {largest}, but the model's vocabulary has {vocabulary}; \
         take tokenizer.json and model.safetensors from the same model"
    )]
    Vocabulary {
        /// The file.
        path: PathBuf,
        /// Largest id of the tokenizer.
        largest: u32,
        /// Rows of the model's embedding.
        vocabulary: usize,
    },
    /// Truncation could not be set.
    #[error("cannot truncate to {max_length} tokens")]
    Truncation {
        /// s
        max_length: usize,
        /// Why.
        #[source]
        source: tokenizers::Error,
    },
    /// A text could not be tokenised.
    #[error("cannot tokenise a text")]
    Encode(#[source] tokenizers::Error),
    /// Ids could not be turned into a text.
    #[error("cannot turn token ids into a text")]
    Decode(#[source] tokenizers::Error),
}

/// A model's tokenizer, with what the architecture and the recipe make of a text.
#[derive(Debug)]
pub struct Tokenizer {
    whole: HfTokenizer,
    cut: HfTokenizer,
    max_length: usize,
    end: i64,
    /// A decoder's; none for T5.
    joined: Option<Joined>,
}

/// How text and answer become one sequence.
#[derive(Debug)]
struct Joined {
    recipe: Recipe,
    /// Ids of [`CUE`].
    cue: Vec<i64>,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Inputs will be cut to `max_length` tokens: those of T5 on the
    /// right, end token included; a decoder's in front of the " Label : " that ends them, or,
    /// by the reference's recipe, not here but with their answer when a batch is laid out.
    ///
    /// # Errors
    /// When it cannot be read or does not fit the model.
    pub fn open(
        path: &Path,
        config: &ModelConfig,
        recipe: Recipe,
        max_length: usize,
    ) -> Result<Tokenizer, Error> {
        let vocabulary = config.vocab_size() as usize;
        let mut whole = HfTokenizer::from_file(path)
            .map_err(|source| Error::Read { path: path.to_owned(), source })?;
        let largest = whole.get_vocab(true).into_values().max().unwrap_or(0);
        if largest as usize >= vocabulary {
            return Err(Error::Vocabulary { path: path.to_owned(), largest, vocabulary });
        }
        // Some files have the padding and truncation of another use baked in.
        whole.with_padding(None);
        let unlimited = |source| Error::Truncation { max_length: usize::MAX, source };
        whole.with_truncation(None).map_err(unlimited)?;
        let mut cut = whole.clone();
        cut.with_truncation(Some(TruncationParams {
            max_length,
            direction: TruncationDirection::Right,
            ..TruncationParams::default()
        }))
        .map_err(|source| Error::Truncation { max_length, source })?;
        let joined = if config.is_decoder() {
            Some(Joined { recipe, cue: ids(&whole, CUE, false)? })
        } else {
            None
        };
        Ok(Tokenizer { whole, cut, max_length, end: i64::from(config.eos_token_id()), joined })
    }

    /// Ids of an input; see [`Tokenizer::open`].
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn input(&self, text: &str) -> Result<Vec<i64>, Error> {
        let Some(Joined { recipe, cue }) = &self.joined else {
            return ids(&self.cut, text, true);
        };
        let mut ids = ids(&self.whole, &format!("{text}{CUE}"), true)?;
        if *recipe == Recipe::Default && ids.len() > self.max_length {
            let cue = cue.get(cue.len().saturating_sub(self.max_length)..).unwrap_or_default();
            ids.truncate(self.max_length - cue.len());
            ids.extend_from_slice(cue);
        }
        Ok(ids)
    }

    /// Ids of a target, end token included. The reference starts a decoder's answer like a text
    /// of its own, with Llama's start token.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn target(&self, text: &str) -> Result<Vec<i64>, Error> {
        let Some(Joined { recipe, .. }) = &self.joined else {
            return ids(&self.whole, text, true);
        };
        let mut ids = ids(&self.whole, text, *recipe == Recipe::Reference)?;
        if ids.last() != Some(&self.end) {
            ids.push(self.end);
        }
        Ok(ids)
    }

    /// Ids of a text by itself, with what the tokenizer puts around it: those whose embeddings
    /// fill the prompts.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn plain(&self, text: &str) -> Result<Vec<i64>, Error> {
        ids(&self.whole, text, true)
    }

    /// The text of ids, without special tokens and outer spaces.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn text(&self, ids: &[i64]) -> Result<String, Error> {
        // Not every decoder's tokenizer knows that its end token is special.
        let ids = ids.iter().filter(|&&id| id != self.end);
        let ids: Vec<u32> = ids.filter_map(|&id| u32::try_from(id).ok()).collect();
        let text = self.whole.decode(&ids, true).map_err(Error::Decode)?;
        Ok(text.trim().to_owned())
    }
}

fn ids(tokenizer: &HfTokenizer, text: &str, special: bool) -> Result<Vec<i64>, Error> {
    let encoding = tokenizer.encode(text, special).map_err(Error::Encode)?;
    Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words "<s> </s> Label : a b 0", with `<s>` in front of every text.
    const FILE: &str = r#"{"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[
            {"id":0,"content":"<s>","single_word":false,"lstrip":false,"rstrip":false,
             "normalized":false,"special":true},
            {"id":1,"content":"</s>","single_word":false,"lstrip":false,"rstrip":false,
             "normalized":false,"special":true}],
        "normalizer":null,"pre_tokenizer":{"type":"WhitespaceSplit"},
        "post_processor":{"type":"TemplateProcessing",
            "single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],
            "pair":[{"Sequence":{"id":"A","type_id":0}},{"Sequence":{"id":"B","type_id":1}}],
            "special_tokens":{"<s>":{"id":"<s>","ids":[0],"tokens":["<s>"]}}},
        "decoder":null,
        "model":{"type":"WordLevel","unk_token":"a",
            "vocab":{"<s>":0,"</s>":1,"Label":2,":":3,"a":4,"b":5,"0":6}}}"#;

    fn open(recipe: Recipe, max_length: usize) -> Tokenizer {
        let config = r#"{"model_type":"llama","hidden_size":8,"intermediate_size":8,
            "num_hidden_layers":1,"num_attention_heads":2,"vocab_size":7,"eos_token_id":1}"#;
        let config = ModelConfig::parse("config.json", config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        std::fs::write(&path, FILE).unwrap();
        Tokenizer::open(&path, &config, recipe, max_length).unwrap()
    }

    #[test]
    fn a_decoders_text_asks_for_the_label_even_when_it_is_cut() {
        let tokenizer = open(Recipe::Default, 5);
        assert_eq!(tokenizer.input("a b").unwrap(), [0, 4, 5, 2, 3]);
        assert_eq!(tokenizer.input("b a b a").unwrap(), [0, 5, 4, 2, 3]);
        assert_eq!(tokenizer.target("0").unwrap(), [6, 1]);
        assert_eq!(tokenizer.plain("a").unwrap(), [0, 4]);
        assert_eq!(tokenizer.text(&[6, 1]).unwrap(), "0");
    }

    #[test]
    fn the_reference_starts_both_pieces_and_cuts_neither_here() {
        let tokenizer = open(Recipe::Reference, 5);
        assert_eq!(tokenizer.input("b a b a").unwrap(), [0, 5, 4, 5, 4, 2, 3]);
        assert_eq!(tokenizer.target("0").unwrap(), [0, 6, 1]);
    }
}
