//! Greedy generation for all trials of a pack at once.

use tch::{TchError, no_grad};

use crate::batch::Batch;
use crate::pack::{Doing, Encoded, Error, Pack};

/// Token ids per trial and row, without start token or text, up to and with the end token.
pub type Generated = Vec<Vec<Vec<i64>>>;

/// Loss and predictions of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Teacher-forced loss of every trial, summed over label tokens.
    pub loss_sums: Vec<f64>,
    /// Label tokens of the batch: the denominator of the mean loss.
    pub label_tokens: usize,
    /// What every trial answers to every row.
    pub generated: Generated,
}

impl Pack {
    /// Loss and greedy predictions of a batch, encoded once for both.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn evaluate(&self, batch: &Batch, max_new_tokens: usize) -> Result<Evaluation, Error> {
        let encoded = self.encode_for(batch, max_new_tokens)?;
        Ok(Evaluation {
            loss_sums: self.label_loss(&encoded)?,
            label_tokens: self.label_tokens(batch),
            generated: self.decode_greedily(&encoded, max_new_tokens)?,
        })
    }

    /// Greedy predictions of a batch: at most `max_new_tokens` per row, fewer when every row of
    /// every trial has ended.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn generate(&self, batch: &Batch, max_new_tokens: usize) -> Result<Generated, Error> {
        self.decode_greedily(&self.encode_for(batch, max_new_tokens)?, max_new_tokens)
    }

    fn decode_greedily(&self, encoded: &Encoded, most: usize) -> Result<Generated, Error> {
        no_grad(|| self.greedy(encoded, most)).doing("generate")
    }

    fn greedy(&self, encoded: &Encoded, most: usize) -> Result<Generated, TchError> {
        let (model, k, b) = (&encoded.model, self.trials(), encoded.rows);
        let (mut states, mut progress) = model.begin(&encoded.passed, encoded.pass(None))?;
        let mut texts = vec![Vec::new(); (k * b) as usize];
        let mut ended = vec![false; texts.len()];
        for turn in 1..=most {
            let tokens = model.logits(&states)?.f_argmax(-1, false)?;
            let next = Vec::<i64>::try_from(tokens.f_flatten(0, -1)?)?;
            for ((text, ended), token) in texts.iter_mut().zip(&mut ended).zip(next) {
                if !*ended {
                    text.push(token);
                    *ended = token == model.end_token();
                }
            }
            if turn == most || ended.iter().all(|&ended| ended) {
                break;
            }
            states = model.advance(&tokens, &mut progress)?;
        }
        Ok(texts.chunks((b as usize).max(1)).map(<[_]>::to_vec).collect())
    }
}
