//! Tasks: from the bytes of data files to source and target texts in three splits.
//!
//! A [`TaskSpec`] (what a person writes under `[task]`) resolves to a [`TaskDef`], either one of
//! the built-in tasks or the person's own. [`parse_rows`] turns the files of one split into
//! [`Example`]s or says which rows are wrong; [`assemble`] makes the missing splits; [`load`] does
//! both. Nothing here opens a file or draws a random number: the same bytes give the same data
//! set everywhere.

mod builtin;
mod define;
mod error;
mod few_shot;
mod label;
mod nested;
mod numpy;
mod pad;
mod parquet;
mod parse;
mod permute;
mod python;
mod read;
mod row;
mod shape;
mod spec;
mod split;
mod suggest;
mod template;

pub use builtin::{BuiltIn, builtin_names};
pub use define::TaskDef;
pub use error::{BadRow, DataError, TaskError};
pub use parse::parse_rows;
pub use permute::permutation;
pub use spec::{Format, KShotSampling, Labels, TaskSpec};
pub use split::{Dataset, assemble, load};
pub use suggest::{did_you_mean, suggest};
pub use template::{Template, TemplateError};

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::metric::Gold;
#[cfg(doc)]
use crate::metric::MetricKind;

/// Which of two sets of habits a sweep follows where they differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recipe {
    /// deptune's own: the oddities of the authors' code are corrected.
    #[default]
    Default,
    /// What the authors' code does, oddities included, for figures to be laid beside theirs.
    Reference,
}

/// A part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Rows to learn from.
    Train,
    /// Rows that checkpoints and configurations are chosen on.
    Validation,
    /// Rows read once, at the end.
    Test,
}

impl Split {
    /// All splits, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// The name in specs and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Split {
    type Err = TaskError;

    fn from_str(text: &str) -> Result<Self, TaskError> {
        let same = |split: &Self| split.name() == text;
        Self::ALL.into_iter().find(same).ok_or_else(|| TaskError::UnknownSplit(text.to_owned()))
    }
}

/// One labelled row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text that the model reads.
    pub source: String,
    /// The text that the model learns to answer.
    pub target: String,
    /// All texts that are right, the target first; at least one.
    pub answers: Vec<String>,
    /// The same for rows that are judged together, see [`MetricKind::GroupExactMatch`]; none for
    /// most tasks.
    pub group: Option<u64>,
    /// Where the row comes from.
    pub row: RowId,
}

impl Gold for Example {
    fn answers(&self) -> Vec<&str> {
        self.answers.iter().map(String::as_str).collect()
    }

    fn group(&self) -> Option<u64> {
        self.group
    }
}

/// A place in the data files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The split whose files the row came in; it may be used in another part.
    pub split: Split,
    /// Index into that split's list of files.
    pub file: u32,
    /// Line in that file, from 1. Several rows may come from one line (`MultiRC`).
    pub line: u64,
}

/// A data file in memory.
#[derive(Debug, Clone, Copy)]
pub struct SourceFile<'a> {
    /// The name that the spec gives it, for messages; its ending decides about `format = "auto"`.
    pub name: &'a str,
    /// The content.
    pub bytes: &'a [u8],
}
