//! One job: a pack trained from its start or a checkpoint to its end, told to the agent line by
//! line.

pub mod emit;
pub mod failure;
mod finish;
pub(crate) mod prepare;
mod resume;
mod trial;
pub(crate) mod warm;

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deptune_sweep::child::{Evaluation, Job, Member, Message};
use deptune_sweep::id::TrialId;
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::task::Split;

use crate::evaluate::{Judge, Judged};
use crate::gpu::{self, Watch};
use crate::order::Order;
use crate::pack::StepReport;
use emit::{Emitter, Gone};
use failure::Failure;
use prepare::{Prepared, prepare};
use trial::Trial;

/// Least time between two progress messages.
const PROGRESS: Duration = Duration::from_millis(250);

/// Most updates before somebody looks at what they did: to look at it is to wait for the device.
pub(crate) const UNHEARD: u64 = 16;

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every trial is done or has failed.
    Finished,
    /// Asked to stop: the unfinished trials have checkpoints.
    Stopped,
}

/// What is asked of a job while it runs.
#[derive(Debug, Default)]
pub struct Orders {
    stop: Arc<AtomicBool>,
    dropped: Mutex<Vec<TrialId>>,
}

impl Orders {
    /// When this becomes true, the job stops: its unfinished trials are checkpointed after the step
    /// that is under way.
    #[must_use]
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// Trains a member no further; the others go on.
    pub fn drop_trial(&self, trial: TrialId) {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).push(trial);
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn take_dropped(&self) -> Vec<TrialId> {
        std::mem::take(&mut *self.dropped.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs a job, and does what is ordered meanwhile.
///
/// # Errors
/// [`Gone`] when nobody reads the messages; failures of trials are messages, not errors.
pub fn run<W: Write>(job: &Job, out: &mut Emitter<W>, orders: &Orders) -> Result<Ended, Gone> {
    let device = gpu::watch(&job.device);
    let prepared = match prepare(job) {
        Ok(prepared) => prepared,
        Err(failure) => {
            for member in &job.trials {
                fail(out, member, &failure)?;
            }
            return Ok(Ended::Finished);
        }
    };
    let mut run = match Run::new(job, prepared, device, out) {
        Ok(run) => run,
        Err(failure) => {
            for member in &job.trials {
                fail(out, member, &failure)?;
            }
            return Ok(Ended::Finished);
        }
    };
    match run.train(orders) {
        Ok(ended) => Ok(ended),
        Err(Interrupt::Gone(gone)) => Err(gone),
        Err(Interrupt::Failure(failure)) => {
            for trial in run.trials.iter().filter(|t| t.is_running()) {
                fail(run.out, &trial.member, &failure)?;
            }
            Ok(Ended::Finished)
        }
    }
}

fn fail<W: Write>(out: &mut Emitter<W>, member: &Member, failure: &Failure) -> Result<(), Gone> {
    let (trial, class, message) = (member.trial, failure.class, failure.message.clone());
    out.send(&Message::Failed { trial, class, message })
}

/// An evaluation as a line of the log.
fn words(evaluation: &Evaluation) -> String {
    let Evaluation { step, split, loss, rows, .. } = evaluation;
    let metrics: Vec<String> =
        evaluation.metrics.iter().map(|(name, value)| format!("{name} {value}")).collect();
    format!("step {step}, {split} ({rows} rows): {}, loss {loss}", metrics.join(", "))
}

/// Why training ended early.
enum Interrupt {
    Gone(Gone),
    Failure(Failure),
}

impl From<Gone> for Interrupt {
    fn from(gone: Gone) -> Interrupt {
        Interrupt::Gone(gone)
    }
}

impl<T: Into<Failure>> From<T> for Interrupt {
    fn from(failure: T) -> Interrupt {
        Interrupt::Failure(failure.into())
    }
}

struct Run<'a, W> {
    prepared: Prepared,
    trials: Vec<Trial>,
    scratch: PathBuf,
    out: &'a mut Emitter<W>,
    order: Order,
    /// When the last progress message was sent, and at which step.
    told: (Instant, u64),
    /// The last update whose report was looked at.
    heard: u64,
    /// When the time that counts as training began.
    clock: Instant,
    /// What is known of the device; `None` on the CPU.
    device: Option<Watch>,
}

impl<'a, W: Write> Run<'a, W> {
    fn new(
        job: &Job,
        mut prepared: Prepared,
        device: Option<Watch>,
        out: &'a mut Emitter<W>,
    ) -> Result<Run<'a, W>, Failure> {
        let trials = resume::restore(job, &mut prepared)?;
        let order = prepared.order();
        let now = Instant::now();
        let told = (now, prepared.pack.steps_done());
        let scratch = job.scratch.clone();
        let heard = told.1;
        Ok(Run { prepared, trials, scratch, out, order, told, heard, clock: now, device })
    }

    fn train(&mut self, orders: &Orders) -> Result<Ended, Interrupt> {
        let (steps, eval_every) = {
            let train = &self.prepared.settings.train;
            (train.steps, train.eval_every)
        };
        let first = self.prepared.pack.steps_done();
        self.out.send(&Message::Started {
            libtorch: trial::libtorch_version(),
            device_name: trial::device_name(self.prepared.pack.model().device()),
            first_steps: vec![first; self.trials.len()],
        })?;
        for trial in &self.trials {
            let trial = trial.member.trial;
            tracing::info!(%trial, steps, "trains from step {first}");
        }
        self.clock = Instant::now();
        if first < steps {
            self.finish_patient()?;
        }
        for step in first + 1..=steps {
            self.drop_trials(orders)?;
            if !self.trials.iter().any(Trial::is_running) {
                return Ok(Ended::Finished);
            }
            if orders.stops() {
                self.checkpoint()?;
                return Ok(Ended::Stopped);
            }
            self.update(step)?;
            if step % eval_every == 0 || step == steps {
                self.validate(step)?;
                self.checkpoint()?;
                if step < steps {
                    self.finish_patient()?;
                }
            }
        }
        if orders.stops() {
            self.checkpoint()?;
            return Ok(Ended::Stopped);
        }
        self.finish(&self.running(), false)?;
        Ok(Ended::Finished)
    }

    /// The numbers of the trials that have not ended.
    fn running(&self) -> Vec<usize> {
        let running = |(k, trial): (usize, &Trial)| trial.is_running().then_some(k);
        self.trials.iter().enumerate().filter_map(running).collect()
    }

    /// Lets the trials stand still that are to be trained no further.
    fn drop_trials(&mut self, orders: &Orders) -> Result<(), Interrupt> {
        for dropped in orders.take_dropped() {
            let found = self.trials.iter().position(|trial| trial.member.trial == dropped);
            let Some(k) = found else { continue };
            if let Some(trial) = self.trials.get_mut(k).filter(|trial| trial.is_running()) {
                tracing::info!(trial = %dropped, "is no longer wanted");
                trial.end();
                self.prepared.pack.stop(k)?;
            }
        }
        Ok(())
    }

    fn update(&mut self, step: u64) -> Result<(), Interrupt> {
        let rows = self.order.micro_batches(step);
        let batches = self.prepared.batches(&rows)?;
        self.prepared.pack.advance(&batches)?;
        if self.told.0.elapsed() >= PROGRESS || step - self.heard >= UNHEARD {
            self.hear()?;
        }
        Ok(())
    }

    /// Looks at what the updates did that were not looked at yet.
    fn hear(&mut self) -> Result<(), Interrupt> {
        let due = self.told.0.elapsed() >= PROGRESS;
        let reports = self.prepared.pack.reports()?;
        let last = reports.last().map(|report| report.step);
        for report in &reports {
            self.take(report, due && Some(report.step) == last)?;
        }
        if let Some(last) = last {
            self.heard = last;
            if due {
                self.told = (Instant::now(), last);
            }
        }
        Ok(())
    }

    fn take(&mut self, report: &StepReport, tell: bool) -> Result<(), Interrupt> {
        let step = report.step;
        let rate = (step - self.told.1) as f64 / self.told.0.elapsed().as_secs_f64().max(1e-9);
        for (trial, outcome) in self.trials.iter_mut().zip(&report.trials) {
            if !trial.is_running() {
                continue;
            }
            trial.count_loss(outcome.loss);
            if outcome.diverged {
                trial.end();
                let message = format!(
                    "the loss ({}) or the gradient's norm ({}) of step {step} is not finite; \
                     try smaller learning rates",
                    Number::from(outcome.loss),
                    Number::from(outcome.grad_norm),
                );
                let failure = Failure { class: FailureClass::Diverged, message };
                fail(self.out, &trial.member, &failure)?;
            } else if tell {
                self.out.send(&Message::Progress {
                    trial: trial.member.trial,
                    step,
                    loss: Number::from(outcome.loss),
                    steps_per_second: rate,
                })?;
            }
        }
        Ok(())
    }

    /// What judges trials on the test split, or else the validation split.
    fn judge(&self, split: Split) -> Judge<'_> {
        let data = &self.prepared.data;
        let rows = if split == Split::Test { &data.test } else { &data.validation };
        self.prepared.judge(split, rows)
    }

    fn validate(&mut self, step: u64) -> Result<(), Interrupt> {
        self.hear()?;
        let running = self.running();
        let judge = self.judge(Split::Validation);
        let judged = judge.evaluate(&self.prepared.pack, &running, step)?;
        for (k, Judged { mut evaluation, .. }) in running.into_iter().zip(judged) {
            let Some(trial) = self.trials.get_mut(k) else { continue };
            evaluation.train_loss = Some(trial.take_train_loss());
            trial.progress.without_gain += 1;
            if trial.is_better(&evaluation, &self.prepared.settings.objective) {
                trial.progress.without_gain = 0;
                trial.best = Some(trial::Best::new(
                    &evaluation,
                    &self.prepared.settings.objective,
                    self.prepared.pack.parameters(k)?,
                ));
            }
            let trial = trial.member.trial;
            tracing::info!(%trial, "{}", words(&evaluation));
            self.out.send(&Message::Eval { trial, evaluation })?;
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), Interrupt> {
        self.hear()?;
        let seconds = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        for (k, trial) in self.trials.iter_mut().enumerate().filter(|(_, t)| t.is_running()) {
            trial.progress.train_seconds += seconds;
            let (step, path) = trial.save(k, &self.prepared, &self.scratch)?;
            self.out.send(&Message::Checkpoint { trial: trial.member.trial, step, path })?;
        }
        Ok(())
    }
}
