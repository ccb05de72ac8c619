//! A task's three splits as token ids.

use std::path::{Path, PathBuf};

use deptune_sweep::child::DataFile;
use deptune_sweep::metric::Gold;
use deptune_sweep::task::{self, DataError, SourceFile, Split, TaskDef, TaskError};

use crate::batch::{Batch, Example};
use crate::tokenize::{self, Tokenizer};

/// Why the data cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the data file {name} at {path}")]
    Read {
        /// The name in the spec.
        name: String,
        /// Where it was looked for.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A split that does not exist.
    #[error("the data file {name} is for no known split")]
    Split {
        /// The name in the spec.
        name: String,
        /// Why.
        #[source]
        source: TaskError,
    },
    /// The content is not what the task needs.
    #[error("the data do not fit the task")]
    Content(#[source] DataError),
    /// A text could not be tokenised.
    #[error("cannot tokenise the data")]
    Tokenize(#[source] tokenize::Error),
}

/// One split.
#[derive(Debug, Default)]
pub struct Rows {
    /// Token ids, row by row.
    pub examples: Vec<Example>,
    /// The texts that the model reads, row by row; none of the split to learn from.
    pub sources: Vec<String>,
    /// Target texts, row by row.
    pub targets: Vec<String>,
    /// What answers are judged against, row by row.
    pub golds: Vec<Answers>,
}

/// What the answer of a row is judged against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// All that is right, the target first.
    pub texts: Vec<String>,
    /// The same for rows that are judged together.
    pub group: Option<u64>,
}

impl Gold for Answers {
    fn answers(&self) -> Vec<&str> {
        self.texts.iter().map(String::as_str).collect()
    }

    fn group(&self) -> Option<u64> {
        self.group
    }
}

/// All three splits.
#[derive(Debug)]
pub struct Data {
    /// To learn from.
    pub train: Rows,
    /// To choose checkpoints on.
    pub validation: Rows,
    /// To read once, at the end; empty when the task has none.
    pub test: Rows,
    /// Most tokens of a target, end token included: as long as an answer can be.
    pub longest_target: usize,
}

impl Data {
    /// One of the splits.
    #[must_use]
    pub fn split(&self, split: Split) -> &Rows {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }
}

impl Rows {
    /// The given rows as a batch; numbers that do not exist are left out.
    #[must_use]
    pub fn batch(&self, rows: &[u32]) -> Batch {
        let examples = rows.iter().filter_map(|&row| self.examples.get(row as usize)).cloned();
        Batch { examples: examples.collect() }
    }

    /// Every `stride`-th row from row `first` on.
    #[must_use]
    pub fn every(&self, stride: usize, first: usize) -> Rows {
        fn some<T: Clone>(of: &[T], stride: usize, first: usize) -> Vec<T> {
            of.iter().skip(first).step_by(stride.max(1)).cloned().collect()
        }
        Rows {
            examples: some(&self.examples, stride, first),
            sources: some(&self.sources, stride, first),
            targets: some(&self.targets, stride, first),
            golds: some(&self.golds, stride, first),
        }
    }
}

/// Reads, splits and tokenises the files of a task, as a trial of that seed sees them.
///
/// # Errors
/// [`Error`], with file and line where a row is to blame.
pub fn load(
    def: &TaskDef,
    files: &[DataFile],
    tokenizer: &Tokenizer,
    seed: u64,
) -> Result<Data, Error> {
    let contents = read(files)?;
    let sources: Vec<(Split, SourceFile<'_>)> =
        contents.iter().map(|(split, name, bytes)| (*split, SourceFile { name, bytes })).collect();
    let dataset = task::load(def, &sources)
        .and_then(|dataset| dataset.sample(def, seed))
        .map_err(Error::Content)?;
    let of = |split| rows(def, dataset.split(split), tokenizer).map_err(Error::Tokenize);
    let (mut train, validation, test) =
        (of(Split::Train)?, of(Split::Validation)?, of(Split::Test)?);
    train.sources = Vec::new();
    let longest = |rows: &Rows| rows.examples.iter().map(|e| e.labels.len()).max().unwrap_or(0);
    let longest_target = longest(&train).max(longest(&validation)).max(longest(&test));
    Ok(Data { train, validation, test, longest_target })
}

fn read(files: &[DataFile]) -> Result<Vec<(Split, String, Vec<u8>)>, Error> {
    let one = |file: &DataFile| {
        let name = file.name.clone();
        let split =
            file.split.parse().map_err(|source| Error::Split { name: name.clone(), source })?;
        let bytes = read_file(&file.path).map_err(|source| Error::Read {
            name: name.clone(),
            path: file.path.clone(),
            source,
        })?;
        Ok((split, name, bytes))
    };
    files.iter().map(one).collect()
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > DataError::MAX_FILE {
        let limit = DataError::MAX_FILE;
        return Err(std::io::Error::other(format!(
            "it has {size} bytes, at most {limit} are read"
        )));
    }
    std::fs::read(path)
}

/// Token ids of a task's rows; targets are cut to as many tokens as the task has at most, the end
/// token kept.
pub(crate) fn rows(
    def: &TaskDef,
    examples: &[task::Example],
    tokenizer: &Tokenizer,
) -> Result<Rows, tokenize::Error> {
    let mut rows = Rows::default();
    for example in examples {
        let mut labels = tokenizer.target(&example.target)?;
        if let (Some(most), Some(&end)) = (def.target_tokens(), labels.last())
            && labels.len() > most
        {
            labels.truncate(most.saturating_sub(1));
            labels.push(end);
        }
        let input_ids = tokenizer.input(&example.source)?;
        rows.examples.push(Example { input_ids, labels });
        rows.sources.push(example.source.clone());
        rows.targets.push(example.target.clone());
        rows.golds.push(Answers { texts: example.answers.clone(), group: example.group });
    }
    Ok(rows)
}
