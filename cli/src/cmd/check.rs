//! `deptune check`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Diagnostic, Format};
use deptune_sweep::task::{
    DataError, Dataset, SourceFile, Split, TaskDef, TaskSpec, assemble, parse_rows,
};
use serde_json::json;

use crate::args::Globals;
use crate::hub::Freshness;
use crate::model_dir;
use crate::output::error::{Error, Exit};
use crate::output::table::pairs;
use crate::output::{self, number};
use crate::paths::shown;
use crate::spec_file::{DataFile, Draft, data_problem};

/// Checks a spec, its data and its model
///
/// Names every problem with its file, line, column and what to do about it: misspelt keys, values
/// out of range, ranks that cannot be, missing files and columns, rows without a label, weights
/// that are truncated or of another model, a tokenizer that does not fit. Exits with 2 if there is
/// any.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune check sweep.toml
  deptune check sweep.toml --config-only --model-config t5-base/config.json")]
pub(crate) struct Args {
    /// The spec, TOML or JSON
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// Leaves the model's weights and tokenizer alone, and data files that are not on this
    /// machine: the model's config.json is enough
    #[arg(long)]
    config_only: bool,
    /// The model's config.json, when the model is not on this machine
    #[arg(long, value_name = "FILE")]
    model_config: Option<PathBuf>,
}

/// Checks.
pub(super) fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let mut draft = Draft::read(&args.spec, args.model_config.as_deref(), Freshness::Cached)?;
    let elsewhere = args.config_only && draft.data_elsewhere();
    let data = if elsewhere { None } else { look_at_data(&mut draft) };
    draft.find_sources();
    let model = check_model(&mut draft, args.config_only);
    let spec = draft.finish()?;
    let how = data.as_ref().map(|data| data.how.clone()).unwrap_or_default();
    let rows = data
        .map(|data| Split::ALL.map(|split| (split.to_string(), data.split(split).len() as u64)));
    let rows = rows.unwrap_or_default();
    if globals.json {
        output::json_line(&json!({
            "spec": spec.shown,
            "name": spec.spec.name,
            "trials": spec.spec.total(),
            "configurations": spec.spec.configurations(),
            "rows": rows.iter().cloned().collect::<BTreeMap<_, _>>(),
            "splits": how,
            "model": model,
        }))?;
        return Ok(Exit::Done);
    }
    let rows: Vec<String> =
        rows.iter().map(|(split, rows)| format!("{split} {}", number::whole(*rows))).collect();
    output::data(&pairs(&[
        ("spec", format!("{}: no problem found", spec.shown)),
        (
            "trials",
            format!(
                "{} ({} × {})",
                number::whole(spec.spec.total()),
                number::count(spec.spec.configurations(), "configuration"),
                number::count(spec.spec.space.seeds.len() as u64, "seed"),
            ),
        ),
        (
            "rows",
            if elsewhere {
                "data files are not on this machine, not checked (--config-only)".to_owned()
            } else {
                format!("{} ({how})", rows.join(", "))
            },
        ),
        ("model", model),
    ]))?;
    Ok(Exit::Done)
}

/// Reads all data files of a draft whose task makes sense; problems go into the draft.
pub(super) fn look_at_data(draft: &mut Draft) -> Option<Dataset> {
    let (task, recipe) = draft.task()?;
    // What is wrong with the task itself, the spec's own checks have named.
    let def = task.resolve(recipe).ok()?;
    check_data(draft, &task, &def)
}

fn check_data(draft: &mut Draft, task: &TaskSpec, def: &TaskDef) -> Option<Dataset> {
    let files = draft.find_data(task)?;
    let mut rows = BTreeMap::new();
    let mut fine = true;
    for split in Split::ALL {
        let of_split: Vec<&DataFile> = files.iter().filter(|file| file.split == split).collect();
        if of_split.is_empty() {
            continue;
        }
        let mut contents = Vec::new();
        for file in &of_split {
            match read(file) {
                Ok(bytes) => contents.push((file.name.as_str(), bytes)),
                Err(message) => {
                    let hint = "paths are relative to the spec file".to_owned();
                    draft.note(&format!("task.{split}"), message, Some(hint));
                    fine = false;
                }
            }
        }
        if contents.len() < of_split.len() {
            continue;
        }
        let sources: Vec<SourceFile<'_>> =
            contents.iter().map(|(name, bytes)| SourceFile { name, bytes }).collect();
        match parse_rows(def, split, &sources) {
            Ok(found) => {
                rows.insert(split, found);
            }
            Err(error) => {
                add_once(draft, task, &error);
                fine = false;
            }
        }
    }
    if !fine {
        return None;
    }
    // Where the training part depends on the seed, every seed's has as many rows.
    let seed = draft.spec.as_ref().and_then(|spec| spec.space.seeds.first().copied());
    match assemble(def, rows).and_then(|data| data.sample(def, seed.unwrap_or_default())) {
        Ok(data) => Some(data),
        Err(error) => {
            add_once(draft, task, &error);
            None
        }
    }
}

/// A column that is missing in three files is one problem.
fn add_once(draft: &mut Draft, task: &TaskSpec, error: &DataError) {
    let format: Format = draft.format;
    let problem: Diagnostic = data_problem(&draft.text, format, task, error);
    let is_column = matches!(error, DataError::Column { .. } | DataError::Unlabelled { .. });
    if is_column && draft.problems.iter().any(|known| known.path == problem.path) {
        return;
    }
    draft.problems.push(problem);
}

fn read(file: &DataFile) -> Result<Vec<u8>, String> {
    let failed =
        |error: std::io::Error| format!("cannot read the data file {}: {error}", shown(&file.path));
    let size = std::fs::metadata(&file.path).map_err(failed)?.len();
    if size > DataError::MAX_FILE {
        return Err(format!(
            "the data file {} has {size} bytes, at most {} are read",
            shown(&file.path),
            DataError::MAX_FILE
        ));
    }
    std::fs::read(&file.path).map_err(failed)
}

/// Checks the model's files; what was checked, in words.
fn check_model(draft: &mut Draft, config_only: bool) -> String {
    let Some((_, config)) = draft.model.clone() else { return String::new() };
    let what = describe(&config);
    if config_only {
        return format!("{what}; weights and tokenizer not checked (--config-only)");
    }
    let cached = draft.model_hub.as_ref().map(|model| draft.hub.cached_model(model));
    let dir = match (draft.model_dir.clone(), cached) {
        (Some(dir), _) | (None, Some(Ok(Some(dir)))) => Some(dir),
        (None, Some(Ok(None))) => {
            return format!("{what}; weights and tokenizer not checked (not in the hub cache)");
        }
        (None, Some(Err(trouble))) => {
            draft.note("model.path", trouble.message, trouble.hint);
            return what;
        }
        (None, None) => None,
    };
    let Some(dir) = dir else {
        let message = "the model's weights and tokenizer are not on this machine".to_owned();
        let hint = "add --config-only to check everything else".to_owned();
        draft.note("model.path", message, Some(hint));
        return what;
    };
    for message in model_dir::problems(&dir, &config) {
        let (message, hint) = match message.split_once("; ") {
            Some((message, hint)) => (message.to_owned(), Some(hint.to_owned())),
            None => (message, None),
        };
        draft.note("model.path", message, hint);
    }
    format!("{what}; weights and tokenizer fit it")
}

fn describe(config: &ModelConfig) -> String {
    let layers = match config {
        ModelConfig::T5(config) => {
            format!("{} + {}", config.num_layers, config.num_decoder_layers)
        }
        ModelConfig::Gpt2(_) | ModelConfig::Llama(_) => config.layers().to_string(),
    };
    format!(
        "{} with d = {}, {layers} layers, {} tokens",
        config.architecture(),
        config.hidden_size(),
        number::whole(u64::from(config.vocab_size()))
    )
}
