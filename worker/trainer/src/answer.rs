//! An exported adapter applied to rows that a person gives.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use deptune_sweep::answer::{Question, Reply, Request};
use deptune_sweep::child::{DataFile, PROTOCOL};
use deptune_sweep::spec::{Decoding, Settings};
use deptune_sweep::task::{self, DataError, Recipe, SourceFile, Split, TaskDef};

use crate::batch::{Batch, Example};
use crate::data::{self, Rows};
use crate::evaluate::Judge;
use crate::model::Model;
use crate::pack::Pack;
use crate::run::failure::Failure;
use crate::run::{prepare, warm};
use crate::score;
use crate::tokenize::Tokenizer;

/// Rows per batch.
const BATCH: usize = 32;

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("row {row}: {reason}")]
    Row { row: usize, reason: String },
    #[error("cannot read the file {name} at {path}")]
    Read {
        name: String,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Answers a request, line by line.
///
/// # Errors
/// When `out` cannot be written.
pub fn answer(request: &Request, out: &mut impl Write) -> std::io::Result<bool> {
    let mut emit = |reply: &Reply| -> std::io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    };
    match Answerer::new(request).and_then(|answerer| answerer.replies(&request.question)) {
        Ok(replies) => {
            replies.iter().try_for_each(emit)?;
            Ok(true)
        }
        Err(failure) => {
            emit(&Reply::Failed { message: failure.message })?;
            Ok(false)
        }
    }
}

struct Answerer {
    pack: Pack,
    def: TaskDef,
    tokenizer: Tokenizer,
    settings: Settings,
    /// How answers are found; labels only where the task has them.
    decoding: Decoding,
}

impl Answerer {
    fn new(request: &Request) -> Result<Answerer, Failure> {
        if request.protocol != PROTOCOL {
            return Err(Failure::infra(&prepare::Error::Protocol { found: request.protocol }));
        }
        tch::set_num_threads(i32::try_from(request.threads).unwrap_or(1).max(1));
        let device = prepare::device(&request.device)?;
        let settings = &request.settings;
        let config = Model::read_config(&request.model).map_err(|e| Failure::data(&e))?;
        let max_length = settings.train.max_length as usize;
        let path = request.model.join("tokenizer.json");
        let tokenizer = Tokenizer::open(&path, &config, settings.recipe, max_length)
            .map_err(|e| Failure::data(&e))?;
        let def = settings.task.resolve(settings.recipe).map_err(|e| Failure::user(&e))?;
        let place = prepare::Place { dir: &request.model, device, tokenizer: &tokenizer };
        let members = vec![prepare::pack_member(settings)];
        let mut pack = place.pack(config, settings, members, 0.0)?;
        let numbers = pack.parameters(0)?.numel();
        let adapter = warm::read(&request.adapter, numbers).map_err(|e| Failure::data(&e))?;
        pack.set_parameters(0, &adapter)?;
        let decoding = match def.classes() {
            [] => Decoding::Greedy,
            _ => settings.train.decoding,
        };
        Ok(Answerer { pack, def, tokenizer, settings: settings.clone(), decoding })
    }

    fn replies(&self, question: &Question) -> Result<Vec<Reply>, Failure> {
        match question {
            Question::Predict { rows } => self.predict(rows),
            Question::Evaluate { files } => self.evaluate(files),
            Question::EvaluateSplit { files, split } => self.evaluate_split(files, *split),
        }
    }

    /// Most tokens of an answer: the longest label's, or the reference's bound in its recipe and
    /// where any text may be an answer.
    fn answer_tokens(&self) -> Result<usize, Failure> {
        if self.settings.recipe == Recipe::Reference {
            return Ok(prepare::REFERENCE_ANSWER);
        }
        let mut longest = 0;
        for class in self.def.classes() {
            let ids = self.tokenizer.target(class).map_err(|e| Failure::data(&e))?;
            longest = longest.max(ids.len());
        }
        Ok(if longest == 0 { prepare::REFERENCE_ANSWER } else { longest })
    }

    fn predict(&self, rows: &[BTreeMap<String, String>]) -> Result<Vec<Reply>, Failure> {
        let answer_tokens = self.answer_tokens()?;
        let mut sources = Vec::new();
        for (row, texts) in rows.iter().enumerate() {
            let source = self
                .def
                .source(texts)
                .map_err(|e| Failure::user(&Error::Row { row, reason: e.to_string() }))?;
            sources.push(source);
        }
        let mut replies = Vec::new();
        for chunk in sources.chunks(BATCH) {
            let mut batch = Batch::default();
            for source in chunk {
                let input_ids = self.tokenizer.input(source).map_err(|e| Failure::data(&e))?;
                batch.examples.push(Example { input_ids, labels: vec![0] });
            }
            for (source, answer) in chunk.iter().zip(self.answers(&batch, answer_tokens)?) {
                let classes = self.def.classes();
                let known_label = classes.is_empty() || classes.contains(&answer);
                let (row, source) = (replies.len() as u64, source.clone());
                replies.push(Reply::Prediction { row, source, answer, known_label });
            }
        }
        Ok(replies)
    }

    fn answers(&self, batch: &Batch, answer_tokens: usize) -> Result<Vec<String>, Failure> {
        let classes = self.def.classes();
        if self.decoding == Decoding::Labels {
            let labels = classes.iter().map(|class| self.tokenizer.target(class));
            let labels = labels.collect::<Result<Vec<_>, _>>().map_err(|e| Failure::data(&e))?;
            let scored = self.pack.score(batch, &labels)?.scores;
            let rows = scored.first().map(Vec::as_slice).unwrap_or_default().iter();
            let best = rows.map(|row| classes.get(score::best(row)).cloned().unwrap_or_default());
            return Ok(best.collect());
        }
        let generated = self.pack.generate(batch, answer_tokens)?;
        let rows = generated.first().map(Vec::as_slice).unwrap_or_default().iter();
        rows.map(|ids| self.tokenizer.text(ids).map_err(|e| Failure::data(&e))).collect()
    }

    fn evaluate(&self, files: &[DataFile]) -> Result<Vec<Reply>, Failure> {
        let contents: Vec<(String, Vec<u8>)> =
            files.iter().map(read).collect::<Result<_, _>>().map_err(|e| Failure::data(&e))?;
        let sources: Vec<SourceFile<'_>> =
            contents.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
        let split = Split::Test;
        let examples = task::parse_rows(&self.def, split, &sources)
            .map_err(|e| Failure::data(&data::Error::Content(e)))?;
        if examples.is_empty() {
            return Err(Failure::data(&data::Error::Content(DataError::EmptySplit { split })));
        }
        let rows: Rows = data::rows(&self.def, &examples, &self.tokenizer)
            .map_err(|e| Failure::data(&data::Error::Tokenize(e)))?;
        let longest = rows.examples.iter().map(|e| e.labels.len()).max().unwrap_or(1);
        self.judge(&rows, split, longest)
    }

    fn evaluate_split(&self, files: &[DataFile], split: Split) -> Result<Vec<Reply>, Failure> {
        let data = data::load(&self.def, files, &self.tokenizer, self.settings.seed)
            .map_err(|e| Failure::data(&e))?;
        let Some(rows) = data.split(split).filter(|rows| !rows.examples.is_empty()) else {
            return Err(Failure::data(&data::Error::Content(DataError::EmptySplit { split })));
        };
        self.judge(rows, split, data.longest_target)
    }

    /// Judges as a trial of these settings does.
    fn judge(&self, rows: &Rows, split: Split, longest: usize) -> Result<Vec<Reply>, Failure> {
        let reference = self.settings.recipe == Recipe::Reference;
        let judge = Judge {
            def: &self.def,
            tokenizer: &self.tokenizer,
            split,
            rows,
            batch_size: self.settings.train.eval_batch_size as usize,
            answer_tokens: if reference { prepare::REFERENCE_ANSWER } else { longest },
            unended_counts: reference,
            decoding: self.decoding,
        };
        let judged = judge.evaluate(&self.pack, &[0], 0)?.into_iter();
        Ok(judged.map(|one| Reply::Evaluation { evaluation: one.evaluation }).collect())
    }
}

fn read(file: &DataFile) -> Result<(String, Vec<u8>), Error> {
    let path: &Path = &file.path;
    std::fs::read(path).map(|bytes| (file.name.clone(), bytes)).map_err(|source| Error::Read {
        name: file.name.clone(),
        path: path.to_owned(),
        source,
    })
}
