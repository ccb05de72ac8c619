//! `deptune adapter`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use deptune_proto::v1;
use deptune_sweep::id::TrialId;
use deptune_sweep::metric::Number;
use deptune_sweep::model::ModelConfig;
use deptune_sweep::points::Points;
use deptune_sweep::record::SpaceText;
use deptune_sweep::spec::{Diagnostics, Format, Settings, Spec};
use serde_json::json;

use super::{connect, get_sweep, get_trial};
use crate::adapter_dir::{FORMAT, MANIFEST, MANIFEST_BESIDE, Manifest, WEIGHTS};
use crate::args::Globals;
use crate::client::Client;
use crate::download;
use crate::output::error::{Error, Exit};
use crate::output::{self, json::trial_name, number, say};
use crate::peft;
use crate::spec_file::chain;

/// Fetches trained adapters
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Get(Get),
}

/// Fetches the adapter of a trial, or of the best trial of a sweep
///
/// Writes adapter_model.safetensors and adapter_config.json, which 'deptune predict' and 'deptune
/// eval' take. The best trial is the one with the best selection metric on the validation split.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune adapter get quickstart --best -o adapter
  deptune adapter get 3.17 -o adapter
  deptune adapter get 3.17 -o adapter --format peft")]
pub(crate) struct Get {
    /// A sweep, by id or name (with --best), or a trial, as SWEEP.INDEX
    #[arg(value_name = "SWEEP|TRIAL")]
    what: String,
    /// The sweep's best trial
    #[arg(long)]
    best: bool,
    /// Directory to write to; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// How adapter_config.json is written
    #[arg(long, value_name = "FORMAT", default_value = "deptune")]
    format: Layout,
}

/// Layouts of an adapter's directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// Settings and results of the trial
    Deptune,
    /// As PEFT reads it; prompt tuning and LoRA
    Peft,
}

/// Fetches.
pub(super) async fn run(globals: &Globals, command: Command) -> Result<Exit, Error> {
    let Command::Get(args) = command;
    let client = connect(globals).await?;
    let id = match (args.best, args.what.parse::<TrialId>()) {
        (false, Ok(id)) => id,
        (false, Err(_)) => {
            return Err(Error::Usage {
                what: format!("'{}' is no trial", args.what),
                hint: format!(
                    "name one as SWEEP.INDEX, or take the best: deptune adapter get {} --best -o \
                     {}",
                    args.what,
                    args.output.display()
                ),
            });
        }
        (true, _) => best_trial(&client, &args.what).await?,
    };
    let sweep = get_sweep(&client, &id.sweep.to_string()).await?;
    let trial = get_trial(&client, id).await?;
    let manifest = manifest(&sweep, &trial, id)?;
    let peft = match args.format {
        Layout::Deptune => None,
        Layout::Peft => Some(peft_config(&sweep, &manifest)?),
    };
    write(&client, &manifest, peft.as_ref(), &args.output).await?;
    if globals.json {
        let path = args.output.display().to_string();
        output::json_line(&json!({"trial_id": id.to_string(), "directory": path}))?;
    } else {
        say(&format!(
            "wrote the adapter of trial {id} ({} {}) to {}",
            manifest.metric_name,
            number::metric(manifest.metric.get()),
            args.output.display()
        ));
    }
    Ok(Exit::Done)
}

async fn best_trial(client: &Client, sweep: &str) -> Result<TrialId, Error> {
    let sweep = get_sweep(client, sweep).await?;
    let best = sweep.best_trial.ok_or_else(|| Error::Nothing {
        what: format!("no trial of sweep {} ({}) has succeeded yet", sweep.id, sweep.name),
        hint: format!("'deptune watch {}' follows the sweep", sweep.id),
    })?;
    trial_name(best)
        .parse()
        .map_err(|_| Error::Answer { doing: "find the sweep", what: "best trial" })
}

fn manifest(sweep: &v1::Sweep, trial: &v1::Trial, id: TrialId) -> Result<Manifest, Error> {
    let result = trial.result.as_ref().filter(|_| !trial.adapter_hash.is_empty());
    let result = result.ok_or_else(|| Error::Nothing {
        what: format!("trial {id} has no adapter: it has not succeeded"),
        hint: format!("'deptune show {id}' shows how it stands"),
    })?;
    let (model, settings) = settings(sweep, trial)?;
    let test = result.test.as_ref().and_then(|test| test.metrics.first());
    Ok(Manifest {
        format: FORMAT,
        deptune: env!("CARGO_PKG_VERSION").to_owned(),
        base_model_name_or_path: model,
        sweep_name: sweep.name.clone(),
        trial: id.to_string(),
        spec_hash: sweep.spec_hash.clone(),
        adapter_hash: trial.adapter_hash.clone(),
        metric_name: result.metric_name.clone(),
        metric: Number::from(result.metric),
        constant_answer: Number::from(result.constant_metric),
        test_metric: test.map(|one| Number::from(one.value)),
        best_step: result.best_step,
        settings,
    })
}

/// The model's path and the trial's settings, computed from the spec as the coordinator does.
fn settings(sweep: &v1::Sweep, trial: &v1::Trial) -> Result<(String, Settings), Error> {
    let missing = |what| Error::Answer { doing: "find the sweep", what };
    let model = ModelConfig::parse("config.json", &sweep.model_config).map_err(|error| {
        tracing::debug!(error = chain(&error));
        missing("usable model configuration")
    })?;
    let format = sweep.format.parse().unwrap_or(Format::Toml);
    let not_understood = |error: Diagnostics| {
        tracing::debug!(%error);
        missing("spec that this version understands")
    };
    let text = (sweep.spec.as_str(), format);
    let spec = Spec::parse(text.0, text.1, Some(&model)).map_err(not_understood)?;
    let mut points = Points::new(spec);
    for added in &sweep.added_spaces {
        let space = SpaceText::try_from(added.clone())
            .map_err(|_| missing("space that this version understands"))?;
        let space = (space.text.as_str(), space.format);
        points.add(Spec::with_space(text, space, Some(&model)).map_err(not_understood)?);
    }
    // A trial that was added has the settings of its configuration, and its own seed.
    let first = points.first_of(trial.configuration);
    let settings = first.and_then(|first| points.settings(first));
    let mut settings = settings.ok_or(missing("such trial"))?;
    settings.seed = trial.seed;
    Ok((points.spec().model.path.clone(), settings))
}

/// PEFT's description of the adapter.
fn peft_config(sweep: &v1::Sweep, manifest: &Manifest) -> Result<serde_json::Value, Error> {
    let base = &manifest.base_model_name_or_path;
    let model = ModelConfig::parse("config.json", &sweep.model_config).ok();
    let config = model.and_then(|model| peft::config(&manifest.settings, &model, base));
    config.ok_or_else(|| Error::Usage {
        what: format!("PEFT has no layout for method '{}'", manifest.settings.method),
        hint: "leave --format out".to_owned(),
    })
}

/// Fetches the numbers, checks their hash, and writes both files; each appears complete or not at
/// all, the manifest last.
async fn write(
    client: &Client,
    manifest: &Manifest,
    peft: Option<&serde_json::Value>,
    dir: &Path,
) -> Result<(), Error> {
    let bytes = download::fetch(client, &manifest.adapter_hash, "fetch the adapter").await?;
    std::fs::create_dir_all(dir).map_err(|source| Error::Write { path: dir.to_owned(), source })?;
    put(&dir.join(WEIGHTS), &bytes)?;
    match peft {
        None => put_json(&dir.join(MANIFEST), manifest),
        Some(config) => {
            put_json(&dir.join(MANIFEST_BESIDE), manifest)?;
            put_json(&dir.join(MANIFEST), config)
        }
    }
}

fn put_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|source| Error::Task { task: "writing the manifest", source: source.into() })?;
    text.push('\n');
    put(path, text.as_bytes())
}

fn put(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::Write { path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    std::fs::write(&partial, content).map_err(failed)?;
    std::fs::rename(&partial, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_that_cannot_be_is_an_error_and_no_panic() {
        let sweep = v1::Sweep {
            spec: "name = 'x'\n[model]\npath = 'm'\n[task]\nname = 'rte'\ntrain = 't'\n\
                   [method]\nkind = 'pt'\n[space]\nprompt_lr = [0.3, 0.4]\n\
                   prompt_length = 20\nseeds = [1, 2]\n[train]\nsteps = 10\n"
                .to_owned(),
            format: "toml".to_owned(),
            model_config: r#"{"model_type":"t5","d_model":192,"d_kv":64,"d_ff":768,
                "num_layers":3,"num_heads":3,"vocab_size":8064}"#
                .to_owned(),
            ..Default::default()
        };
        let of = |configuration| {
            let trial = v1::Trial { configuration, seed: 9, ..Default::default() };
            settings(&sweep, &trial)
        };
        let (_, found) = of(1).unwrap();
        assert_eq!((found.prompt_lr, found.seed), (Some(0.4), 9));
        let space =
            |text: &str| v1::AddedSpace { text: text.to_owned(), format: "toml".to_owned() };
        let more = vec![
            space("[space]\nprompt_lr = [0.4, 0.5, 0.6]\nseeds = [1, 2, 3]\n"),
            space("[space]\nprompt_lr = [0.7]\nsteps = 20\n"),
        ];
        let grown = v1::Sweep { added_spaces: more, ..sweep.clone() };
        for (configuration, rate, steps) in [(1, 0.4, 10), (4, 0.6, 10), (5, 0.7, 20)] {
            let trial = v1::Trial { configuration, seed: 9, ..Default::default() };
            let (_, found) = settings(&grown, &trial).unwrap();
            assert_eq!((found.prompt_lr, found.train.steps), (Some(rate), steps));
        }
        for wrong in [2, u64::MAX / 2 + 1, u64::MAX] {
            assert!(matches!(of(wrong), Err(Error::Answer { .. })), "{wrong}");
        }
    }
}
