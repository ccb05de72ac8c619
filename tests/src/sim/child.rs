//! A trainer child: it trains piece by piece, or goes wrong in one of many ways.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deptune_proto::convert::Assignment;
use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::id::TrialId;
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_worker::protocol::{ChildNews, StopHow};

use super::profile::Profile;
use super::rng::{Rng, mix};

/// Updates of a trial; the simulated specs all have this many.
pub(crate) const STEPS: u64 = 120;

/// How an attempt will go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Well,
    NotReady,
    CannotRun,
    Crash(u64),
    Oom(u64),
    Hang(u64),
    Silent(u64),
    BadData,
}

/// What the fault of a whole child is called where it trains several trials.
const PACK_CRASHED: &str = "pack: crashed as a whole";
const PACK_OOM: &str = "pack: out of memory as a whole";

/// A child process, or the fetching of files before it.
#[derive(Debug)]
pub(crate) struct Child {
    /// The run, as the agent numbers it.
    pub(crate) run: u64,
    /// Counts plans: a stop makes the plan before it void.
    pub(crate) plan: u64,
    pack: Vec<Assignment>,
    /// Those of the pack that cannot succeed, and in which piece that shows.
    doomed: BTreeMap<TrialId, u64>,
    fate: Fate,
    stage: Stage,
    segments: u64,
    segment: (u64, u64),
    done: u64,
    deaf: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Preparing,
    Spawned,
    Training,
    Ended,
    Asked,
    Killed,
}

/// What a child does now, and when it does the next thing.
#[derive(Debug, Default)]
pub(crate) struct Act {
    /// What it says.
    pub(crate) news: Vec<ChildNews>,
    /// Milliseconds until its next act; `None`: it waits, or is gone.
    pub(crate) next: Option<u64>,
    /// Which faults these were.
    pub(crate) faults: Vec<&'static str>,
    /// Whether it is gone.
    pub(crate) gone: bool,
}

impl Child {
    /// Starts to prepare.
    pub(crate) fn new(
        run: u64,
        pack: Vec<Assignment>,
        profile: &Profile,
        seed: u64,
        faulty: bool,
        checkpoint_is_there: bool,
        rng: &mut Rng,
    ) -> Child {
        let segments = profile.segments;
        let resumed = pack.first().and_then(|lease| lease.checkpoint.as_ref());
        let from = if checkpoint_is_there { resumed.map_or(0, |c| c.step) } else { 0 };
        let at = rng.below(segments);
        let trials = pack.iter().map(|lease| lease.lease.trial);
        let dooms = trials.map(|trial| (trial, doom(trial, seed)));
        let hopeless = dooms.filter(|(_, doom)| doom % 1000 < profile.hopeless);
        let doomed: BTreeMap<_, _> =
            hopeless.map(|(trial, doom)| (trial, doom % segments)).collect();
        let unreadable = pack.len() == 1 && doomed.values().any(|at| at % 2 == 1);
        let fate = if unreadable {
            Fate::BadData
        } else if faulty && rng.per_mille(profile.child) {
            match rng.below(7) {
                0 => Fate::NotReady,
                1 => Fate::CannotRun,
                2 => Fate::Crash(at),
                3 => Fate::Oom(at),
                4 => Fate::Hang(at),
                5 => Fate::Silent(at),
                _ => Fate::Crash(0),
            }
        } else {
            Fate::Well
        };
        let done = from * segments / STEPS;
        let deaf = faulty && rng.per_mille(100);
        let (stage, segment) = (Stage::Preparing, profile.segment);
        Child { run, plan: 0, pack, doomed, fate, stage, segments, segment, done, deaf }
    }

    /// It is told to stop. Returns how long until it does; `None`: it does not care.
    pub(crate) fn stop(
        &mut self,
        how: StopHow,
        rng: &mut Rng,
    ) -> (Option<u64>, Option<&'static str>) {
        let training = matches!(self.stage, Stage::Training | Stage::Spawned);
        match how {
            StopHow::Ask if self.deaf && training => {
                return (None, Some("child: ignores the request to stop"));
            }
            StopHow::Ask if training && !matches!(self.fate, Fate::Hang(at) if at <= self.done) => {
                self.stage = Stage::Asked;
            }
            StopHow::Ask if training => return (None, None),
            _ => self.stage = Stage::Killed,
        }
        self.plan += 1;
        let most = if how == StopHow::Ask { 1_500 } else { 5_000 };
        (Some(rng.within(5, most)), None)
    }

    /// It is told to train a member no further. Returns whether others are left.
    pub(crate) fn drop_member(&mut self, trial: TrialId) -> bool {
        let before = self.pack.len();
        self.pack.retain(|lease| lease.lease.trial != trial);
        self.pack.len() < before && !self.pack.is_empty() && self.stage == Stage::Training
    }

    /// It does the next thing.
    pub(crate) fn act(&mut self, rng: &mut Rng) -> Act {
        match self.stage {
            Stage::Preparing => self.prepare(rng),
            Stage::Spawned => {
                self.stage = Stage::Training;
                let next = Some(rng.within(self.segment.0, self.segment.1));
                Act { news: vec![ChildNews::Started], next, ..Act::default() }
            }
            Stage::Training => self.train(rng),
            Stage::Asked => {
                let mut news = self.checkpoints();
                news.push(exited(FailureClass::Crashed, "exited with code 143 and no result"));
                Act { news, gone: true, ..Act::default() }
            }
            Stage::Ended | Stage::Killed => {
                let news = vec![exited(FailureClass::Crashed, "exited with code 0 and no result")];
                Act { news, gone: true, ..Act::default() }
            }
        }
    }

    fn prepare(&mut self, rng: &mut Rng) -> Act {
        let message = || "as simulated".to_owned();
        let failed = |news, fault| Act {
            news: vec![news],
            faults: vec![fault],
            gone: true,
            ..Act::default()
        };
        match self.fate {
            Fate::NotReady => {
                failed(ChildNews::NotReady { message: message() }, "child: files not ready")
            }
            Fate::CannotRun => {
                let class = FailureClass::Infra;
                failed(ChildNews::CannotRun { class, message: message() }, "child: node error")
            }
            Fate::BadData => {
                let class = FailureClass::Data;
                failed(ChildNews::CannotRun { class, message: message() }, "child: data error")
            }
            _ => {
                self.stage = Stage::Spawned;
                let next = Some(rng.within(20, 400));
                Act { news: vec![ChildNews::Spawned], next, ..Act::default() }
            }
        }
    }

    fn train(&mut self, rng: &mut Rng) -> Act {
        let several = self.pack.len() > 1;
        let gone = |class, words, fault, as_pack: Option<&'static str>| Act {
            news: vec![exited(class, words)],
            faults: [fault].into_iter().chain(as_pack.filter(|_| several)).collect(),
            gone: true,
            ..Act::default()
        };
        match self.fate {
            Fate::Crash(at) if at <= self.done => {
                let words = "was killed by signal 11";
                let fault = "child: crashed";
                return gone(FailureClass::Crashed, words, fault, Some(PACK_CRASHED));
            }
            Fate::Oom(at) if at <= self.done => {
                let words = "was killed for memory";
                let fault = "child: out of memory";
                return gone(FailureClass::Oom, words, fault, Some(PACK_OOM));
            }
            Fate::Silent(at) if at <= self.done => {
                let words = "exited with code 0 and no result";
                let fault = "child: exit 0 without a result";
                return gone(FailureClass::Crashed, words, fault, None);
            }
            Fate::Hang(at) if at <= self.done => {
                return Act { faults: vec!["child: hung"], ..Act::default() };
            }
            _ => {}
        }
        let mut news = Vec::new();
        let mut faults = Vec::new();
        let (doomed, done) = (&self.doomed, self.done);
        self.pack.retain(|lease| {
            let trial = lease.lease.trial;
            let fails = doomed.get(&trial).is_some_and(|at| *at <= done);
            if fails {
                let (class, message) = (FailureClass::Diverged, "the loss is NaN".to_owned());
                news.push(ChildNews::Failed { trial, class, message });
                faults.push("child: diverged");
            }
            !fails
        });
        if self.pack.is_empty() {
            self.stage = Stage::Ended;
            let next = Some(rng.within(5, 200));
            return Act { news, next, faults, gone: false };
        }
        if !news.is_empty() {
            faults.push("pack: a member fails, the others go on");
        }
        self.done += 1;
        let step = self.step();
        for lease in &self.pack {
            let (trial, epoch) = (lease.lease.trial, lease.lease.epoch.0);
            let loss = Number::from(1.0);
            news.push(ChildNews::Progress { trial, step, loss, steps_per_second: 10.0 });
            let evaluation = evaluation(trial, step, epoch);
            news.push(ChildNews::Eval { trial, evaluation });
        }
        if self.done < self.segments {
            news.extend(self.checkpoints());
            let next = Some(rng.within(self.segment.0, self.segment.1));
            return Act { news, next, faults, gone: false };
        }
        for lease in &self.pack {
            let (trial, epoch) = (lease.lease.trial, lease.lease.epoch.0);
            let result = result(trial, epoch);
            let adapter = PathBuf::from(format!("adapter-{trial}"));
            news.push(ChildNews::Done { trial, result, adapter });
        }
        self.stage = Stage::Ended;
        Act { news, next: Some(rng.within(5, 200)), faults, gone: false }
    }

    fn step(&self) -> u64 {
        self.done.min(self.segments) * STEPS / self.segments.max(1)
    }

    fn checkpoints(&self) -> Vec<ChildNews> {
        let step = self.step();
        if step == 0 {
            return Vec::new();
        }
        let made = |lease: &Assignment| {
            let trial = lease.lease.trial;
            let path = PathBuf::from(format!("checkpoint-{trial}-{step}"));
            ChildNews::Checkpoint { trial, step, path }
        };
        self.pack.iter().map(made).collect()
    }
}

fn exited(class: FailureClass, words: &str) -> ChildNews {
    ChildNews::Exited { class, message: format!("the trainer {words}") }
}

fn doom(trial: TrialId, seed: u64) -> u64 {
    mix(seed ^ mix(trial.sweep.0 << 32 ^ trial.index))
}

/// The metric of a trial at a step: the same in every attempt.
#[must_use]
pub(crate) fn metric(trial: TrialId, step: u64) -> Number {
    Number::from((mix(trial.sweep.0 << 40 ^ trial.index << 12 ^ step) % 10_000) as f64 / 100.0)
}

/// An evaluation. Its duration tells which attempt made it.
fn evaluation(trial: TrialId, step: u64, epoch: u32) -> Evaluation {
    Evaluation {
        step,
        split: "validation".to_owned(),
        loss: Number::from(0.5),
        train_loss: Some(Number::from(0.25)),
        metrics: vec![("accuracy".to_owned(), metric(trial, step))],
        constant: Vec::new(),
        rows: 10,
        seconds: f64::from(epoch),
        per_class: Vec::new(),
    }
}

/// What a trial ends with. Its duration tells which attempt made it.
#[must_use]
pub(crate) fn result(trial: TrialId, epoch: u32) -> TrialResult {
    TrialResult {
        metric_name: "accuracy".to_owned(),
        metric: metric(trial, STEPS),
        best_step: STEPS,
        test: None,
        constant_metric: Number::from(50.0),
        steps: STEPS,
        stopped_early: false,
        predictions: Vec::new(),
        trainable_parameters: 544,
        train_seconds: f64::from(epoch),
        peak_memory_bytes: peak_memory(trial, epoch),
        mean_utilization: None,
        mean_power_watts: None,
    }
}

/// What its pack took, it says: about what is estimated, nothing, or nonsense.
fn peak_memory(trial: TrialId, epoch: u32) -> Option<u64> {
    let drawn = mix(trial.sweep.0 << 40 ^ trial.index << 12 ^ u64::from(epoch));
    match drawn % 8 {
        0 => None,
        1 => Some(0),
        2 => Some(drawn | 1 << 63),
        _ => Some((190 + drawn / 8 % 40) << 20),
    }
}
