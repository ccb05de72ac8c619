//! A spec on this machine: its text, the model and the data files that it names.

use std::path::{Path, PathBuf};

use deptune_sweep::hub::{DatasetFile, DatasetName, HubModel, ModelName};
use deptune_sweep::model::{CONFIG_FILE, ModelConfig};
use deptune_sweep::spec::{
    self, Diagnostic, Diagnostics, Format, MAX_SPEC_BYTES, Spec, model_path, model_revision,
    name_problem, task_section,
};
use deptune_sweep::task::{Split, TaskSpec};

use crate::adapter_dir::WEIGHTS;
use crate::hub::{self, Freshness};
use crate::output::error::Error;
use crate::paths;

/// Most bytes of a source adapter: a prompt of 8,192 rows and its pair at the widest models.
const MAX_SOURCE: u64 = 1 << 30;

/// Everything that a spec file says, checked as far as its text and the model's configuration go.
pub(crate) struct SpecFile {
    /// As the person named it.
    pub(crate) shown: String,
    /// Its text.
    pub(crate) text: String,
    /// How it is written.
    pub(crate) format: Format,
    /// The model's directory, when it is on this machine.
    pub(crate) model_dir: Option<PathBuf>,
    /// The model on the hub, when the spec names one.
    pub(crate) model_hub: Option<HubModel>,
    /// The text of the model's `config.json`.
    pub(crate) model_config: String,
    /// The model's shapes.
    pub(crate) model: ModelConfig,
    /// The spec.
    pub(crate) spec: Spec,
    /// The data files, in the order of the splits; empty where nobody looked for them.
    pub(crate) data: Vec<DataFile>,
    /// The source adapters; empty where nobody looked for them.
    pub(crate) sources: Vec<SourceAdapter>,
    /// The hub.
    pub(crate) hub: hub::Lazy,
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

/// A source adapter that a spec names.
#[derive(Debug, Clone)]
pub(crate) struct SourceAdapter {
    /// The name in the spec.
    pub(crate) name: String,
    /// Where its numbers are on this machine.
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
    /// The model on the hub, when the spec names one.
    pub(crate) model_hub: Option<HubModel>,
    /// The model's configuration, text and meaning.
    pub(crate) model: Option<(String, ModelConfig)>,
    /// The spec, if nothing is wrong with its text.
    pub(crate) spec: Option<Spec>,
    /// Problems.
    pub(crate) problems: Vec<Diagnostic>,
    /// The data files, once somebody looked for them.
    data: Vec<DataFile>,
    /// The source adapters, once somebody looked for them.
    sources: Vec<SourceAdapter>,
    /// The hub.
    pub(crate) hub: hub::Lazy,
}

impl Draft {
    /// Reads a spec file and the model's `config.json`: `model_config` if given, else the one in
    /// the model's directory, else the hub's.
    ///
    /// # Errors
    /// When the file cannot be read; everything else is a problem in [`Draft::problems`].
    pub(crate) fn read(
        file: &Path,
        model_config: Option<&Path>,
        freshness: Freshness,
    ) -> Result<Draft, Error> {
        let (text, format) = read_text(file)?;
        let absolute = std::path::absolute(file)
            .map_err(|source| Error::Read { path: file.to_owned(), source })?;
        let dir = absolute.parent().unwrap_or(Path::new("/")).to_owned();
        let mut problems = Vec::new();
        let found = model_path(&text, format);
        let revision = model_revision(&text, format);
        // Only a model of the hub has a revision.
        let model_dir = found.as_ref().filter(|_| revision.is_none()).map(|path| dir.join(path));
        let model_dir = model_dir.filter(|path| path.is_dir());
        let hub = hub::Lazy::default();
        let wanted = Wanted {
            path: found.as_deref(),
            revision: revision.as_deref(),
            dir: &dir,
            model_dir: model_dir.as_deref(),
            given: model_config,
        };
        let (model, model_hub) = match wanted.find(&hub, freshness) {
            Ok(found) => found,
            Err(Problem { message, hint }) => {
                problems.push(Diagnostic::at(&text, format, "model.path", message, hint));
                (None, None)
            }
        };
        let spec = match Spec::parse(&text, format, model.as_ref().map(|(_, config)| config)) {
            Ok(spec) => {
                problems.extend(name_problem(&text, format, &spec.name));
                Some(spec)
            }
            Err(Diagnostics(found)) => {
                problems.extend(found);
                None
            }
        };
        let shown = file.display().to_string();
        let (data, sources) = (Vec::new(), Vec::new());
        Ok(Draft {
            shown,
            dir,
            text,
            format,
            model_dir,
            model_hub,
            model,
            spec,
            problems,
            data,
            sources,
            hub,
        })
    }

    /// Looks for the source adapters that the spec names: a safetensors file each, or a directory
    /// that `deptune adapter get` wrote. What is wrong with one is noted.
    pub(crate) fn find_sources(&mut self) {
        let Some(spec) = &self.spec else { return };
        let names: Vec<String> = spec.space.source.iter().flatten().cloned().collect();
        for name in names {
            let mut path = self.dir.join(&name);
            if path.is_dir() {
                path.push(WEIGHTS);
            }
            match source_problem(&path) {
                None => self.sources.push(SourceAdapter { name, path }),
                Some(message) => {
                    let hint = "a source is a safetensors file with a trained prompt, or a \
                                directory that 'deptune adapter get' wrote; paths are relative to \
                                the spec file";
                    self.note("space.source", message, Some(hint.to_owned()));
                }
            }
        }
    }

    /// The data files of a task, in the order of the splits; those of the hub are fetched if they
    /// are not in its cache. `None` when one cannot be had; why is noted.
    pub(crate) fn find_data(&mut self, task: &TaskSpec) -> Option<Vec<DataFile>> {
        let mut files = Vec::new();
        let mut found = Ok(());
        if let Some(name) = task.dataset.as_deref().and_then(DatasetName::parse) {
            match self.hub.dataset(&name, task.dataset_config.as_deref()) {
                Ok(parts) => {
                    files.extend(parts.into_iter().map(|(split, file, path)| DataFile {
                        split,
                        name: file.to_string(),
                        path,
                    }));
                }
                Err(trouble) => found = Err(("task.dataset".to_owned(), trouble)),
            }
        }
        for mut file in data_files(task, &self.dir) {
            match DatasetFile::parse(&file.name).map(|on_hub| self.hub.data_file(&on_hub)) {
                None => {}
                Some(Ok(path)) => file.path = path,
                Some(Err(trouble)) => found = Err((format!("task.{}", file.split), trouble)),
            }
            files.push(file);
        }
        match found {
            Ok(()) => {
                self.data.clone_from(&files);
                Some(files)
            }
            Err((path, trouble)) => {
                self.note(&path, trouble.message, trouble.hint);
                None
            }
        }
    }

    /// Whether some of the data are not on this machine, or on the hub, which nobody asks here.
    pub(crate) fn data_elsewhere(&self) -> bool {
        let Some((task, _)) = self.task() else { return false };
        let here = |file: &DataFile| !DatasetFile::is_one(&file.name) && file.path.exists();
        task.dataset.is_some() || !data_files(&task, &self.dir).iter().all(here)
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
                text: self.text,
                format: self.format,
                model_dir: self.model_dir,
                model_hub: self.model_hub,
                model_config,
                model,
                spec,
                data: self.data,
                sources: self.sources,
                hub: self.hub,
            }),
            _ => {
                self.problems.sort_by_key(|one| one.position);
                Err(Error::Spec { file: self.shown, found: Diagnostics(self.problems) })
            }
        }
    }
}

impl SpecFile {
    /// An error at one key, for problems that show later.
    pub(crate) fn problem(&self, path: &str, message: String, hint: Option<String>) -> Error {
        let one = Diagnostic::at(&self.text, self.format, path, message, hint);
        Error::Spec { file: self.shown.clone(), found: Diagnostics(vec![one]) }
    }
}

/// What is wrong with a source adapter's file, if anything.
fn source_problem(path: &Path) -> Option<String> {
    let shown = paths::shown(path);
    let failed = |error: std::io::Error| format!("cannot read the source adapter {shown}: {error}");
    let size = match std::fs::metadata(path) {
        Ok(found) if found.is_file() => found.len(),
        Ok(_) => return Some(format!("the source adapter {shown} is no file")),
        Err(error) => return Some(failed(error)),
    };
    if size > MAX_SOURCE {
        let message = format!("the source adapter {shown} has {size} bytes");
        return Some(format!("{message}, at most {MAX_SOURCE} are read"));
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Some(failed(error)),
    };
    if tensor_names(&bytes).is_some_and(|names| names.iter().any(|name| name.contains("prompt"))) {
        return None;
    }
    Some(format!("{shown} is no adapter with a prompt"))
}

/// The names in a safetensors file: its header is JSON, behind its length in eight bytes.
fn tensor_names(bytes: &[u8]) -> Option<Vec<String>> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let header = rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    Some(header.into_iter().map(|(name, _)| name).collect())
}

/// The data files that a task names; their paths are relative to `dir`.
fn data_files(task: &TaskSpec, dir: &Path) -> Vec<DataFile> {
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
    hint: Option<String>,
}

/// Which `config.json` a spec needs.
struct Wanted<'a> {
    /// `model.path`.
    path: Option<&'a str>,
    /// `model.revision`.
    revision: Option<&'a str>,
    /// The spec's directory.
    dir: &'a Path,
    /// The model's directory, if it is here.
    model_dir: Option<&'a Path>,
    /// The file that was given in its place.
    given: Option<&'a Path>,
}

type Found = (Option<(String, ModelConfig)>, Option<HubModel>);

impl Wanted<'_> {
    /// The model's configuration, and the model on the hub; neither when the spec does not say
    /// which model.
    fn find(&self, hub: &hub::Lazy, freshness: Freshness) -> Result<Found, Problem> {
        let name = self.path.and_then(|path| ModelName::parse(path, self.revision));
        let file = match (self.given, self.model_dir, self.path) {
            (Some(file), ..) => {
                // Without asking the hub, only a commit says which files are meant.
                let pinned = name.filter(|name| name.is_pinned() && self.model_dir.is_none());
                let model = pinned.map(|name| HubModel { repo: name.repo, commit: name.revision });
                return Ok((Some(read_config(file)?), model));
            }
            (None, Some(model_dir), _) => model_dir.join(CONFIG_FILE),
            (None, None, Some(path)) => {
                let Some(name) = name else { return Err(self.no_directory(path, None)) };
                let (model, text) = hub
                    .model_config(&name, freshness)
                    .map_err(|trouble| self.no_directory(path, Some(trouble)))?;
                let shown = format!("{CONFIG_FILE} of {name}");
                return Ok((Some(parse_config(&shown, text)?), Some(model)));
            }
            // The spec's own checks name the missing key.
            (None, None, None) => return Ok((None, None)),
        };
        Ok((Some(read_config(&file)?), None))
    }

    fn no_directory(&self, path: &str, trouble: Option<hub::Trouble>) -> Problem {
        let looked = format!("looked at {}", paths::shown(&self.dir.join(path)));
        let elsewhere = "if only the workers have the model, give its config.json with \
                         --model-config FILE";
        match trouble {
            None => Problem {
                message: format!("model '{path}' is no directory here"),
                hint: Some(format!(
                    "{looked}; write a path relative to the spec file, or a model of the hub as \
                     ORG/NAME, or, {elsewhere}"
                )),
            },
            Some(trouble) if trouble.may_be_elsewhere => Problem {
                message: format!("model '{path}' is no directory here, and {}", trouble.message),
                hint: Some(match trouble.hint {
                    Some(hint) => format!("{looked}; {hint}; or, {elsewhere}"),
                    None => format!("{looked}; {elsewhere}"),
                }),
            },
            Some(trouble) => Problem { message: trouble.message, hint: trouble.hint },
        }
    }
}

fn read_config(file: &Path) -> Result<(String, ModelConfig), Problem> {
    let shown = paths::shown(file);
    let text = std::fs::read_to_string(file).map_err(|error| Problem {
        message: format!("cannot read the model's {shown}: {error}"),
        hint: Some(
            "a model is a directory with config.json, model.safetensors and tokenizer.json"
                .to_owned(),
        ),
    })?;
    parse_config(&shown, text)
}

fn parse_config(shown: &str, text: String) -> Result<(String, ModelConfig), Problem> {
    let config = ModelConfig::parse(shown, &text).map_err(|error| Problem {
        message: chain(&error),
        hint: Some("use a T5, GPT-2 or Llama model in the Hugging Face layout".to_owned()),
    })?;
    Ok((text, config))
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

/// A spec's text, or a space's, and how it is written.
pub(crate) fn read_text(file: &Path) -> Result<(String, Format), Error> {
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
    let format = match file.extension().and_then(|ending| ending.to_str()) {
        Some("json") => Format::Json,
        _ => Format::Toml,
    };
    Ok((std::fs::read_to_string(file).map_err(read)?, format))
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
