//! Label scoring: every label of a task as an answer, and how probable the model finds it.

use tch::{Kind, TchError, Tensor, no_grad};

use crate::batch::Batch;
use crate::pack::{Doing, Encoded, Error, Pack};

/// Loss and chosen labels of one batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Teacher-forced loss of every trial, summed over label tokens.
    pub loss_sums: Vec<f64>,
    /// Label tokens of the batch: the denominator of the mean loss.
    pub label_tokens: usize,
    /// Logarithm of the probability of every label, per trial and row.
    pub scores: Vec<Vec<Vec<f64>>>,
}

impl Pack {
    /// Loss of a batch, and the log-probability of every one of `labels` (token ids with end
    /// token, 1 or more) as the answer to each of its rows: the sum over the label's tokens of
    /// log p(token | text, tokens before it).
    ///
    /// # Errors
    /// [`Error`] for a batch or label that the model cannot take, or when libtorch fails.
    pub fn score(&self, batch: &Batch, labels: &[Vec<i64>]) -> Result<Scored, Error> {
        self.score_some(batch, labels, &self.all())
    }

    /// [`Pack::score`] for some of the trials, in their order.
    ///
    /// # Errors
    /// [`Error`] for a batch or label that the model cannot take, a trial that there is not, or
    /// when libtorch fails.
    pub fn score_some(
        &self,
        batch: &Batch,
        labels: &[Vec<i64>],
        trials: &[usize],
    ) -> Result<Scored, Error> {
        self.check_trials(trials)?;
        let vocabulary = self.model().vocab_size() as i64;
        let bad =
            |ids: &Vec<i64>| ids.is_empty() || ids.iter().any(|id| !(0..vocabulary).contains(id));
        if let Some(ids) = labels.iter().find(|&ids| bad(ids)) {
            let expected = "tokens of the model's vocabulary";
            return Err(Error::Setting { field: "labels", value: format!("{ids:?}"), expected });
        }
        let longest = labels.iter().map(Vec::len).max().unwrap_or(0);
        let encoded = self.encode_for(batch, longest, trials)?;
        let (k, b) = (encoded.trials().doing("score labels")?, batch.examples.len());
        let mut scores = vec![vec![Vec::with_capacity(labels.len()); b]; k];
        for label in labels {
            let sums = no_grad(|| label_score(&encoded, label)).doing("score a label")?;
            for (scores, sums) in scores.iter_mut().zip(sums.chunks(b.max(1))) {
                scores.iter_mut().zip(sums).for_each(|(row, &sum)| row.push(sum));
            }
        }
        let loss_sums = match losses(&scores, &encoded, labels) {
            Some(sums) => sums,
            None => self.label_loss(&encoded, &self.label_logits(&encoded)?)?,
        };
        Ok(Scored {
            loss_sums: encoded.wanted(loss_sums, trials),
            label_tokens: self.label_tokens(batch),
            scores: encoded.wanted(scores, trials),
        })
    }
}

/// The losses, where every row's answer is one of the labels that have been scored.
fn losses(scores: &[Vec<Vec<f64>>], encoded: &Encoded, labels: &[Vec<i64>]) -> Option<Vec<f64>> {
    if encoded.model.is_decoder() {
        return None;
    }
    let answers = encoded.labels().map(|answer| labels.iter().position(|label| label == answer));
    let answers: Vec<usize> = answers.collect::<Option<_>>()?;
    let sum = |rows: &Vec<Vec<f64>>| {
        rows.iter().zip(&answers).filter_map(|(scores, &answer)| scores.get(answer)).sum::<f64>()
    };
    Some(scores.iter().map(|rows| -sum(rows)).collect())
}

/// Log-probabilities [K · B] of one label.
fn label_score(encoded: &Encoded, label: &[i64]) -> Result<Vec<f64>, TchError> {
    let model = &encoded.model;
    let (rows, tokens) = (encoded.rows, label.len() as i64);
    let label = Tensor::f_from_slice(label)?.f_to_device(model.device())?;
    // The answer shifted right behind the start token, for every row.
    let start = Tensor::f_full([1], model.start_token(), (Kind::Int64, model.device()))?;
    let ids = Tensor::f_cat(&[start, label.f_narrow(0, 0, tokens - 1)?], 0)?;
    let ids = ids.f_unsqueeze(0)?.f_repeat([rows, 1])?;
    let states = model.answer(&ids, &encoded.passed, encoded.pass(None))?;
    let logits = model.logits(&states)?;
    let (k, ..) = logits.size4()?;
    let sums = logits.f_logsumexp([-1i64].as_slice(), true)?;
    let label = label.f_view([1, 1, tokens, 1])?.f_expand([k, rows, tokens, 1], false)?;
    let chosen = logits.f_gather(-1, &label, false)?.f_sub(&sums)?;
    let sums = chosen.f_sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double)?;
    Vec::try_from(sums.f_flatten(0, -1)?)
}

/// The label with the highest score; the first of ties, and of scores that are no numbers.
pub(crate) fn best(scores: &[f64]) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    let scores = scores.iter().copied().enumerate();
    scores.fold((0, f64::NEG_INFINITY), better).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_best_labels_is_taken() {
        assert_eq!(best(&[-3.0, -1.0, -1.0]), 1);
        assert_eq!(best(&[f64::NAN, f64::NAN]), 0);
        assert_eq!(best(&[f64::NAN, -5.0]), 1);
    }
}
