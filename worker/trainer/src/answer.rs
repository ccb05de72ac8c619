//! An exported adapter applied to rows that a person gives.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::answer::{Question, Reply, Request};
use deptune_sweep::child::{DataFile, PROTOCOL};
use deptune_sweep::task::{self, SourceFile, Split, TaskDef};
use tch::Kind;

use crate::batch::{Batch, Example};
use crate::data::{self, Rows};
use crate::evaluate::Judge;
use crate::method::Adapter;
use crate::model::Model;
use crate::pack::Pack;
use crate::run::failure::Failure;
use crate::run::prepare;
use crate::tensors::TensorsError;
use crate::tokenize::{INIT_TEXT, Tokenizer};

/// Rows per batch.
const BATCH: usize = 32;

/// Largest adapter file that is read, in bytes.
const MAX_ADAPTER: u64 = 64 << 20;

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the adapter {path} has {bytes} bytes; an adapter has at most {MAX_ADAPTER}")]
    LargeAdapter { path: PathBuf, bytes: u64 },
    #[error("{path} is no adapter file of deptune")]
    Adapter {
        path: PathBuf,
        #[source]
        source: TensorsError,
    },
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
}

impl Answerer {
    fn new(request: &Request) -> Result<Answerer, Failure> {
        if request.protocol != PROTOCOL {
            return Err(Failure::infra(&prepare::Error::Protocol { found: request.protocol }));
        }
        tch::set_num_threads(i32::try_from(request.threads).unwrap_or(1).max(1));
        let device = prepare::device(&request.device)?;
        let settings = &request.settings;
        let model =
            Model::load(&request.model, Kind::Float, device).map_err(|e| Failure::data(&e))?;
        let max_length = settings.train.max_length as usize;
        let path = request.model.join("tokenizer.json");
        let tokenizer = Tokenizer::open(&path, model.vocab_size(), max_length)
            .map_err(|e| Failure::data(&e))?;
        let def = settings.task.resolve(settings.recipe).map_err(|e| Failure::user(&e))?;
        let init = tokenizer.target(INIT_TEXT).map_err(|e| Failure::data(&e))?;
        let common = prepare::common(settings, 0.0);
        let member = prepare::pack_member(settings);
        let mut pack = Pack::new(Rc::new(model), vec![member], common, &init)?;
        let adapter = read_adapter(&request.adapter).map_err(|e| Failure::data(&e))?;
        pack.set_parameters(0, &adapter)?;
        Ok(Answerer { pack, def, tokenizer })
    }

    fn replies(&self, question: &Question) -> Result<Vec<Reply>, Failure> {
        match question {
            Question::Predict { rows } => self.predict(rows),
            Question::Evaluate { files } => self.evaluate(files),
        }
    }

    /// Most tokens of an answer: the longest label's, or the reference's bound where any text may
    /// be an answer.
    fn answer_tokens(&self) -> Result<usize, Failure> {
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
            let generated = self.pack.generate(&batch, answer_tokens)?;
            let answers = generated.first().map(Vec::as_slice).unwrap_or_default();
            for (source, ids) in chunk.iter().zip(answers) {
                let answer = self.tokenizer.text(ids).map_err(|e| Failure::data(&e))?;
                let classes = self.def.classes();
                let known_label = classes.is_empty() || classes.contains(&answer);
                let (row, source) = (replies.len() as u64, source.clone());
                replies.push(Reply::Prediction { row, source, answer, known_label });
            }
        }
        Ok(replies)
    }

    fn evaluate(&self, files: &[DataFile]) -> Result<Vec<Reply>, Failure> {
        let contents: Vec<(String, Vec<u8>)> =
            files.iter().map(read).collect::<Result<_, _>>().map_err(|e| Failure::data(&e))?;
        let sources: Vec<SourceFile<'_>> =
            contents.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
        let split = Split::Test;
        let examples = task::parse_rows(&self.def, split, &sources)
            .map_err(|e| Failure::data(&data::Error::Content(e)))?;
        let rows: Rows = data::rows(&examples, &self.tokenizer)
            .map_err(|e| Failure::data(&data::Error::Tokenize(e)))?;
        let longest = rows.examples.iter().map(|e| e.labels.len()).max().unwrap_or(1);
        let judge = Judge {
            def: &self.def,
            tokenizer: &self.tokenizer,
            split,
            rows: &rows,
            batch_size: BATCH,
            answer_tokens: longest,
            unended_counts: false,
        };
        let evaluations = judge.evaluate(&self.pack, 0)?;
        Ok(evaluations.into_iter().map(|evaluation| Reply::Evaluation { evaluation }).collect())
    }
}

fn read_adapter(path: &Path) -> Result<Adapter, Error> {
    let read =
        |source| Error::Read { name: "of the adapter".to_owned(), path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(read)?.len();
    if bytes > MAX_ADAPTER {
        return Err(Error::LargeAdapter { path: path.to_owned(), bytes });
    }
    let content = std::fs::read(path).map_err(read)?;
    Adapter::from_bytes(&content).map_err(|source| Error::Adapter { path: path.to_owned(), source })
}

fn read(file: &DataFile) -> Result<(String, Vec<u8>), Error> {
    let path: &Path = &file.path;
    std::fs::read(path).map(|bytes| (file.name.clone(), bytes)).map_err(|source| Error::Read {
        name: file.name.clone(),
        path: path.to_owned(),
        source,
    })
}
