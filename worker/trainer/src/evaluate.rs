//! A pack's trials on a whole split: loss, greedy answers, metrics.

use std::time::Instant;

use deptune_sweep::child::Evaluation;
use deptune_sweep::metric::Number;
use deptune_sweep::task::{Split, TaskDef};

use crate::data::Rows;
use crate::pack::{self, Pack};
use crate::tokenize::{self, Tokenizer};

/// Why an evaluation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model could not be run.
    #[error("cannot evaluate the {split} split")]
    Pack {
        /// Which split.
        split: Split,
        /// Why.
        #[source]
        source: pack::Error,
    },
    /// An answer could not be turned into a text.
    #[error("cannot read the answers on the {split} split")]
    Text {
        /// Which split.
        split: Split,
        /// Why.
        #[source]
        source: tokenize::Error,
    },
    /// The metrics could not be computed.
    #[error("cannot judge the answers on the {split} split: {reason}")]
    Metric {
        /// Which split.
        split: Split,
        /// Why.
        reason: String,
    },
}

/// One split with what is needed to judge answers.
pub struct Judge<'a> {
    /// The task.
    pub def: &'a TaskDef,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Which split.
    pub split: Split,
    /// Its rows, at least one.
    pub rows: &'a Rows,
    /// Rows per batch.
    pub batch_size: usize,
    /// Most tokens of an answer, end token included.
    pub answer_tokens: usize,
    /// Whether an answer without end token is compared as it stands (as the reference does), or
    /// is wrong.
    pub unended_counts: bool,
}

impl Judge<'_> {
    /// Evaluates every trial of the pack.
    ///
    /// # Errors
    /// [`Error`].
    pub fn evaluate(&self, pack: &Pack, step: u64) -> Result<Vec<Evaluation>, Error> {
        let started = Instant::now();
        let split = self.split;
        let members = pack.members().len();
        let mut answers = vec![vec![String::new(); self.rows.examples.len()]; members];
        let mut losses = vec![0.0; members];
        let mut tokens = 0;
        // Batches of similar length waste least; the sums do not depend on the order of rows
        // beyond rounding, and the order is the same every time.
        let mut order: Vec<u32> = (0..self.rows.examples.len() as u32).collect();
        let length =
            |row: u32| self.rows.examples.get(row as usize).map_or(0, |e| e.input_ids.len());
        order.sort_by_key(|&row| (length(row), row));
        for rows in order.chunks(self.batch_size.max(1)) {
            let result = pack
                .evaluate(&self.rows.batch(rows), self.answer_tokens)
                .map_err(|source| Error::Pack { split, source })?;
            tokens += result.label_tokens;
            for (sum, batch) in losses.iter_mut().zip(result.loss_sums) {
                *sum += batch;
            }
            for (texts, generated) in answers.iter_mut().zip(&result.generated) {
                for (&row, ids) in rows.iter().zip(generated) {
                    let ended = ids.last() == Some(&pack.model().end_token());
                    if !(ended || self.unended_counts) {
                        continue;
                    }
                    let text =
                        self.tokenizer.text(ids).map_err(|source| Error::Text { split, source })?;
                    if let Some(place) = texts.get_mut(row as usize) {
                        *place = text;
                    }
                }
            }
        }
        let constant = self.def.constant_answer(&self.rows.targets);
        let evaluation = |(texts, loss): (Vec<String>, f64)| {
            let metrics = self
                .def
                .evaluate(&texts, &self.rows.targets)
                .map_err(|e| Error::Metric { split, reason: e.to_string() })?;
            Ok(Evaluation {
                step,
                split: split.name().to_owned(),
                loss: Number::from(loss / tokens.max(1) as f64),
                train_loss: None,
                metrics: named(metrics),
                constant: named(constant.clone()),
                rows: self.rows.examples.len() as u64,
                seconds: 0.0,
                per_class: Vec::new(),
            })
        };
        let mut evaluations: Vec<Evaluation> =
            answers.into_iter().zip(losses).map(evaluation).collect::<Result<_, Error>>()?;
        let seconds = started.elapsed().as_secs_f64() / members as f64;
        evaluations.iter_mut().for_each(|e| e.seconds = seconds);
        Ok(evaluations)
    }
}

fn named<N: ToString>(metrics: Vec<(N, Number)>) -> Vec<(String, Number)> {
    metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
