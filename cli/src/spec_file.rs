//! A spec on this machine: its text, the model and the data files that it names.

use std::path::{Path, PathBuf};

use deptune_sweep::model::{CONFIG_FILE, ModelConfig};
use deptune_sweep::spec::{
    self, Diagnostic, Diagnostics, Format, MAX_SPEC_BYTES, Spec, model_path, task_section,
};
use deptune_sweep::task::{Split, TaskSpec};

use crate::output::error::Error;
use crate::paths;

/// Everything that a spec file says, checked as far as its text and the model's configuration go.
pub(crate) struct SpecFile {
    /// As the person named it.
    pub(crate) shown: String,
    /// Where the paths in it begin.
    pub(crate) dir: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// How it is written.
    pub(crate) format: Format,
    /// The model's directory, when it is on this machine.
    pub(crate) model_dir: Option<PathBuf>,
    /// The text of the model's `config.json`.
    pub(crate) model_config: String,
    /// The model's shapes.
    pub(crate) model: ModelConfig,
    /// The spec.
    pub(crate) spec: Spec,
}

/// A data file that a spec names.
#[derive(Debug, Clone)]
pub(crate) struct DataFile {
    /// The split it is given for.
    pub(crate) split: Split,
    /// The name in the spec.
    pub(crate) name: String,
    /// Where it is on this machine.
    pub(crate) path: PathBuf,
}

/// What was read so far, with all problems that showed.
pub(crate) struct Draft {
    /// As the person named it.
    pub(crate) shown: String,
    /// Where the paths in it begin.
    pub(crate) dir: PathBuf,
    /// Its text.
    pub(crate) text: String,
    /// How it is written.
    pub(crate) format: Format,
    /// The model's directory, when it is on this machine.
    pub(crate) model_dir: Option<PathBuf>,
    /// The model's configuration, text and meaning.
    pub(crate) model: Option<(String, ModelConfig)>,
    /// The spec, if nothing is wrong with its text.
    pub(crate) spec: Option<Spec>,
    /// Problems.
    pub(crate) problems: Vec<Diagnostic>,
}

impl Draft {
    /// Reads a spec file and the model's `config.json`: `model_config` if given, else the one in
    /// the model's directory.
    ///
    /// # Errors
    /// When the file cannot be read; everything else is a problem in [`Draft::problems`].
    pub(crate) fn read(file: &Path, model_config: Option<&Path>) -> Result<Draft, Error> {
        let text = read_text(file)?;
        let format = match file.extension().and_then(|ending| ending.to_str()) {
            Some("json") => Format::Json,
            _ => Format::Toml,
        };
        let absolute = std::path::absolute(file)
            .map_err(|source| Error::Read { path: file.to_owned(), source })?;
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let mut problems = Vec::new();
        let found = model_path(&text, format);
        let model_dir = found.as_ref().map(|path| dir.join(path)).filter(|path| path.is_dir());
        let model = match find_config(found.as_deref(), model_dir.as_deref(), &dir, model_config) {
            Ok(model) => model,
            Err(Problem { message, hint }) => {
                problems.push(Diagnostic::at(&text, format, "model.path", message, Some(hint)));
                None
            }
        };
        let spec = match Spec::parse(&text, format, model.as_ref().map(|(_, config)| config)) {
            Ok(spec) => Some(spec),
            Err(Diagnostics(found)) => {
                problems.extend(found);
                None
            }
        };
        let shown = file.display().to_string();
        Ok(Draft { shown, dir, text, format, model_dir, model, spec, problems })
    }

    /// The task, even when other parts of the spec are wrong.
    pub(crate) fn task(&self) -> Option<(TaskSpec, deptune_sweep::task::Recipe)> {
        match &self.spec {
            Some(spec) => Some((spec.task.clone(), spec.recipe)),
            None => task_section(&self.text, self.format),
        }
    }

    /// Notes a problem with the key at `path`.
    pub(crate) fn note(&mut self, path: &str, message: String, hint: Option<String>) {
        self.problems.push(Diagnostic::at(&self.text, self.format, path, message, hint));
    }

    /// The spec if there is no problem.
    ///
    /// # Errors
    /// All problems, in the order of the text.
    pub(crate) fn finish(mut self) -> Result<SpecFile, Error> {
        match (self.spec, self.model) {
            (Some(spec), Some((model_config, model))) if self.problems.is_empty() => Ok(SpecFile {
                shown: self.shown,
                dir: self.dir,
                text: self.text,
                format: self.format,
                model_dir: self.model_dir,
                model_config,
                model,
                spec,
            }),
            _ => {
                self.problems.sort_by_key(|one| one.position);
                Err(Error::Spec { file: self.shown, found: Diagnostics(self.problems) })
            }
        }
    }
}

impl SpecFile {
    /// The data files, in the order of the splits.
    pub(crate) fn data(&self) -> Vec<DataFile> {
        data_files(&self.spec.task, &self.dir)
    }

    /// An error at one key, for problems that show later.
    pub(crate) fn problem(&self, path: &str, message: String, hint: Option<String>) -> Error {
        let one = Diagnostic::at(&self.text, self.format, path, message, hint);
        Error::Spec { file: self.shown.clone(), found: Diagnostics(vec![one]) }
    }
}

/// The data files that a task names; their paths are relative to `dir`.
pub(crate) fn data_files(task: &TaskSpec, dir: &Path) -> Vec<DataFile> {
    let lists = [
        (Split::Train, &task.train),
        (Split::Validation, &task.validation),
        (Split::Test, &task.test),
    ];
    lists
        .into_iter()
        .flat_map(|(split, names)| names.iter().map(move |name| (split, name)))
        .map(|(split, name)| DataFile { split, name: name.clone(), path: dir.join(name) })
        .collect()
}

struct Problem {
    message: String,
    hint: String,
}

/// The model's `config.json`; `None` when the spec does not say which model.
fn find_config(
    found: Option<&str>,
    model_dir: Option<&Path>,
    dir: &Path,
    given: Option<&Path>,
) -> Result<Option<(String, ModelConfig)>, Problem> {
    let file = match (given, model_dir, found) {
        (Some(file), ..) => file.to_owned(),
        (None, Some(model_dir), _) => model_dir.join(CONFIG_FILE),
        (None, None, Some(path)) => {
            return Err(Problem {
                message: format!("model '{path}' is no directory here"),
                hint: format!(
                    "looked at {}; write a path relative to the spec file, or, if only the \
                     workers have the model, give its config.json with --model-config FILE",
                    paths::shown(&dir.join(path))
                ),
            });
        }
        // The spec's own checks name the missing key.
        (None, None, None) => return Ok(None),
    };
    let shown = paths::shown(&file);
    let text = std::fs::read_to_string(&file).map_err(|error| Problem {
        message: format!("cannot read the model's {shown}: {error}"),
        hint: "a model is a directory with config.json, model.safetensors and tokenizer.json"
            .to_owned(),
    })?;
    let config = ModelConfig::parse(&shown, &text).map_err(|error| Problem {
        message: chain(&error),
        hint: "use a T5 model in the Hugging Face layout".to_owned(),
    })?;
    Ok(Some((text, config)))
}

/// An error and its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn read_text(file: &Path) -> Result<String, Error> {
    let read = |source| Error::Read { path: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(read)?.len();
    if size > MAX_SPEC_BYTES as u64 {
        return Err(Error::Usage {
            what: format!(
                "{} has {size} bytes; a spec has at most {MAX_SPEC_BYTES}",
                file.display()
            ),
            hint: "is it the spec? data go in files of their own".to_owned(),
        });
    }
    std::fs::read_to_string(file).map_err(read)
}

/// A problem of the data at the key that names the file or column, bad rows one a line.
pub(crate) fn data_problem(
    text: &str,
    format: Format,
    task: &TaskSpec,
    error: &deptune_sweep::task::DataError,
) -> Diagnostic {
    let mut problem = spec::data_problem(text, format, task, error);
    if let deptune_sweep::task::DataError::BadRows { rows, total } = error {
        let noun = if *total == 1 { "row" } else { "rows" };
        problem.message = format!("{total} bad {noun}");
        for row in rows {
            problem.message.push_str(&format!("\n{row}"));
        }
        if *total > rows.len() as u64 {
            problem.message.push_str(&format!("\nand {} more", total - rows.len() as u64));
        }
    }
    problem
}
