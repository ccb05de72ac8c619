//! What reads return.

use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::id::{ArtifactHash, Epoch, SweepId, TrialId};
use deptune_sweep::outcome::{FailureClass, Outcome, SweepStatus};
use deptune_sweep::record::{AttemptEnd, Controls, WallMillis};
use deptune_sweep::spec::{Goal, Method};
use serde::{Deserialize, Serialize};

/// Some rows and whether there are more after them. The next page starts after the last item.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Whether there are more.
    pub more: bool,
}

/// Which sweeps to list.
#[derive(Debug, Clone, Default)]
pub struct SweepFilter {
    /// Only those in this status.
    pub status: Option<SweepStatus>,
    /// Only those with this hash of the submission.
    pub spec_hash: Option<ArtifactHash>,
}

/// A sweep and how far it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepSummary {
    /// The sweep.
    pub id: SweepId,
    /// Its name.
    pub name: String,
    /// Status.
    pub status: SweepStatus,
    /// Number of trials; the six counts below add up to it.
    pub trials: u64,
    /// Trials that succeeded.
    pub succeeded: u64,
    /// Trials that failed.
    pub failed: u64,
    /// Trials that were cancelled.
    pub cancelled: u64,
    /// Trials that were pruned.
    pub pruned: u64,
    /// Trials that are leased.
    pub running: u64,
    /// Trials that wait, those never leased included.
    pub pending: u64,
    /// Selection metric.
    pub metric_name: String,
    /// Whether more of it is better.
    pub goal: Goal,
    /// The trial with the best finite selection metric so far (of ties the lowest index), and its
    /// value.
    pub best: Option<(TrialId, f64)>,
    /// When it was submitted.
    pub submitted: WallMillis,
    /// When its last trial ended.
    pub finished: Option<WallMillis>,
    /// Hash of the submission.
    pub spec_hash: ArtifactHash,
    /// What it may use.
    pub controls: Controls,
    /// Milliseconds for which slots were busy with it.
    pub used: u64,
}

/// How many rows there are of a sweep, besides its trials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SweepContents {
    /// Attempts of its trials.
    pub attempts: u64,
    /// Evaluations of its trials.
    pub evaluations: u64,
    /// Entries of its log.
    pub log_entries: u64,
}

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialPhase {
    /// Waits to be leased again.
    Pending,
    /// Is leased.
    Leased,
    /// Has an outcome.
    Ended,
}

impl TrialPhase {
    /// The name used in SQL, on the wire and by the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TrialPhase::Pending => "pending",
            TrialPhase::Leased => "leased",
            TrialPhase::Ended => "ended",
        }
    }
}

/// A trial with its settings and its result.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialRow {
    /// The trial.
    pub id: TrialId,
    /// Epoch of its latest lease (or cancellation).
    pub epoch: Epoch,
    /// Where it stands.
    pub phase: TrialPhase,
    /// Number of its configuration.
    pub configuration: u64,
    /// What is trained.
    pub method: Method,
    /// m; 0 for methods without a prompt.
    pub prompt_length: u32,
    /// r; 0 for prompt tuning and full fine-tuning.
    pub rank: u32,
    /// Peak learning rate of the prompt; `None` for methods without one.
    pub prompt_lr: Option<f64>,
    /// Peak learning rate of DePT's A and B.
    pub lowrank_lr: Option<f64>,
    /// Peak learning rate of LoRA and full fine-tuning.
    pub learning_rate: Option<f64>,
    /// The source adapter that it starts from, by its name in the spec.
    pub source: Option<String>,
    /// Seed.
    pub seed: u64,
    /// The trial that it runs again.
    pub retry_of: Option<TrialId>,
    /// The outcome, once there is one.
    pub outcome: Option<Outcome>,
    /// Why it failed.
    pub class: Option<FailureClass>,
    /// Why, in words.
    pub message: String,
    /// What it ended with, for a success.
    pub result: Option<TrialResult>,
    /// The best adapter, for a success.
    pub adapter: Option<ArtifactHash>,
    /// Attempts so far.
    pub attempts: u32,
    /// Name of the worker that reported the outcome, or else holds the lease.
    pub worker: Option<String>,
}

/// One execution of a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Epoch of its lease.
    pub epoch: Epoch,
    /// Name of its worker.
    pub worker: String,
    /// Slot of the worker.
    pub slot: u32,
    /// Step from which it continued.
    pub first_step: u64,
    /// Last step that it is known to have made.
    pub last_step: u64,
    /// How it ended; `None` while it runs.
    pub end: Option<AttemptEnd>,
    /// Why it failed.
    pub class: Option<FailureClass>,
    /// Why, in words.
    pub message: String,
    /// When it was leased.
    pub started: WallMillis,
    /// When it ended; `None` while it runs.
    pub ended: Option<WallMillis>,
}

/// The position of an evaluation within its sweep's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EvaluationKey {
    /// Index of the trial.
    pub trial: u64,
    /// Updates made before the evaluation.
    pub step: u64,
    /// `test` or `validation`.
    pub split: String,
}

/// An evaluation and its trial.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluationRow {
    /// The trial.
    pub trial: TrialId,
    /// The evaluation.
    pub evaluation: Evaluation,
}

impl EvaluationRow {
    /// Its position, to ask for the page after it.
    #[must_use]
    pub fn key(&self) -> EvaluationKey {
        EvaluationKey {
            trial: self.trial.index,
            step: self.evaluation.step,
            split: self.evaluation.split.clone(),
        }
    }
}

/// A configuration over its seeds. Means and deviations are over the trials that succeeded; one
/// that is not finite makes its mean `None`.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaderboardRow {
    /// Place, from 1.
    pub place: u64,
    /// Number of the configuration.
    pub configuration: u64,
    /// What is trained.
    pub method: Method,
    /// m; 0 for methods without a prompt.
    pub prompt_length: u32,
    /// r; 0 for prompt tuning and full fine-tuning.
    pub rank: u32,
    /// Peak learning rate of the prompt; `None` for methods without one.
    pub prompt_lr: Option<f64>,
    /// Peak learning rate of DePT's A and B.
    pub lowrank_lr: Option<f64>,
    /// Peak learning rate of LoRA and full fine-tuning.
    pub learning_rate: Option<f64>,
    /// The source adapter that it starts from, by its name in the spec.
    pub source: Option<String>,
    /// Other settings that the grid varies, as a JSON object.
    pub other_settings: String,
    /// Seeds that succeeded, at least 1.
    pub seeds: u32,
    /// Mean of the selection metric on the validation split.
    pub mean: Option<f64>,
    /// Sample standard deviation; `None` for one seed.
    pub std: Option<f64>,
    /// Lower end of the 95 % interval of the mean (Student's t); `None` for one seed.
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// Mean on the test split, if the task has one.
    pub test_mean: Option<f64>,
    /// Sample standard deviation on the test split.
    pub test_std: Option<f64>,
    /// The best constant answer's metric on the validation split.
    pub constant_answer: Option<f64>,
    /// The best constant answer's metric on the test split.
    pub test_constant_answer: Option<f64>,
    /// Numbers trained.
    pub trainable_parameters: u64,
    /// Mean of the best steps.
    pub best_step: f64,
    /// Mean training seconds of a trial.
    pub train_seconds: Option<f64>,
}

/// The answer to a person's SQL.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QueryRows {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows, one value per column.
    pub rows: Vec<Vec<SqlValue>>,
    /// Whether rows were left out because of the limit.
    pub truncated: bool,
}

/// A value of SQL.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// NULL.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating-point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl SqlValue {
    /// Bytes of memory that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<SqlValue>()
            + match self {
                SqlValue::Text(text) => text.len(),
                SqlValue::Blob(bytes) => bytes.len(),
                SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 0,
            }
    }
}
