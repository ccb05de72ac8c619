//! The protocol between an agent and the trainer child that it spawns for one pack.
//!
//! The agent writes one [`Job`] as a single JSON line to the child's standard input, and while it
//! runs perhaps some [`Order`]s, a line each. The child answers with one [`Message`] per line on standard output; standard error
//! is free text for people and ends in the trial's log. A child that exits without a `done` or
//! `failed` message for a trial has crashed for that trial.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::{ArtifactHash, TrialId};
use crate::metric::Number;
use crate::outcome::FailureClass;
use crate::spec::Settings;

/// Version of this protocol; the child refuses a job of another version.
pub const PROTOCOL: u32 = 1;

/// Longest line that either side accepts, in bytes.
pub const MAX_LINE: usize = 1 << 20;

/// One pack of trials for one slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Directory with `config.json`, `model.safetensors` and `tokenizer.json`.
    pub model: PathBuf,
    /// Expected blake3 hashes of the model's files, by file name; a mismatch is a `data` failure.
    pub model_files: Vec<FileHash>,
    /// Local copies of the task's data files, by the role and position that the spec gives them.
    pub data: Vec<DataFile>,
    /// Local copies of the source adapters that the trials name.
    #[serde(default)]
    pub adapters: Vec<AdapterFile>,
    /// Directory for this pack's checkpoints and predictions; exists, and is the child's own.
    pub scratch: PathBuf,
    /// Where the pack computes.
    pub device: Device,
    /// Threads that libtorch may use within one operation.
    pub threads: u32,
    /// The members of the pack.
    pub trials: Vec<Member>,
}

/// What the agent asks of a child while it runs. How to stop is told by signals: SIGTERM asks it to
/// checkpoint and exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Order {
    /// Train this member no further and say nothing more of it; the others go on. One that has
    /// ended, or is no member, is passed over.
    Drop {
        /// The trial.
        trial: TrialId,
    },
}

/// A file name and the hash that its content must have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// File name within the model's directory.
    pub name: String,
    /// Lower-case hexadecimal blake3 hash of the content.
    pub hash: String,
}

/// A local copy of one of the task's data files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The split that the spec names it for: `train`, `validation` or `test`.
    pub split: String,
    /// The name that the submitter knows it by, for messages about bad rows.
    pub name: String,
    /// Where the copy lies on this node.
    pub path: PathBuf,
}

/// A local copy of a source adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterFile {
    /// Its name in the spec, as in [`Settings::source`].
    pub name: String,
    /// Where the copy lies on this node.
    pub path: PathBuf,
}

/// Where a pack computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Device {
    /// The processor.
    Cpu,
    /// A CUDA device, by its index among the devices that the child can see.
    Cuda {
        /// Index among the visible devices.
        index: u32,
    },
}

/// One trial of a pack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// The trial.
    pub trial: TrialId,
    /// Everything that the trial's training depends on.
    pub settings: Settings,
    /// Checkpoint to continue from, if there is one.
    pub resume: Option<PathBuf>,
}

/// One line from the child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Message {
    /// The model and the data are loaded, training starts.
    Started {
        /// Version of libtorch.
        libtorch: String,
        /// Device name, e.g. the processor's model name.
        device_name: String,
        /// Step from which each member continues, in the order of [`Job::trials`].
        first_steps: Vec<u64>,
    },
    /// Some updates were made. At most a few a second per pack.
    Progress {
        /// The trial.
        trial: TrialId,
        /// Updates completed so far.
        step: u64,
        /// Training loss of the last step.
        loss: Number,
        /// Updates per second since the last report.
        steps_per_second: f64,
    },
    /// An evaluation on the validation or the test split.
    Eval {
        /// The trial.
        trial: TrialId,
        /// The result.
        evaluation: Evaluation,
    },
    /// A checkpoint lies in the scratch directory, complete and synced.
    Checkpoint {
        /// The trial.
        trial: TrialId,
        /// Updates that it contains.
        step: u64,
        /// The file.
        path: PathBuf,
    },
    /// The answers to a split's rows lie in the scratch directory (JSON lines), complete and
    /// synced. Only where the spec asks for them.
    Predictions {
        /// The trial.
        trial: TrialId,
        /// `validation` or `test`.
        split: String,
        /// The file.
        path: PathBuf,
    },
    /// The trial has finished.
    Done {
        /// The trial.
        trial: TrialId,
        /// What it ended with.
        result: TrialResult,
        /// The best adapter (safetensors), complete and synced.
        adapter: PathBuf,
    },
    /// The trial has failed and will not go on in this child.
    Failed {
        /// The trial.
        trial: TrialId,
        /// Why, as a class that decides about a retry.
        class: FailureClass,
        /// Why, in words, with file, line or field and the next step.
        message: String,
    },
}

/// One evaluation of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Updates made before it.
    pub step: u64,
    /// `validation` or `test`.
    pub split: String,
    /// Teacher-forced loss, token mean.
    pub loss: Number,
    /// Mean training loss since the evaluation before, `None` on the test split.
    pub train_loss: Option<Number>,
    /// Metrics by name, percent where the field reports percent; the selection metric first.
    pub metrics: Vec<(String, Number)>,
    /// Metrics (same names) of the best constant answer on this split.
    pub constant: Vec<(String, Number)>,
    /// Rows evaluated.
    pub rows: u64,
    /// Wall time of the evaluation, seconds.
    pub seconds: f64,
    /// One entry per class, in class order; empty where any text may be an answer.
    #[serde(default)]
    pub per_class: Vec<ClassReport>,
}

/// How one class fared in an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Target text of the class.
    pub label: String,
    /// Of the rows answered so, the percentage that is; 0 where none is answered so.
    pub precision: f64,
    /// Of the rows that are so, the percentage answered so; 0 where there are none.
    pub recall: f64,
    /// Harmonic mean of precision and recall, percent.
    pub f1: f64,
    /// Rows that are so.
    pub support: u64,
}

/// The answers of a trial's best checkpoint to the rows of a split, as an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predictions {
    /// `validation` or `test`.
    pub split: String,
    /// Hash of the file: JSON lines.
    pub hash: ArtifactHash,
}

/// What a finished trial reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Name of the selection metric.
    pub metric_name: String,
    /// Its best value on the validation split; the first of ties wins.
    pub metric: Number,
    /// Step of that evaluation.
    pub best_step: u64,
    /// The same checkpoint on the test split, if the task has one.
    pub test: Option<Evaluation>,
    /// The best constant answer's selection metric on the validation split.
    pub constant_metric: Number,
    /// Updates made.
    pub steps: u64,
    /// Whether training ended before the last step, for want of a better evaluation.
    #[serde(default)]
    pub stopped_early: bool,
    /// The answers to the rows of its splits, where the spec asks for them. A child leaves this
    /// empty and sends [`Message::Predictions`].
    #[serde(default)]
    pub predictions: Vec<Predictions>,
    /// Numbers trained, counted from the tensors.
    pub trainable_parameters: u64,
    /// Seconds spent in training steps and evaluations, over all attempts.
    pub train_seconds: f64,
    /// Most bytes of memory that the trainer of its last attempt took until then, for all members
    /// of the pack together: of the machine's on the CPU, else of the device's. Where the driver
    /// does not tell processes apart, all that was in use on the device.
    #[serde(default)]
    pub peak_memory_bytes: Option<u64>,
    /// Mean fraction of that time, 0 to 1, for which the device was busy, with whatever it was;
    /// `None` on the CPU and where the driver does not say.
    #[serde(default)]
    pub mean_utilization: Option<f64>,
    /// Mean power of the whole device in that time, in watts; `None` as above.
    #[serde(default)]
    pub mean_power_watts: Option<f64>,
}
