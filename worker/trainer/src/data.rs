//! A task's three splits as token ids.

use std::cell::OnceCell;
use std::collections::HashMap;
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

/// The split to learn from. A text becomes tokens when its row is first drawn: few updates see few
/// rows of a large split.
#[derive(Debug, Default)]
pub struct TrainRows {
    sources: Vec<String>,
    examples: Vec<OnceCell<Example>>,
    /// Token ids of the targets, each once.
    labels: Vec<Vec<i64>>,
    /// The place of each row's target among them.
    targets: Vec<usize>,
}

impl TrainRows {
    fn new(
        def: &TaskDef,
        examples: &[task::Example],
        tokenizer: &Tokenizer,
    ) -> Result<Self, tokenize::Error> {
        let mut train = Self::default();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for example in examples {
            let place = match places.get(example.target.as_str()) {
                Some(&place) => place,
                None => {
                    train.labels.push(target(def, &example.target, tokenizer)?);
                    let place = train.labels.len() - 1;
                    places.insert(&example.target, place);
                    place
                }
            };
            train.targets.push(place);
            train.sources.push(example.source.clone());
            train.examples.push(OnceCell::new());
        }
        Ok(train)
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// The given rows as a batch; numbers that do not exist are left out.
    ///
    /// # Errors
    /// [`Error::Tokenize`].
    pub fn batch(&self, rows: &[u32], tokenizer: &Tokenizer) -> Result<Batch, Error> {
        let known = rows.iter().map(|&row| row as usize).filter(|&row| row < self.len());
        let examples: Result<_, tokenize::Error> =
            known.map(|row| self.example(row, tokenizer)).collect();
        Ok(Batch { examples: examples.map_err(Error::Tokenize)? })
    }

    fn example(&self, row: usize, tokenizer: &Tokenizer) -> Result<Example, tokenize::Error> {
        if let Some(known) = self.examples[row].get() {
            return Ok(known.clone());
        }
        let input_ids = tokenizer.input(&self.sources[row])?;
        let labels = self.labels[self.targets[row]].clone();
        Ok(self.examples[row].get_or_init(|| Example { input_ids, labels }).clone())
    }
}

/// A split that trials are judged on.
#[derive(Debug, Default)]
pub struct Rows {
    /// Token ids, row by row.
    pub examples: Vec<Example>,
    /// The texts that the model reads, row by row.
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
    pub train: TrainRows,
    /// To choose checkpoints on.
    pub validation: Rows,
    /// To read once, at the end; empty when the task has none.
    pub test: Rows,
    /// Most tokens of a target, end token included: as long as an answer can be.
    pub longest_target: usize,
}

impl Data {
    /// One of the splits that trials are judged on; no other.
    #[must_use]
    pub fn split(&self, split: Split) -> Option<&Rows> {
        match split {
            Split::Train => None,
            Split::Validation => Some(&self.validation),
            Split::Test => Some(&self.test),
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

/// Reads and splits the files of a task, as a trial of that seed sees them.
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
    let train = TrainRows::new(def, dataset.split(Split::Train), tokenizer);
    let train = train.map_err(Error::Tokenize)?;
    let (validation, test) = (of(Split::Validation)?, of(Split::Test)?);
    let of_rows = [&validation, &test].into_iter().flat_map(|rows| &rows.examples);
    let targets = of_rows.map(|example| &example.labels).chain(&train.labels);
    let longest_target = targets.map(Vec::len).max().unwrap_or(0);
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

/// Token ids of a target, cut to as many as the task has at most, the end token kept.
fn target(def: &TaskDef, text: &str, tokenizer: &Tokenizer) -> Result<Vec<i64>, tokenize::Error> {
    let mut labels = tokenizer.target(text)?;
    if let (Some(most), Some(&end)) = (def.target_tokens(), labels.last())
        && labels.len() > most
    {
        labels.truncate(most.saturating_sub(1));
        labels.push(end);
    }
    Ok(labels)
}

/// Token ids of a task's rows.
pub(crate) fn rows(
    def: &TaskDef,
    examples: &[task::Example],
    tokenizer: &Tokenizer,
) -> Result<Rows, tokenize::Error> {
    let mut rows = Rows::default();
    for example in examples {
        let labels = target(def, &example.target, tokenizer)?;
        let input_ids = tokenizer.input(&example.source)?;
        rows.examples.push(Example { input_ids, labels });
        rows.sources.push(example.source.clone());
        rows.targets.push(example.target.clone());
        rows.golds.push(Answers { texts: example.answers.clone(), group: example.group });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_sweep::model::ModelConfig;
    use deptune_sweep::spec::{Format, Spec};

    #[test]
    fn drawn_rows_are_the_tokens_of_their_texts() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart");
        let text = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let config = ModelConfig::parse("config.json", &text("model/config.json")).unwrap();
        let spec = Spec::parse(&text("sweep.toml"), Format::Toml, Some(&config)).unwrap();
        let settings = spec.settings(0).unwrap();
        let def = settings.task.resolve(settings.recipe).unwrap();
        let file = dir.join("model/tokenizer.json");
        let tokenizer = Tokenizer::open(&file, &config, settings.recipe, 16).unwrap();
        let bytes = text("data/train.jsonl").into_bytes();
        let source = SourceFile { name: "train.jsonl", bytes: &bytes };
        let examples = task::parse_rows(&def, Split::Train, &[source]).unwrap();
        let all = rows(&def, &examples, &tokenizer).unwrap();
        let train = TrainRows::new(&def, &examples, &tokenizer).unwrap();
        assert_eq!(train.len(), all.examples.len());
        assert_eq!(train.labels.len(), 2, "as many as there are labels");
        // A row that does not exist is left out, one that was drawn before stays what it was.
        let drawn = [7, 3, 1 << 20, 7];
        for _ in 0..2 {
            let batch = train.batch(&drawn, &tokenizer).unwrap();
            assert_eq!(batch.examples, all.batch(&drawn).examples);
        }
        assert_eq!(train.examples.iter().filter(|one| one.get().is_some()).count(), 2);
    }
}
