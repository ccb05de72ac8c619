//! What can be wrong with a task or its data.

use std::fmt;

use super::Split;
use super::suggest::did_you_mean;
use super::template::TemplateError;
use crate::metric::UnknownMetric;

/// What is wrong with the task as the spec describes it; no data file is needed to find it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// Neither a built-in task nor one of the person's own.
    #[error(
        "unknown task '{name}'{}; built-in tasks are {}; for your own data give 'template' and 'label'",
        did_you_mean(suggestion.as_deref()),
        super::builtin_names().collect::<Vec<_>>().join(", ")
    )]
    UnknownTask {
        /// The name as written.
        name: String,
        /// The nearest built-in task, if one is near.
        suggestion: Option<String>,
    },
    /// A key that only makes sense for the person's own task.
    #[error(
        "task '{task}' is built in and has its own '{key}'; leave '{key}' out, or give the task another name"
    )]
    BuiltInHasOwn {
        /// The built-in task.
        task: String,
        /// The key.
        key: &'static str,
    },
    /// The person's own task lacks a key.
    #[error("task '{task}' needs '{key}', for example {key} = \"{example}\"")]
    Missing {
        /// The task.
        task: String,
        /// The missing key.
        key: &'static str,
        /// What it could look like.
        example: &'static str,
    },
    /// The template cannot be read.
    #[error("the template of task '{task}' cannot be read")]
    Template {
        /// The task.
        task: String,
        /// Why not.
        #[source]
        source: TemplateError,
    },
    /// `columns` names a field that neither the template nor the label uses.
    #[error(
        "columns.{field} is not used by task '{task}'{}; its fields are {}",
        did_you_mean(suggestion.as_deref()),
        fields.join(", ")
    )]
    UnknownField {
        /// The task.
        task: String,
        /// The field as written.
        field: String,
        /// The task's fields.
        fields: Vec<String>,
        /// The nearest of them, if one is near.
        suggestion: Option<String>,
    },
    /// A metric does not exist.
    #[error("the metrics of task '{task}' cannot be read")]
    UnknownMetric {
        /// The task.
        task: String,
        /// Which, and what exists.
        #[source]
        source: UnknownMetric,
    },
    /// A metric exists but has no meaning for the task.
    #[error("metric '{metric}' does not fit task '{task}': {reason}")]
    UnfitMetric {
        /// The task.
        task: String,
        /// The metric.
        metric: &'static str,
        /// What it would need.
        reason: &'static str,
    },
    /// The list of labels contradicts itself.
    #[error("the labels of task '{task}' are no use: {reason}")]
    Labels {
        /// The task.
        task: String,
        /// What is wrong with them.
        reason: String,
    },
    /// A few-shot setting that cannot be met.
    #[error("'{key}' of task '{task}' is no use: {reason}")]
    KShot {
        /// The task.
        task: String,
        /// The key.
        key: &'static str,
        /// What it would need.
        reason: String,
    },
    /// A limit of 0 rows, or no data file at all.
    #[error("'{key}' of task '{task}' leaves no rows")]
    NoRows {
        /// The task.
        task: String,
        /// The key.
        key: &'static str,
    },
    /// `validation` and `test` without `train`.
    #[error(
        "task '{task}' has no 'train' file; give one, or give a single file to be split in three"
    )]
    NoTrain {
        /// The task.
        task: String,
    },
    /// No data file named.
    #[error(
        "task '{task}' names no data file; give 'train', and 'validation' and 'test' if there are such"
    )]
    NoFiles {
        /// The task.
        task: String,
    },
    /// A split that does not exist.
    #[error("unknown split '{0}'; splits are train, validation, test")]
    UnknownSplit(String),
}

/// What is wrong with the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Rows that cannot be used.
    #[error("{}", BadRows(rows, *total))]
    BadRows {
        /// The first of them, at most [`DataError::MAX_ROWS`].
        rows: Vec<BadRow>,
        /// How many there are.
        total: u64,
    },
    /// A file lacks a column that the task reads.
    #[error(
        "column {} not found in {file}; columns are: {}{}",
        wanted.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" or "),
        columns.join(", "),
        suggestion.as_deref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
    )]
    Column {
        /// The file.
        file: String,
        /// The names that would do.
        wanted: Vec<String>,
        /// The columns that there are.
        columns: Vec<String>,
        /// The nearest of them, if one is near.
        suggestion: Option<String>,
    },
    /// No row of a file has a label.
    #[error(
        "no row of {file} has a label: column {} is absent or empty, columns are: {}; the {split} split needs labels, so name their column or leave the file out",
        wanted.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(" or "),
        columns.join(", ")
    )]
    Unlabelled {
        /// The file.
        file: String,
        /// The split that it was given for.
        split: Split,
        /// The names that the label's column may have.
        wanted: Vec<String>,
        /// The columns that there are.
        columns: Vec<String>,
    },
    /// A file without a single row.
    #[error("{file} has no rows")]
    EmptyFile {
        /// The file.
        file: String,
    },
    /// A split without files or rows.
    #[error("the {split} split is empty")]
    EmptySplit {
        /// The split.
        split: Split,
    },
    /// Too few rows to make the missing splits.
    #[error(
        "{rows} rows are too few to be split into {parts} parts; give more rows, or a file for each split"
    )]
    TooFewRows {
        /// Rows that there are.
        rows: u64,
        /// Parts that were to be made.
        parts: u64,
    },
    /// A class has fewer training rows than a few-shot sample takes of it.
    #[error(
        "class '{class}' has {rows} training rows, {wanted} are to be sampled; lower k_shot, or give more rows"
    )]
    TooFewOfClass {
        /// The class.
        class: String,
        /// Rows that there are.
        rows: u64,
        /// Rows that are needed.
        wanted: u64,
    },
    /// More rows than can be permuted.
    #[error("{rows} rows are more than the {} that can be split", u32::MAX)]
    TooManyRows {
        /// Rows that there are.
        rows: u64,
    },
    /// No split that could be trained on.
    #[error(
        "there are no training rows: give a 'train' file, or a single file to be split in three"
    )]
    NoTrain,
    /// A file larger than [`DataError::MAX_FILE`].
    #[error(
        "{file} has {bytes} bytes; at most {} are read: split it into several files",
        DataError::MAX_FILE
    )]
    TooLarge {
        /// The file.
        file: String,
        /// Its size.
        bytes: u64,
    },
    /// Neither the spec, nor the file's name, nor its first line says what the file is.
    #[error(
        "cannot tell the format of {file}; set format = \"jsonl\", \"tsv\", \"csv\" or \"parquet\""
    )]
    UnknownFormat {
        /// The file.
        file: String,
    },
    /// A parquet file that cannot be read, or not to its end.
    #[error("{file} cannot be read as parquet: {reason}")]
    Parquet {
        /// The file.
        file: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// One of two files that belong together is missing.
    #[error("{file} needs {partner} in the same list")]
    Unpaired {
        /// The file that is there.
        file: String,
        /// The file that is not.
        partner: String,
    },
}

impl DataError {
    /// How many bad rows an error names.
    pub const MAX_ROWS: usize = 20;
    /// Longest line that is read, bytes (1 MiB).
    pub const MAX_LINE: usize = 1 << 20;
    /// Largest file that is read, bytes (2 GiB).
    pub const MAX_FILE: u64 = 1 << 31;
}

/// A row that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The file, as the spec names it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub problem: String,
}

impl fmt::Display for BadRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.problem)
    }
}

struct BadRows<'a>(&'a [BadRow], u64);

impl fmt::Display for BadRows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(rows, total) = self;
        let (shown, noun) = (rows.len() as u64, if *total == 1 { "row" } else { "rows" });
        write!(f, "{total} bad {noun}")?;
        for (index, row) in rows.iter().enumerate() {
            write!(f, "{}{row}", if index == 0 { ": " } else { "; " })?;
        }
        if shown < *total {
            write!(f, "; and {} more", total - shown)?;
        }
        Ok(())
    }
}
