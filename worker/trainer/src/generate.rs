//! Greedy generation for all trials of a pack at once.

use tch::{TchError, Tensor, no_grad};

use crate::batch::Batch;
use crate::model::{Model, Pass, Passed};
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
        self.evaluate_some(batch, max_new_tokens, &self.all())
    }

    /// [`Pack::evaluate`] for some of the trials, in their order.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, a trial that there is not, or when
    /// libtorch fails.
    pub fn evaluate_some(
        &self,
        batch: &Batch,
        max_new_tokens: usize,
        trials: &[usize],
    ) -> Result<Evaluation, Error> {
        self.check_trials(trials)?;
        let encoded = self.encode_for(batch, max_new_tokens, trials)?;
        let logits = self.label_logits(&encoded)?;
        let generated =
            no_grad(|| self.answers(&encoded, &logits, max_new_tokens)).doing("generate")?;
        Ok(Evaluation {
            loss_sums: encoded.wanted(self.label_loss(&encoded, &logits)?, trials),
            label_tokens: self.label_tokens(batch),
            generated: encoded.wanted(generated, trials),
        })
    }

    /// Greedy predictions of a batch: at most `max_new_tokens` per row, fewer when every row of
    /// every trial has ended.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn generate(&self, batch: &Batch, max_new_tokens: usize) -> Result<Generated, Error> {
        let encoded = self.encode_for(batch, max_new_tokens, &self.all())?;
        no_grad(|| {
            let texts =
                greedy(&encoded.model, &encoded.passed, encoded.pass(None), max_new_tokens)?;
            Ok(by_trial(texts, encoded.rows))
        })
        .doing("generate")
    }

    /// What is written greedily, by way of the label's logits, which are there already: where the
    /// likeliest tokens are the label's, the label is what greedy generation would write too. Only
    /// the other rows are generated.
    fn answers(
        &self,
        encoded: &Encoded,
        logits: &Tensor,
        most: usize,
    ) -> Result<Generated, TchError> {
        let Encoded { model, passed, rows, .. } = encoded;
        if model.is_decoder() || !encoded.is_same_for_all_trials() {
            return Ok(by_trial(greedy(model, passed, encoded.pass(None), most)?, *rows));
        }
        let likeliest = Vec::<i64>::try_from(logits.f_argmax(-1, false)?.f_flatten(0, -1)?)?;
        let mut likeliest = likeliest.as_slice();
        let mut texts = Vec::new();
        let mut others = Vec::new();
        for _ in 0..encoded.trials()? {
            for label in encoded.labels() {
                let (own, after) = likeliest.split_at_checked(label.len()).unwrap_or_default();
                likeliest = after;
                let end = label.iter().position(|&token| token == model.end_token());
                let whole = end.is_some_and(|end| end + 1 == label.len()) && label.len() <= most;
                if own == label && whole {
                    texts.push(label.to_vec());
                } else {
                    others.push(texts.len() as i64);
                    texts.push(Vec::new());
                }
            }
        }
        if !others.is_empty() {
            let passed = passed.some(&others)?;
            let written = greedy(model, &passed, encoded.pass(None), most)?;
            for (place, text) in others.into_iter().zip(written) {
                if let Some(own) = texts.get_mut(place as usize) {
                    *own = text;
                }
            }
        }
        Ok(by_trial(texts, *rows))
    }
}

/// Texts [K · B] as [K, B].
fn by_trial(texts: Vec<Vec<i64>>, rows: i64) -> Generated {
    texts.chunks((rows as usize).max(1)).map(<[_]>::to_vec).collect()
}

/// The likeliest token again and again, for every trial and row, [K · B].
fn greedy(
    model: &Model,
    passed: &Passed,
    pass: Pass<'_>,
    most: usize,
) -> Result<Vec<Vec<i64>>, TchError> {
    let (mut states, mut progress) = model.begin(passed, pass)?;
    let (k, b, ..) = states.size4()?;
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
    Ok(texts)
}
