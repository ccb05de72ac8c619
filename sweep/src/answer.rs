//! The protocol between the command line and `deptune-trainer answer`: an exported adapter is
//! applied to rows that a person gives.
//!
//! The command line writes one [`Request`] as a single JSON line to the child's standard input and
//! closes it; the child answers with one [`Reply`] per line on standard output. It exits with 0
//! when it answered, with 1 after a [`Reply::Failed`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::child::{DataFile, Device, Evaluation};
use crate::spec::Settings;
use crate::task::Split;

/// An adapter and what to do with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`crate::child::PROTOCOL`].
    pub protocol: u32,
    /// Directory with `config.json`, `model.safetensors` and `tokenizer.json`.
    pub model: PathBuf,
    /// The exported adapter (safetensors).
    pub adapter: PathBuf,
    /// The settings that the adapter was trained with; another task may stand in the place of
    /// theirs.
    pub settings: Settings,
    /// Where to compute.
    pub device: Device,
    /// Threads that libtorch may use within one operation.
    pub threads: u32,
    /// What to do.
    pub question: Question,
}

/// What to do with an adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Question {
    /// Answer rows, each given as the texts of the task's fields.
    Predict {
        /// The rows.
        rows: Vec<BTreeMap<String, String>>,
    },
    /// Judge the adapter on labelled files, all rows of them.
    Evaluate {
        /// The files; their `split` does not matter.
        files: Vec<DataFile>,
    },
    /// Judge the adapter on one part of a data set, as a trial on these files has it.
    EvaluateSplit {
        /// All files of the data set, each with its split.
        files: Vec<DataFile>,
        /// Which part.
        split: Split,
    },
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Reply {
    /// The answer to a row.
    Prediction {
        /// Number of the row, from 0.
        row: u64,
        /// The source text that the model read.
        source: String,
        /// What the model answered.
        answer: String,
        /// Whether the answer is one of the task's labels (always, where any text may be one).
        known_label: bool,
    },
    /// The result on labelled files.
    Evaluation {
        /// The result.
        evaluation: Evaluation,
    },
    /// It cannot be done.
    Failed {
        /// Why, with the next step.
        message: String,
    },
}
