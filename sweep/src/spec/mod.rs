//! The sweep file: what a person asks for.
//!
//! [`Spec::parse`] reads TOML or JSON, names *every* problem with its line, path and a hint, and
//! returns a spec whose trials can be computed by index without further checks.

mod axes;
mod cross;
mod data;
pub mod diagnostic;
mod document;
mod extend;
mod json;
mod limits;
mod locate;
mod method;
mod parse;
mod reader;
mod requires;
mod task;
mod train;

use serde::{Deserialize, Serialize};

use crate::metric::MetricKind;
use crate::record::Controls;
pub use crate::space::Cohort;
use crate::space::Space;
use crate::task::{Recipe, TaskSpec};

/// Largest seed: databases keep signed 64-bit numbers.
pub const MAX_SEED: u64 = i64::MAX as u64;

pub use data::data_problem;
pub use diagnostic::{Diagnostic, Diagnostics, Position};
pub use extend::MAX_SPACE_BYTES;
pub use locate::{locate, model_path, model_revision, name_problem, task_section};
pub use requires::{MAX_LABELS, Misfit, Requires, is_label};
pub(crate) use train::{default_eval_every, default_warmup_steps};

/// How a spec is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// JSON with the same keys.
    Json,
}

crate::outcome::names!(Format, "format", Toml => "toml", Json => "json");

/// Longest spec accepted, in bytes.
pub const MAX_SPEC_BYTES: usize = 256 << 10;

/// Most trials in one sweep.
pub const MAX_TRIALS: u64 = 1_000_000;

/// A valid sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name for people; letters, digits, `-`, `_`, `.`; at most 100 characters.
    pub name: String,
    /// Corrected semantics, or the reference implementation's to the letter.
    pub recipe: Recipe,
    /// The frozen backbone.
    pub model: ModelSpec,
    /// Data, text format, labels, metrics.
    pub task: TaskSpec,
    /// What is trained.
    pub method: Method,
    /// What prompts start from.
    pub start: Start,
    /// LoRA's alpha: its changes are scaled by alpha/r. LoRA only; default 8.
    pub lora_alpha: Option<f64>,
    /// The grid.
    pub space: Space,
    /// Training settings that are the same for all trials unless an axis overrides them.
    pub train: Train,
    /// What the best trial is.
    pub objective: Objective,
    /// Bounds on the sweep.
    pub limits: Limits,
    /// Which slots take its trials.
    pub requires: Requires,
}

/// The frozen backbone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// A directory, relative to the spec file, with `config.json`, `model.safetensors` and
    /// `tokenizer.json`; a model of the hub, `ORG/NAME` or `ORG/NAME@REVISION`; or a name that
    /// workers find under one of their model roots.
    pub path: String,
    /// Branch, tag or commit of a model of the hub, where `path` has none.
    pub revision: Option<String>,
}

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A short prompt and a low-rank offset to the word embeddings.
    Dept,
    /// A prompt alone.
    Pt,
    /// Low-rank changes to the query and value projections of every attention.
    Lora,
    /// All weights of the model.
    Full,
}

crate::outcome::names!(Method, "method",
    Dept => "dept", Pt => "pt", Lora => "lora", Full => "full");

impl Method {
    /// Whether a prompt stands in front of the input.
    #[must_use]
    pub fn has_prompt(self) -> bool {
        matches!(self, Self::Dept | Self::Pt)
    }
}

/// What a prompt starts from, unless it starts from a source adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptInit {
    /// Embeddings of a text, repeated to the prompt's length.
    #[default]
    Text,
    /// Embeddings of tokens drawn from the vocabulary by the seed.
    Vocabulary,
    /// Standard normal numbers drawn by the seed.
    Random,
}

crate::outcome::names!(PromptInit, "prompt initialisation",
    Text => "text", Vocabulary => "vocabulary", Random => "random");

/// What prompts start from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Start {
    /// Where there is no source adapter.
    pub init: PromptInit,
    /// The text for [`PromptInit::Text`]; `None`: the one of DePT's authors.
    pub init_text: Option<String>,
    /// What is taken over where there is one.
    pub warm_start: WarmStart,
}

/// What is taken over from a source adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarmStart {
    /// P, A and B.
    #[default]
    All,
    /// P alone.
    Prompt,
}

crate::outcome::names!(WarmStart, "warm start", All => "all", Prompt => "prompt");

use crate::outcome::Unknown;
use std::fmt;
use std::str::FromStr;

/// Training settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Train {
    /// Updates. 1..=10,000,000.
    pub steps: u64,
    /// Rows per micro-batch. 1..=4096. Default 32.
    pub batch_size: u32,
    /// Micro-batches per update. 1..=1024. Default 1.
    pub gradient_accumulation: u32,
    /// Longest input in tokens (s), and the number of rows of A. 1..=8192. Default 256.
    pub max_length: u32,
    /// Updates of linear warm-up. Less than `steps`. Default 500, or a tenth of `steps` (rounded
    /// down) if that is less.
    pub warmup_steps: u64,
    /// Updates between evaluations (and checkpoints). Default 1000, at most `steps`.
    pub eval_every: u64,
    /// Rows per evaluation batch. 1..=4096. Default: `batch_size`.
    pub eval_batch_size: u32,
    /// Joint L2 norm above which a trial's gradients are scaled down. More than 0.
    /// Default 1.0.
    pub max_grad_norm: f64,
    /// Dropout rate in [0, 1). Default: the model's own.
    pub dropout: Option<f64>,
    /// Who draws dropout's masks. Default `exact`.
    #[serde(default)]
    pub dropout_masks: DropoutMasks,
    /// Arithmetic. Default `fp32`.
    pub precision: Precision,
    /// Whether activations are computed again on the way back instead of being kept. Default
    /// false.
    #[serde(default)]
    pub activation_checkpointing: bool,
    /// Rule of the updates. Default `adamw`.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Course of the learning rates. Default `linear`.
    #[serde(default)]
    pub scheduler: Scheduler,
    /// Decoupled weight decay, 0 or more. Default 0.
    #[serde(default)]
    pub weight_decay: f64,
    /// Evaluations without a better selection metric after which training ends. 1 or more.
    /// Default: training goes on to the last step.
    #[serde(default)]
    pub patience: Option<u32>,
    /// How answers are found in evaluations. Default `greedy`.
    #[serde(default)]
    pub decoding: Decoding,
    /// Whether the answers to validation and test rows are kept as a file.
    #[serde(default)]
    pub save_predictions: bool,
}

/// Arithmetic of the backbone's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    Fp32,
    /// Matrix products of the backbone in bfloat16; prompt, low-rank pair, residual stream, norms,
    /// softmax, loss and optimiser in 32 bits.
    Bf16,
}

crate::outcome::names!(Precision, "precision", Fp32 => "fp32", Bf16 => "bf16");

/// Rule of the updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay.
    #[default]
    AdamW,
    /// Adam's second moment factored into rows and columns; no first moment.
    Adafactor,
}

crate::outcome::names!(Optimizer, "optimizer", AdamW => "adamw", Adafactor => "adafactor");

/// Course of the learning rates after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Falls linearly to 0.
    #[default]
    Linear,
    /// Falls to 0 along half a cosine.
    Cosine,
    /// Stays.
    Constant,
}

crate::outcome::names!(Scheduler, "scheduler",
    Linear => "linear", Cosine => "cosine", Constant => "constant");

/// Who draws the masks of dropout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropoutMasks {
    /// Counters: the same masks for all trials of a seed, on every device, however padded.
    #[default]
    Exact,
    /// libtorch's kernels: less memory, of the same law, but other masks for every trial, pack
    /// and padding. What draws its own on processors (DePT and prompt tuning of T5) stays exact.
    Kernel,
}

crate::outcome::names!(DropoutMasks, "dropout masks", Exact => "exact", Kernel => "kernel");

/// How answers are found in evaluations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decoding {
    /// The likeliest token, one after the other; any text may come out.
    #[default]
    Greedy,
    /// The label whose text has the highest probability.
    Labels,
}

crate::outcome::names!(Decoding, "decoding", Greedy => "greedy", Labels => "labels");

/// What the best trial is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// Selection metric on the validation split. Default: the task's first.
    pub metric: MetricKind,
    /// Whether more is better. Default: yes, as for every metric here.
    pub goal: Goal,
}

/// Direction of the objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// More is better.
    Maximize,
    /// Less is better.
    Minimize,
}

/// Bounds on the sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Attempts of one trial that may fail before the trial does. 1..=100. Default 3.
    pub max_attempts: u32,
    /// Trials leased at the same time. Default: no bound.
    pub max_parallel: Option<u32>,
    /// Most trials that train together in one pack. 1..=256. Default: what the slot holds.
    pub max_pack: Option<u32>,
    /// Sweeps of a higher priority are served first. -1000..=1000. Default 0.
    pub priority: i32,
    /// Share of the leases among sweeps of one priority. 1..=1000. Default 1.
    pub weight: u32,
    /// Milliseconds for which slots may be busy with the sweep. Default: no bound.
    pub budget: Option<u64>,
}

impl Limits {
    /// What a person may change later, as the spec gives it.
    #[must_use]
    pub fn controls(&self) -> Controls {
        Controls {
            priority: self.priority,
            weight: self.weight,
            max_parallel: self.max_parallel,
            budget: self.budget,
        }
    }
}

/// Everything that one trial's training depends on, besides the content of the files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Which semantics.
    pub recipe: Recipe,
    /// Data, text format, labels, metrics.
    pub task: TaskSpec,
    /// What is trained.
    pub method: Method,
    /// m: rows of the prompt; 0 for methods without one.
    pub prompt_length: u32,
    /// r: columns of A and rows of B; 0 for prompt tuning and full fine-tuning.
    pub rank: u32,
    /// α1: peak learning rate of the prompt; `None` for methods without one.
    pub prompt_lr: Option<f64>,
    /// α2: peak learning rate of DePT's A and B.
    pub lowrank_lr: Option<f64>,
    /// Peak learning rate of LoRA and full fine-tuning.
    #[serde(default)]
    pub learning_rate: Option<f64>,
    /// LoRA's alpha: its changes are scaled by alpha/r.
    #[serde(default)]
    pub lora_alpha: Option<f64>,
    /// What the prompt starts from.
    #[serde(default)]
    pub init: PromptInit,
    /// The text for [`PromptInit::Text`]; `None`: the one of DePT's authors.
    #[serde(default)]
    pub init_text: Option<String>,
    /// The source adapter that the trial starts from, by its name in the spec.
    #[serde(default)]
    pub source: Option<String>,
    /// What is taken over from it.
    #[serde(default)]
    pub warm_start: WarmStart,
    /// Decides A's start, the order of the data and the dropout masks. At most 2^63 - 1.
    pub seed: u64,
    /// Training settings.
    pub train: Train,
    /// What the best checkpoint is.
    pub objective: Objective,
}

#[cfg(test)]
pub(crate) mod tests;
