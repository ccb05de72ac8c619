//! `deptune train`.

use std::path::{Path, PathBuf};

use deptune_sweep::child::{
    AdapterFile, DataFile, Evaluation, Job, Member, Message, PROTOCOL, TrialResult,
};
use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::spec::Settings;
use deptune_worker::SlotOptions;
use deptune_worker::child::{Child, Launch, Output, Spawner, environment};
use deptune_worker::slot::{self, Slot};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{submit, worker};
use crate::adapter_dir::{FORMAT, Manifest};
use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::output::progress::Live;
use crate::output::table::{Left, Right, Table};
use crate::output::{self, number, say};
use crate::spec_file::{self, SpecFile};
use crate::train_dir::{Checkpoint, TrainDir};
use crate::{stop, trainer};

/// Trains one trial of a spec on this machine
///
/// No coordinator and no database: the trainer runs here, as a worker would run it, and leaves the
/// adapter, the results and its checkpoints in one directory, which 'deptune predict' and 'deptune
/// eval' take as --adapter. Ctrl-C checkpoints; --resume goes on from the last checkpoint, to the
/// same result.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune train sweep.toml --out run
  deptune train sweep.toml --set prompt_lr=0.3 --set seed=43 --out run
  deptune train sweep.toml --out run --resume")]
pub(crate) struct Args {
    /// The spec, TOML or JSON
    #[arg(value_name = "SPEC")]
    spec: PathBuf,
    /// The trial's index in the grid [default: 0]
    #[arg(long, value_name = "INDEX", conflicts_with = "choices")]
    trial: Option<u64>,
    /// Takes the first trial whose setting has this value; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = choice)]
    choices: Vec<(String, Value)>,
    /// Directory to write to; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "trained")]
    out: PathBuf,
    /// Goes on from the last checkpoint in the directory
    #[arg(long)]
    resume: bool,
    /// Threads to compute with [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// What to compute on
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: worker::Device,
    /// The trainer program [default: deptune-trainer beside this program, or in PATH]
    #[arg(long, env = "DEPTUNE_TRAINER", hide_env_values = true, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
}

/// `key=value`; a value that is no JSON is a text.
fn choice(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, as in prompt_lr=0.3")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
    Ok((key.trim().to_owned(), value))
}

/// Messages of the child that may wait.
const WAITING: usize = 64;

/// Trains.
pub(super) async fn run(globals: &Globals, args: &Args) -> Result<Exit, Error> {
    let program = trainer::find(args.trainer.as_deref())?;
    let spec = submit::read(&args.spec, None)?;
    let index = index(&spec, args)?;
    let settings = settings(&spec, index)?;
    let model = model(&spec)?;
    let slot = slot(args.threads, args.device, &program)?;
    let dir = TrainDir::open(&args.out, args.resume, index, &settings, &spec.model_config)?;
    if let Some(result) = dir.result()? {
        say(&format!("the trial in {} is done already", dir.path().display()));
        show(globals, &dir, &result)?;
        return Ok(Exit::Done);
    }
    let job = job(&spec, model, &slot, dir.scratch(), vec![member(index, settings)])?;
    let stop = stop::on_signal("stopping: the trial is checkpointed")?;
    let mut run = Run { globals, spec: &spec, dir, slot, program, job, live: Live::new(false) };
    run.go(&stop).await
}

/// The trial's index in the grid.
fn index(spec: &SpecFile, args: &Args) -> Result<u64, Error> {
    let total = spec.spec.total();
    if args.choices.is_empty() {
        let index = args.trial.unwrap_or(0);
        if index >= total {
            return Err(Error::Usage {
                what: format!("the grid has no trial {index}"),
                hint: format!("its trials are 0 to {}", total.saturating_sub(1)),
            });
        }
        if args.trial.is_none() && total > 1 {
            say(&format!(
                "the first of {}; --trial or --set chooses another",
                number::count(total, "trial")
            ));
        }
        return Ok(index);
    }
    let mut values = std::collections::BTreeMap::new();
    for index in 0..total {
        let known = flat(&settings(spec, index)?);
        let mut fits = true;
        for (key, wanted) in &args.choices {
            let Some(value) = known.get(key) else {
                let keys: Vec<&str> = known.keys().map(String::as_str).collect();
                return Err(Error::Usage {
                    what: format!("a trial has no setting '{key}'"),
                    hint: format!("its settings are {}", keys.join(", ")),
                });
            };
            let same =
                value == wanted || value.as_f64().is_some_and(|v| wanted.as_f64() == Some(v));
            if !same {
                values.entry(key.clone()).or_insert_with(|| value.to_string());
            }
            fits &= same;
        }
        if fits {
            return Ok(index);
        }
    }
    let wanted: Vec<String> =
        args.choices.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let there: Vec<String> = values.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    Err(Error::Usage {
        what: format!("no trial of the grid has {}", wanted.join(" and ")),
        hint: format!("it has, for example, {}; change the spec for others", there.join(" and ")),
    })
}

fn settings(spec: &SpecFile, index: u64) -> Result<Settings, Error> {
    spec.spec.settings(index).ok_or_else(|| Error::Usage {
        what: format!("the grid has no trial {index}"),
        hint: "'deptune plan' lists its configurations".to_owned(),
    })
}

/// The settings by name, those of `[train]` among the others; no tables.
fn flat(settings: &Settings) -> serde_json::Map<String, Value> {
    let mut flat = serde_json::Map::new();
    if let Ok(Value::Object(all)) = serde_json::to_value(settings) {
        for (key, value) in all {
            match value {
                Value::Object(train) if key == "train" => flat.extend(train),
                Value::Object(_) => {}
                value => {
                    flat.insert(key, value);
                }
            }
        }
    }
    flat
}

/// The model's directory, fetched if it is on the hub.
pub(super) fn model(spec: &SpecFile) -> Result<PathBuf, Error> {
    let found = match (&spec.model_dir, &spec.model_hub) {
        (Some(dir), _) => dir.clone(),
        (None, Some(model)) => spec
            .hub
            .model(model)
            .map_err(|trouble| spec.problem("model.path", trouble.message, trouble.hint))?,
        (None, None) => {
            return Err(Error::Usage {
                what: format!("model '{}' is not on this machine", spec.spec.model.path),
                hint: "training needs its weights here".to_owned(),
            });
        }
    };
    absolute(&found)
}

/// The slot of this machine that trials are trained on.
///
/// # Errors
/// When there is no such device.
pub(super) fn slot(
    threads: Option<u32>,
    device: worker::Device,
    program: &Path,
) -> Result<Slot, Error> {
    let threads = threads.or_else(|| {
        let cpus = std::thread::available_parallelism().ok()?;
        u32::try_from(cpus.get()).ok()
    });
    let options =
        SlotOptions { slots: Some(1), threads, max_pack: Some(1), device: device.choice() };
    let mut slots = slot::discover(&options, program)
        .map_err(|source| Error::Device { asked: device.name(), source: source.into() })?;
    slots.pop().ok_or_else(|| Error::Usage {
        what: "there is nothing to compute with".to_owned(),
        hint: "try --device cpu".to_owned(),
    })
}

/// What the trainer is told, of files of this machine.
///
/// # Errors
/// When a file is not here.
pub(super) fn job(
    spec: &SpecFile,
    model: PathBuf,
    slot: &Slot,
    scratch: PathBuf,
    trials: Vec<Member>,
) -> Result<Job, Error> {
    let data = data(spec)?;
    let mut adapters = Vec::new();
    for source in &spec.sources {
        adapters.push(AdapterFile { name: source.name.clone(), path: absolute(&source.path)? });
    }
    Ok(Job {
        protocol: PROTOCOL,
        model,
        model_files: Vec::new(),
        data,
        adapters,
        scratch,
        device: slot.device(),
        threads: slot.record.threads,
        trials,
    })
}

/// A trial that starts anew. Trials of sweeps have numbers from 1.
pub(super) fn member(index: u64, settings: Settings) -> Member {
    Member { trial: TrialId { sweep: SweepId(0), index }, settings, resume: None }
}

/// The data files for the trainer.
pub(super) fn data(spec: &SpecFile) -> Result<Vec<DataFile>, Error> {
    let file = |file: &spec_file::DataFile| {
        let path = absolute(&file.path)?;
        Ok(DataFile { split: file.split.to_string(), name: file.name.clone(), path })
    };
    spec.data.iter().map(file).collect()
}

fn absolute(path: &Path) -> Result<PathBuf, Error> {
    path.canonicalize().map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// One command's work.
struct Run<'a> {
    globals: &'a Globals,
    spec: &'a SpecFile,
    dir: TrainDir,
    slot: Slot,
    program: PathBuf,
    job: Job,
    live: Live,
}

/// How a child ended.
enum Ended {
    Done(Box<TrialResult>),
    Failed(FailureClass, String),
    /// It would not take the checkpoint.
    Refused,
    Stopped,
}

impl Run<'_> {
    async fn go(&mut self, stop: &CancellationToken) -> Result<Exit, Error> {
        let checkpoints = self.dir.resumable();
        let mut candidates = checkpoints.into_iter();
        loop {
            let from = candidates.next();
            match self.train(from.clone(), stop).await? {
                Ended::Refused => {
                    // Its log says why.
                    let step = from.map_or(0, |one| one.step);
                    let log = self.dir.path().join("log");
                    say(&format!(
                        "the checkpoint of step {step} cannot be used ({} says why); taking the \
                         one before it",
                        log.display()
                    ));
                }
                Ended::Done(result) => {
                    self.live.clear();
                    show(self.globals, &self.dir, &result)?;
                    return Ok(Exit::Done);
                }
                Ended::Failed(class, message) => {
                    self.live.clear();
                    if self.globals.json {
                        output::json_line(&json!({
                            "outcome": "failed",
                            "failure_class": class.as_str(),
                            "message": message,
                        }))?;
                    }
                    say(&format!("the trial failed: {class}: {message}"));
                    return Ok(Exit::FailedTrials);
                }
                Ended::Stopped => {
                    self.live.clear();
                    say(&format!(
                        "stopped; go on with: deptune train {} --out {} --resume",
                        self.spec.shown,
                        self.dir.path().display()
                    ));
                    return Ok(Exit::Interrupted);
                }
            }
        }
    }

    async fn train(
        &mut self,
        from: Option<Checkpoint>,
        stop: &CancellationToken,
    ) -> Result<Ended, Error> {
        let task = |source: std::io::Error| Error::Task {
            task: "starting the trainer",
            source: source.into(),
        };
        let spawner = Spawner::start().map_err(task)?;
        let mut job = self.job.clone();
        for member in &mut job.trials {
            member.resume = from.as_ref().map(|one| one.path.clone());
        }
        let launch = Launch {
            program: self.program.clone(),
            environment: environment(std::env::vars_os(), &self.slot),
            dir: self.dir.path().to_owned(),
            job,
        };
        let (sender, mut outputs) = mpsc::channel(WAITING);
        let spawned = {
            let spawner = spawner.clone();
            tokio::task::spawn_blocking(move || Child::spawn(&spawner, launch, sender)).await
        };
        let child = spawned
            .map_err(|source| Error::Task { task: "starting the trainer", source: source.into() })?
            .map_err(|source| Error::Task {
                task: "starting the trainer",
                source: source.into(),
            })?;
        let mut ended = None;
        let (mut asked, mut started) = (false, false);
        loop {
            let output = tokio::select! {
                () = stop.cancelled(), if !asked => {
                    asked = true;
                    child.ask();
                    continue;
                }
                output = outputs.recv() => output,
            };
            match output {
                Some(Output::Message(message)) => {
                    started |= matches!(*message, Message::Started { .. });
                    if let Some(end) = self.on_message(*message, from.as_ref())? {
                        if matches!(end, Ended::Refused) {
                            child.kill();
                        }
                        ended = Some(end);
                    }
                }
                Some(Output::Exited { class, message }) => {
                    return Ok(match ended {
                        Some(end) => end,
                        None if asked => Ended::Stopped,
                        // It may be the checkpoint that it died of.
                        None if from.is_some() && !started => Ended::Refused,
                        None => Ended::Failed(class, message),
                    });
                }
                None => return Ok(ended.unwrap_or(Ended::Stopped)),
            }
        }
    }

    /// Takes in what the child says; an end is kept until it has exited.
    fn on_message(
        &mut self,
        message: Message,
        from: Option<&Checkpoint>,
    ) -> Result<Option<Ended>, Error> {
        let steps = self.job.trials.first().map_or(0, |member| member.settings.train.steps);
        match message {
            Message::Started { first_steps, .. } => {
                let first = first_steps.first().copied().unwrap_or(0);
                match from {
                    Some(one) if first != one.step => return Ok(Some(Ended::Refused)),
                    Some(_) => self.live.note(&format!("going on from step {first}")),
                    None => {}
                }
            }
            Message::Progress { step, loss, steps_per_second, .. } => {
                let left = steps.saturating_sub(step);
                // An estimate for people.
                #[allow(clippy::cast_precision_loss)]
                let seconds = left as f64 / steps_per_second.max(1e-9);
                let counts = format!("step {step} of {steps}");
                let more = format!(
                    "loss {}, {steps_per_second:.1} steps/s, {} left",
                    number::loss(loss.get()),
                    number::span(seconds)
                );
                self.live.update(step, steps, counts, more);
            }
            Message::Eval { evaluation, .. } => {
                self.dir.evaluation(&evaluation)?;
                self.live.note(&words(&evaluation));
            }
            Message::Checkpoint { step, path, .. } => self.dir.checkpoint(step, &path)?,
            Message::Predictions { split, path, .. } => self.dir.predictions(&split, &path)?,
            Message::Done { result, adapter, .. } => {
                let manifest = self.manifest(&result, &adapter)?;
                self.dir.done(&manifest, &adapter, &result)?;
                return Ok(Some(Ended::Done(Box::new(result))));
            }
            Message::Failed { class, message, .. } => {
                return Ok(Some(Ended::Failed(class, message)));
            }
        }
        Ok(None)
    }

    fn manifest(&self, result: &TrialResult, adapter: &Path) -> Result<Manifest, Error> {
        let read = |source| Error::Read { path: adapter.to_owned(), source };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(adapter).map_err(read)?).map_err(read)?;
        let member = self.job.trials.first();
        let settings = member.map(|one| one.settings.clone());
        let test = result.test.as_ref().and_then(|test| test.metrics.first());
        Ok(Manifest {
            format: FORMAT,
            deptune: env!("CARGO_PKG_VERSION").to_owned(),
            base_model_name_or_path: self.spec.spec.model.path.clone(),
            sweep_name: self.spec.spec.name.clone(),
            trial: member.map(|one| one.trial.to_string()).unwrap_or_default(),
            spec_hash: ArtifactHash::of(self.spec.text.as_bytes()).to_string(),
            adapter_hash: hasher.finalize().to_hex().to_string(),
            metric_name: result.metric_name.clone(),
            metric: result.metric,
            constant_answer: result.constant_metric,
            test_metric: test.map(|(_, value)| *value),
            best_step: result.best_step,
            settings: settings.ok_or(Error::Usage {
                what: "the job has no trial".to_owned(),
                hint: "try again".to_owned(),
            })?,
        })
    }
}

/// An evaluation as a line.
fn words(evaluation: &Evaluation) -> String {
    let metrics: Vec<String> = evaluation
        .metrics
        .iter()
        .map(|(name, value)| format!("{name} {}", number::metric(value.get())))
        .collect();
    format!(
        "step {}, {}: {}, loss {}",
        evaluation.step,
        evaluation.split,
        metrics.join(", "),
        number::loss(evaluation.loss.get())
    )
}

/// Writes evaluations and result to standard output.
fn show(globals: &Globals, dir: &TrainDir, result: &TrialResult) -> Result<(), Error> {
    let evaluations = dir.evaluations()?;
    let out = dir.path().display().to_string();
    if globals.json {
        return output::json_line(&json!({
            "outcome": "succeeded",
            "directory": out,
            "result": result,
            "evaluations": evaluations,
        }));
    }
    let mut table = Table::new([
        ("step", Right),
        ("split", Left),
        (result.metric_name.as_str(), Right),
        ("constant", Right),
        ("loss", Right),
        ("train loss", Right),
    ]);
    let value = |of: &[(String, deptune_sweep::metric::Number)]| {
        let found = of.iter().find(|(name, _)| *name == result.metric_name);
        found.map(|(_, value)| number::metric(value.get())).unwrap_or_default()
    };
    for one in &evaluations {
        table.row([
            one.step.to_string(),
            one.split.clone(),
            value(&one.metrics),
            value(&one.constant),
            number::loss(one.loss.get()),
            one.train_loss.map(|loss| number::loss(loss.get())).unwrap_or_default(),
        ]);
    }
    output::data(&table.render())?;
    let early = if result.stopped_early { ", stopped early" } else { "" };
    say(&format!(
        "best at step {} of {}{early}; {} trained in {}; adapter and results are in {out}",
        result.best_step,
        result.steps,
        number::count(result.trainable_parameters, "parameter"),
        number::span(result.train_seconds)
    ));
    Ok(())
}
