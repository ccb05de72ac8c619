//! Text to token ids and back, by the model's `tokenizer.json`.

use std::path::{Path, PathBuf};

use tokenizers::{Tokenizer as HfTokenizer, TruncationDirection, TruncationParams};

/// The start text of every prompt, letter for letter as the reference has it.
pub const INIT_TEXT: &str = "Classify this text is postive or not:";

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

/// A model's tokenizer, which puts the end token behind every text.
#[derive(Debug)]
pub struct Tokenizer {
    whole: HfTokenizer,
    cut: HfTokenizer,
}

impl Tokenizer {
    /// Reads `tokenizer.json`. Inputs will be cut on the right to `max_length` tokens, end token
    /// included.
    ///
    /// # Errors
    /// When it cannot be read or does not fit a model with `vocabulary` embeddings.
    pub fn open(path: &Path, vocabulary: usize, max_length: usize) -> Result<Tokenizer, Error> {
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
        Ok(Tokenizer { whole, cut })
    }

    /// Ids of an input, at most `max_length`, end token included.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn input(&self, text: &str) -> Result<Vec<i64>, Error> {
        ids(&self.cut, text)
    }

    /// Ids of a target or of the start text, end token included.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn target(&self, text: &str) -> Result<Vec<i64>, Error> {
        ids(&self.whole, text)
    }

    /// The text of ids, without special tokens and outer spaces.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn text(&self, ids: &[i64]) -> Result<String, Error> {
        let ids: Vec<u32> = ids.iter().filter_map(|&id| u32::try_from(id).ok()).collect();
        let text = self.whole.decode(&ids, true).map_err(Error::Decode)?;
        Ok(text.trim().to_owned())
    }
}

fn ids(tokenizer: &HfTokenizer, text: &str) -> Result<Vec<i64>, Error> {
    let encoding = tokenizer.encode(text, true).map_err(Error::Encode)?;
    Ok(encoding.get_ids().iter().map(|&id| i64::from(id)).collect())
}
