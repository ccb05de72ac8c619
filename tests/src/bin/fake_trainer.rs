//! A trainer that trains nothing: it speaks the child protocol, keeps real (small) checkpoints,
//! computes its metrics from a hash of the trial, and fails in every way that is asked for.
//!
//! It is steered by `DEPTUNE_FAKE` and by lines `fake: …` in the job's data files (those win),
//! both of the form `key=value key=value`:
//!
//! | key | meaning |
//! |---|---|
//! | `step_ms=N` | time per step; default 1 |
//! | `load_ms=N` | time before `started`; default 0 |
//! | `fault=NAME` | see [`Fault`] |
//! | `at=STEP` | the step at which the fault happens; default 1 |
//! | `index=N` | only the trial of this index fails |
//! | `every=N` | only trials whose index is a multiple of N fail |
//! | `once=PATH` | the fault happens once: whoever creates PATH fails |
//! | `pids=PATH` | appends its process id, and a grandchild's |
//! | `pad=BYTES` | checkpoints are larger by that many bytes |
//! | `rename=before\|after` | killed before or after a checkpoint of step `at` gets its name; with `once` |
//! | `watts=N` | results say that a device drew N watts, three quarters busy, with a GiB in use |
//! | `journal=PATH` | appends `TRIAL STEP PID` for every step made |

use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use deptune_sweep::child::{ClassReport, Evaluation, Job, Member, Message, PROTOCOL, TrialResult};
use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::task::Labels;
use nix::sys::signal::{SigSet, Signal, raise};
use serde::{Deserialize, Serialize};

/// Shortest time between two `progress` messages.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Metrics of the best constant answer.
const CONSTANT: f64 = 50.0;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "standard error is the trial's log")]
            {
                eprintln!("fake trainer: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    if std::env::args().nth(1).as_deref() != Some("run") {
        bail!("usage: fake-trainer run < JOB");
    }
    let stopped = listen()?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("reading the job")?;
    let job: Job = serde_json::from_str(&line).context("parsing the job")?;
    if job.protocol != PROTOCOL {
        bail!("protocol {} is not {PROTOCOL}", job.protocol);
    }
    let orders = Orders::read(&job)?;
    if let Some(path) = &orders.pids {
        append(path, &format!("{}\n", std::process::id()))?;
    }
    std::thread::sleep(orders.load);
    let mut trials = Vec::new();
    for member in &job.trials {
        trials.push(Trial::new(member)?);
    }
    say(&Message::Started {
        libtorch: "none".to_owned(),
        device_name: "fake".to_owned(),
        first_steps: trials.iter().map(|t| t.state.step).collect(),
    })?;
    // All make a step before any makes the next one.
    while !trials.is_empty() {
        if stopped.load(Ordering::SeqCst) {
            for trial in &trials {
                trial.checkpoint(&job.scratch, &orders)?;
            }
            return Ok(());
        }
        let mut left = Vec::new();
        for mut trial in trials {
            if trial.advance(&job, &orders, &stopped)? {
                left.push(trial);
            }
        }
        trials = left;
    }
    Ok(())
}

/// Waits for SIGTERM on a thread of its own.
fn listen() -> Result<Arc<AtomicBool>> {
    let stopped = Arc::new(AtomicBool::new(false));
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let flag = Arc::clone(&stopped);
    std::thread::spawn(move || {
        while signals.wait().is_ok() {
            flag.store(true, Ordering::SeqCst);
        }
    });
    Ok(stopped)
}

/// How to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// `abort()`, as libtorch does when a C++ exception escapes.
    Abort,
    /// A segmentation fault.
    Segv,
    /// SIGKILL, as from the kernel's out-of-memory killer.
    Kill,
    /// Exit code 0 without a result.
    Exit0,
    /// Exit code 3 after words on standard error.
    Exit3,
    /// No step and no word any more; SIGTERM still stops it.
    Hang,
    /// The same, and SIGTERM does not stop it. Writes its process id down a second time.
    Deaf,
    /// Valid messages without end that say nothing new.
    Flood,
    /// A line that is no message.
    Garbage,
    /// A line of a gigabyte.
    LongLine,
    /// Standard error without end, then an abort.
    Chatter,
    /// Speaks of a trial that is not its own.
    Stray,
    /// Names a checkpoint outside of its directory.
    Escape,
    /// Metrics that are not numbers; the trial goes on.
    Nan,
    /// Says that the trial diverged.
    Diverged,
    /// Says that it is out of memory.
    Oom,
    /// Says that the data are bad.
    Data,
    /// Starts a grandchild and goes on.
    Grandchild,
}

impl Fault {
    fn parse(name: &str) -> Result<Fault> {
        Ok(match name {
            "abort" => Fault::Abort,
            "segv" => Fault::Segv,
            "kill" => Fault::Kill,
            "exit0" => Fault::Exit0,
            "exit3" => Fault::Exit3,
            "hang" => Fault::Hang,
            "deaf" => Fault::Deaf,
            "flood" => Fault::Flood,
            "garbage" => Fault::Garbage,
            "longline" => Fault::LongLine,
            "chatter" => Fault::Chatter,
            "stray" => Fault::Stray,
            "escape" => Fault::Escape,
            "nan" => Fault::Nan,
            "diverged" => Fault::Diverged,
            "oom" => Fault::Oom,
            "data" => Fault::Data,
            "grandchild" => Fault::Grandchild,
            _ => bail!("there is no fault '{name}'"),
        })
    }
}

/// When a checkpoint's writer dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rename {
    Before,
    After,
}

impl Rename {
    fn parse(name: &str) -> Result<Rename> {
        Ok(match name {
            "before" => Rename::Before,
            "after" => Rename::After,
            _ => bail!("a checkpoint is renamed before or after, not '{name}'"),
        })
    }
}

#[derive(Debug, Default)]
struct Orders {
    step: Duration,
    load: Duration,
    fault: Option<Fault>,
    at: u64,
    index: Option<u64>,
    every: Option<u64>,
    once: Option<PathBuf>,
    rename: Option<Rename>,
    pids: Option<PathBuf>,
    journal: Option<PathBuf>,
    pad: usize,
    watts: Option<f64>,
}

impl Orders {
    fn read(job: &Job) -> Result<Orders> {
        let mut orders = Orders { step: Duration::from_millis(1), at: 1, ..Orders::default() };
        if let Ok(text) = std::env::var("DEPTUNE_FAKE") {
            orders.add(&text)?;
        }
        for file in &job.data {
            let bytes = std::fs::read(&file.path)
                .with_context(|| format!("reading {}", file.path.display()))?;
            // Parquet files are no text.
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines().filter_map(|line| line.strip_prefix("fake:")) {
                orders.add(line)?;
            }
        }
        Ok(orders)
    }

    fn add(&mut self, text: &str) -> Result<()> {
        for word in text.split_whitespace() {
            let (key, value) = word.split_once('=').context("an order without '='")?;
            let path = || Some(PathBuf::from(value));
            match key {
                "step_ms" => self.step = Duration::from_millis(value.parse()?),
                "load_ms" => self.load = Duration::from_millis(value.parse()?),
                "fault" => self.fault = Some(Fault::parse(value)?),
                "at" => self.at = value.parse()?,
                "index" => self.index = Some(value.parse()?),
                "every" => self.every = Some(value.parse()?),
                "once" => self.once = path(),
                "rename" => self.rename = Some(Rename::parse(value)?),
                "pids" => self.pids = path(),
                "journal" => self.journal = path(),
                "pad" => self.pad = value.parse()?,
                "watts" => self.watts = Some(value.parse()?),
                _ => bail!("there is no order '{key}'"),
            }
        }
        Ok(())
    }

    /// The fault that this trial has at this step.
    fn fault(&self, trial: TrialId, step: u64) -> Option<Fault> {
        self.due(self.fault, trial, step)
    }

    /// What is to happen, if this is the trial and the step.
    fn due<T>(&self, what: Option<T>, trial: TrialId, step: u64) -> Option<T> {
        let fault = what.filter(|_| step == self.at)?;
        if self.index.is_some_and(|index| index != trial.index)
            || self.every.is_some_and(|every| !trial.index.is_multiple_of(every.max(1)))
        {
            return None;
        }
        if let Some(path) = &self.once {
            OpenOptions::new().write(true).create_new(true).open(path).ok()?;
        }
        Some(fault)
    }
}

/// What a checkpoint holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    /// Which configuration and seed it is of.
    identity: String,
    step: u64,
    best: Option<(f64, u64)>,
    seconds: f64,
}

struct Trial<'a> {
    member: &'a Member,
    state: State,
    said: Instant,
    /// Whether its metrics are no numbers from now on.
    nan: bool,
}

impl Trial<'_> {
    fn new(member: &Member) -> Result<Trial<'_>> {
        let identity = serde_json::to_vec(&member.settings)?;
        let identity = ArtifactHash::of(&identity).to_string();
        let state = match &member.resume {
            Some(path) => {
                let state = read_checkpoint(path)?;
                if state.identity != identity {
                    bail!("{} is another trial's checkpoint", path.display());
                }
                state
            }
            None => State { identity, step: 0, best: None, seconds: 0.0 },
        };
        Ok(Trial { member, state, said: Instant::now(), nan: false })
    }

    /// Makes a step. Returns whether there is more to do.
    fn advance(&mut self, job: &Job, orders: &Orders, stopped: &AtomicBool) -> Result<bool> {
        let trial = self.member.trial;
        let train = &self.member.settings.train;
        let (steps, every) = (train.steps, train.eval_every.max(1));
        if self.state.step < steps {
            let step = self.state.step + 1;
            match orders.fault(trial, step) {
                Some(Fault::Nan) => self.nan = true,
                Some(fault) if suffer(fault, trial, orders, stopped)? => return Ok(false),
                _ => {}
            }
            std::thread::sleep(orders.step);
            self.state.step = step;
            self.state.seconds += orders.step.as_secs_f64();
            if let Some(path) = &orders.journal {
                append(path, &format!("{trial} {step} {}\n", std::process::id()))?;
            }
            if self.said.elapsed() >= PROGRESS_EVERY {
                self.said = Instant::now();
                let loss = Number::from(2.0 / step as f64);
                let rate = 1.0 / orders.step.as_secs_f64().max(1e-6);
                say(&Message::Progress { trial, step, loss, steps_per_second: rate })?;
            }
            if step.is_multiple_of(every) || step == steps {
                self.evaluate(self.nan)?;
                self.checkpoint(&job.scratch, orders)?;
            }
        }
        if self.state.step < steps {
            return Ok(true);
        }
        self.finish(&job.scratch, orders)?;
        Ok(false)
    }

    /// A percentage that depends on the configuration, the seed and the step, and on nothing
    /// else: it grows with the step, towards a value between 55 and 95.
    fn metric(&self, step: u64) -> f64 {
        let digits = self.state.identity.get(..8).unwrap_or("0");
        let share = f64::from(u32::from_str_radix(digits, 16).unwrap_or(0)) / f64::from(u32::MAX);
        let steps = self.member.settings.train.steps.max(1) as f64;
        CONSTANT + (5.0 + 40.0 * share) * step as f64 / steps
    }

    fn evaluation(&self, split: &str, step: u64, value: Number) -> Evaluation {
        let metric = self.member.settings.objective.metric.to_string();
        Evaluation {
            step,
            split: split.to_owned(),
            loss: Number::from(2.0 / step.max(1) as f64),
            train_loss: (split == "validation").then(|| Number::from(1.0 / step.max(1) as f64)),
            metrics: vec![(metric.clone(), value)],
            constant: vec![(metric, Number::from(CONSTANT))],
            rows: 100,
            seconds: 0.001,
            per_class: self.classes(),
        }
    }

    /// Some report for each label that the spec lists.
    fn classes(&self) -> Vec<ClassReport> {
        let Some(Labels::List(labels)) = &self.member.settings.task.labels else {
            return Vec::new();
        };
        let report = |label: &String| ClassReport {
            label: label.clone(),
            precision: 75.0,
            recall: 50.0,
            f1: 60.0,
            support: 50,
        };
        labels.iter().map(report).collect()
    }

    fn evaluate(&mut self, nan: bool) -> Result<()> {
        let step = self.state.step;
        let value = self.metric(step);
        if self.state.best.is_none_or(|(best, _)| value > best) {
            self.state.best = Some((value, step));
        }
        let value = if nan { Number::NaN } else { Number::from(value) };
        let evaluation = self.evaluation("validation", step, value);
        say(&Message::Eval { trial: self.member.trial, evaluation })
    }

    fn checkpoint(&self, scratch: &Path, orders: &Orders) -> Result<()> {
        let (trial, step) = (self.member.trial, self.state.step);
        let path = scratch.join(format!("checkpoint-{trial}-{step}.safetensors"));
        let dies = orders.due(orders.rename, trial, step);
        write_checkpoint(&path, &self.state, orders.pad, dies)?;
        say(&Message::Checkpoint { trial, step, path })
    }

    fn finish(&self, scratch: &Path, orders: &Orders) -> Result<()> {
        let trial = self.member.trial;
        let adapter = scratch.join(format!("adapter-{trial}.safetensors"));
        write_checkpoint(&adapter, &State { seconds: 0.0, ..self.state.clone() }, 0, None)?;
        let settings = &self.member.settings;
        let (metric, best_step) = self.state.best.unwrap_or((CONSTANT, 0));
        let test = (!settings.task.test.is_empty())
            .then(|| self.evaluation("test", best_step, Number::from(metric - 1.0)));
        let result = TrialResult {
            metric_name: settings.objective.metric.to_string(),
            metric: Number::from(metric),
            best_step,
            test,
            constant_metric: Number::from(CONSTANT),
            steps: self.state.step,
            trainable_parameters: u64::from(settings.prompt_length) * 192,
            train_seconds: self.state.seconds,
            peak_memory_bytes: orders.watts.map(|_| 1 << 30),
            mean_utilization: orders.watts.map(|_| 0.75),
            mean_power_watts: orders.watts,
            stopped_early: false,
            predictions: Vec::new(),
        };
        if settings.train.save_predictions {
            let path = scratch.join(format!("predictions-{trial}.jsonl"));
            std::fs::write(&path, "{\"row\":0,\"answer\":\"positive\"}\n")?;
            say(&Message::Predictions { trial, split: "validation".to_owned(), path })?;
        }
        say(&Message::Done { trial, result, adapter })
    }
}

/// Carries out a fault. Returns whether the trial is over and the next one may begin.
fn suffer(fault: Fault, trial: TrialId, orders: &Orders, stopped: &AtomicBool) -> Result<bool> {
    let failed = |class, message: &str| {
        say(&Message::Failed { trial, class, message: message.to_owned() }).map(|()| true)
    };
    match fault {
        Fault::Nan => Ok(false),
        Fault::Abort => std::process::abort(),
        // The first is taken by the handler that looks for stack overflows.
        Fault::Segv => loop {
            raise(Signal::SIGSEGV)?;
        },
        Fault::Kill => loop {
            raise(Signal::SIGKILL)?;
        },
        Fault::Exit0 => std::process::exit(0),
        Fault::Exit3 => {
            std::io::stderr().write_all(b"first words\nthe disk is on fire\n")?;
            std::process::exit(3);
        }
        Fault::Hang => {
            while !stopped.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::process::exit(0);
        }
        Fault::Deaf => {
            if let Some(path) = &orders.pids {
                append(path, &format!("{}\n", std::process::id()))?;
            }
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        Fault::Flood => loop {
            say(&Message::Progress {
                trial,
                step: orders.at,
                loss: Number::from(1.0),
                steps_per_second: 1.0,
            })?;
        },
        Fault::Garbage => {
            std::io::stdout().write_all(b"Segmentation fault (core dumped)\n")?;
            std::thread::sleep(Duration::from_secs(3600));
            Ok(false)
        }
        Fault::LongLine => {
            let chunk = vec![b'x'; 1 << 20];
            let mut out = std::io::stdout().lock();
            for _ in 0..1024 {
                out.write_all(&chunk)?;
            }
            out.write_all(b"\n")?;
            Ok(false)
        }
        Fault::Chatter => {
            let line = [b'y'; 1023];
            let mut log = std::io::stderr().lock();
            for _ in 0..64 * 1024 {
                log.write_all(&line)?;
                log.write_all(b"\n")?;
            }
            log.write_all(b"enough\n")?;
            std::process::abort();
        }
        Fault::Stray => {
            let trial = TrialId { sweep: SweepId(u64::MAX), index: 7 };
            say(&Message::Failed { trial, class: FailureClass::Data, message: String::new() })?;
            std::thread::sleep(Duration::from_secs(3600));
            Ok(false)
        }
        Fault::Escape => {
            say(&Message::Checkpoint { trial, step: 1, path: PathBuf::from("/etc/passwd") })?;
            std::thread::sleep(Duration::from_secs(3600));
            Ok(false)
        }
        Fault::Diverged => failed(FailureClass::Diverged, "the loss is not finite"),
        Fault::Oom => failed(FailureClass::Oom, "out of memory"),
        Fault::Data => failed(FailureClass::Data, "train.tsv:7: no label"),
        Fault::Grandchild => {
            let grandchild = std::process::Command::new("sleep")
                .arg("3600")
                .stdin(std::process::Stdio::null())
                .spawn()
                .context("starting a grandchild")?;
            if let Some(path) = &orders.pids {
                append(path, &format!("{}\n", grandchild.id()))?;
            }
            Ok(false)
        }
    }
}

fn say(message: &Message) -> Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush().context("the agent is gone")
}

fn append(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// A safetensors file with one number; the state travels in the header's metadata. `pad` bytes
/// follow.
fn write_checkpoint(path: &Path, state: &State, pad: usize, dies: Option<Rename>) -> Result<()> {
    let header = serde_json::json!({
        "__metadata__": { "state": serde_json::to_string(state)? },
        "step": { "dtype": "F32", "shape": [1], "data_offsets": [0, 4] },
    });
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut content = (header.len() as u64).to_le_bytes().to_vec();
    content.extend(header);
    content.extend((state.step as f32).to_le_bytes());
    content.resize(content.len() + pad, 0);
    let temporary = path.with_extension("part");
    let mut file = File::create(&temporary)?;
    file.write_all(&content)?;
    file.sync_all()?;
    if dies == Some(Rename::Before) {
        raise(Signal::SIGKILL)?;
    }
    std::fs::rename(&temporary, path)?;
    if dies == Some(Rename::After) {
        raise(Signal::SIGKILL)?;
    }
    Ok(())
}

fn read_checkpoint(path: &Path) -> Result<State> {
    let content = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let damaged = || format!("{} is damaged", path.display());
    let (length, rest) = content.split_first_chunk::<8>().with_context(damaged)?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let header: serde_json::Value =
        serde_json::from_slice(rest.get(..length).with_context(damaged)?)?;
    let state = header.pointer("/__metadata__/state").and_then(|s| s.as_str());
    Ok(serde_json::from_str(state.with_context(damaged)?)?)
}
