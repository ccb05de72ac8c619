//! A pack's trials on a whole split: loss, answers, metrics.

use std::time::Instant;

use deptune_sweep::child::Evaluation;
use deptune_sweep::metric::{MetricKind, Number, class_reports, normalize_answer};
use deptune_sweep::spec::Decoding;
use deptune_sweep::task::{Split, TaskDef};
use serde::Serialize;

use crate::data::Rows;
use crate::pack::{self, Pack};
use crate::score;
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
    /// How answers are found. Labels need a task that has them.
    pub decoding: Decoding,
}

/// How a trial did on a split.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The figures.
    pub evaluation: Evaluation,
    /// Its answers, row by row; empty texts where one did not end.
    pub answers: Vec<String>,
}

impl Judge<'_> {
    /// Evaluates some trials of the pack, by their numbers, in that order.
    ///
    /// # Errors
    /// [`Error`].
    pub fn evaluate(&self, pack: &Pack, trials: &[usize], step: u64) -> Result<Vec<Judged>, Error> {
        if trials.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let members = trials.len();
        let labels = self.labels()?;
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
            let (sums, counted, batch) = match self.decoding {
                Decoding::Greedy => self.generated(pack, trials, rows)?,
                Decoding::Labels => self.scored(pack, trials, rows, &labels)?,
            };
            tokens += counted;
            losses.iter_mut().zip(sums).for_each(|(sum, batch)| *sum += batch);
            for (texts, batch) in answers.iter_mut().zip(batch) {
                for (&row, text) in rows.iter().zip(batch) {
                    if let Some(place) = texts.get_mut(row as usize) {
                        *place = text;
                    }
                }
            }
        }
        let losses = losses.into_iter().map(|sum| sum / tokens.max(1) as f64);
        let seconds = started.elapsed().as_secs_f64() / members as f64;
        let constant = named(self.def.constant_answer(&self.rows.golds));
        let judge = |(answers, loss)| {
            let mut judged = self.judge(answers, loss, step)?;
            judged.evaluation.constant.clone_from(&constant);
            judged.evaluation.seconds = seconds;
            Ok(judged)
        };
        answers.into_iter().zip(losses).map(judge).collect()
    }

    /// Token ids of the labels that are scored.
    fn labels(&self) -> Result<Vec<Vec<i64>>, Error> {
        if self.decoding == Decoding::Greedy {
            return Ok(Vec::new());
        }
        let ids = self.def.classes().iter().map(|class| self.tokenizer.target(class));
        let split = self.split;
        ids.collect::<Result<_, _>>().map_err(|source| Error::Text { split, source })
    }

    /// Losses, label tokens and free answers of some rows.
    #[expect(clippy::type_complexity, reason = "a helper's result")]
    fn generated(
        &self,
        pack: &Pack,
        trials: &[usize],
        rows: &[u32],
    ) -> Result<(Vec<f64>, usize, Vec<Vec<String>>), Error> {
        let split = self.split;
        let result = pack
            .evaluate_some(&self.rows.batch(rows), self.answer_tokens, trials)
            .map_err(|source| Error::Pack { split, source })?;
        let text = |ids: &Vec<i64>| {
            let ended = ids.last() == Some(&pack.model().end_token());
            if !(ended || self.unended_counts) {
                return Ok(String::new());
            }
            self.tokenizer.text(ids).map_err(|source| Error::Text { split, source })
        };
        let texts = result.generated.iter().map(|rows| rows.iter().map(text).collect());
        let texts = texts.collect::<Result<_, Error>>()?;
        Ok((result.loss_sums, result.label_tokens, texts))
    }

    /// Losses, label tokens and likeliest labels of some rows.
    #[expect(clippy::type_complexity, reason = "a helper's result")]
    fn scored(
        &self,
        pack: &Pack,
        trials: &[usize],
        rows: &[u32],
        labels: &[Vec<i64>],
    ) -> Result<(Vec<f64>, usize, Vec<Vec<String>>), Error> {
        let split = self.split;
        let result = pack
            .score_some(&self.rows.batch(rows), labels, trials)
            .map_err(|source| Error::Pack { split, source })?;
        let text = |scores: &Vec<f64>| {
            self.def.classes().get(score::best(scores)).cloned().unwrap_or_default()
        };
        let texts = result.scores.iter().map(|rows| rows.iter().map(text).collect()).collect();
        Ok((result.loss_sums, result.label_tokens, texts))
    }

    fn judge(&self, answers: Vec<String>, loss: f64, step: u64) -> Result<Judged, Error> {
        let (split, Rows { targets, golds, .. }) = (self.split, self.rows);
        let metrics = self
            .def
            .evaluate(&answers, golds)
            .map_err(|e| Error::Metric { split, reason: e.to_string() })?;
        let evaluation = Evaluation {
            step,
            split: split.name().to_owned(),
            loss: Number::from(loss),
            train_loss: None,
            metrics: named(metrics),
            constant: Vec::new(),
            rows: answers.len() as u64,
            seconds: 0.0,
            per_class: class_reports(self.def.classes(), &answers, targets),
        };
        Ok(Judged { evaluation, answers })
    }

    /// The answers as JSON lines with the keys row, source, target, prediction and correct: one
    /// of the right answers, letter for letter, or, where the task is judged by exact match, as
    /// that metric compares.
    ///
    /// # Errors
    /// When a line cannot be written as JSON.
    pub fn lines(&self, answers: &[String]) -> Result<Vec<u8>, serde_json::Error> {
        let loosely = self.def.metrics().contains(&MetricKind::ExactMatch);
        let same = |answer: &str, right: &str| {
            if loosely {
                normalize_answer(answer) == normalize_answer(right)
            } else {
                answer == right
            }
        };
        let Rows { sources, targets, golds, .. } = self.rows;
        let mut lines = Vec::new();
        let rows = sources.iter().zip(targets).zip(golds).zip(answers);
        for (row, (((source, target), gold), prediction)) in rows.enumerate() {
            let correct = gold.texts.iter().any(|right| same(prediction, right));
            let line = Line { row, source, target, prediction, correct };
            serde_json::to_writer(&mut lines, &line)?;
            lines.push(b'\n');
        }
        Ok(lines)
    }
}

/// A line of a file of predictions.
#[derive(Serialize)]
struct Line<'a> {
    row: usize,
    source: &'a str,
    target: &'a str,
    prediction: &'a str,
    correct: bool,
}

fn named<N: ToString>(metrics: Vec<(N, Number)>) -> Vec<(String, Number)> {
    metrics.into_iter().map(|(name, value)| (name.to_string(), value)).collect()
}
