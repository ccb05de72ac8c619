//! The content of a database in memory, and how writes change it.

use std::collections::BTreeMap;

use deptune_sweep::child::Evaluation;
use deptune_sweep::id::{Epoch, SweepId, TrialId, WorkerId};
use deptune_sweep::mutation;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::{
    AttemptEnd, AttemptRecord, LogRecord, OutcomeRecord, Phase, SweepRecord, TrialRecord,
    WallMillis, WorkerRecord,
};
use deptune_sweep::scheduler::{LeaseKey, Write};
use deptune_sweep::spec::{Goal, Settings};

use crate::store::derived::varied_settings;
use crate::store::{CommitError, EvaluationKey};

/// Everything.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) generation: i64,
    pub(super) sweeps: BTreeMap<SweepId, Sweep>,
    pub(super) trials: BTreeMap<TrialId, Trial>,
    pub(super) attempts: BTreeMap<(TrialId, Epoch), Attempt>,
    pub(super) outcomes: BTreeMap<TrialId, OutcomeRecord>,
    pub(super) evaluations: BTreeMap<(SweepId, EvaluationKey), Evaluation>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRecord>,
    pub(super) log: BTreeMap<u64, LogRecord>,
}

#[derive(Debug, Clone)]
pub(super) struct Sweep {
    pub(super) record: SweepRecord,
    pub(super) metric_name: &'static str,
    pub(super) goal: Goal,
    pub(super) varied: String,
}

#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) record: TrialRecord,
    pub(super) configuration: u64,
    pub(super) settings: Settings,
}

#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) record: AttemptRecord,
    pub(super) last_step: u64,
    pub(super) ended: Option<(AttemptEnd, WallMillis)>,
    pub(super) class: Option<FailureClass>,
    pub(super) message: String,
}

/// How to take back what a commit has done so far.
type Undo = Vec<Box<dyn FnOnce(&mut State)>>;

impl State {
    /// All writes, or none.
    pub(super) fn commit(&mut self, ours: i64, writes: &[Write]) -> Result<(), CommitError> {
        if self.generation != ours && !mutation::on("generation not checked on commit") {
            return Err(CommitError::Deposed { ours, current: self.generation });
        }
        let mut undo = Undo::new();
        let mut result = writes.iter().try_for_each(|write| self.one(write, &mut undo));
        if result.is_ok() {
            result = writes.iter().try_for_each(|write| self.check_ended(write));
        }
        if result.is_err() {
            for step in undo.into_iter().rev() {
                step(self);
            }
        }
        result
    }

    fn one(&mut self, write: &Write, undo: &mut Undo) -> Result<(), CommitError> {
        match write {
            Write::Sweep(record) => self.insert_sweep(record, undo),
            Write::NextIndex { sweep, next_index } => {
                let mut held = self.sweep(*sweep, "a sweep's next index")?;
                held.record.next_index = *next_index;
                self.put(|s| &mut s.sweeps, *sweep, held, undo);
                Ok(())
            }
            Write::SweepStatus { sweep, status, finished } => {
                let mut held = self.sweep(*sweep, "a sweep's status")?;
                held.record.status = *status;
                held.record.finished = *finished;
                self.put(|s| &mut s.sweeps, *sweep, held, undo);
                Ok(())
            }
            Write::NewTrial { record, configuration, settings } => {
                self.sweep(record.id.sweep, "a new trial")?;
                self.check_holder(record)?;
                if self.trials.contains_key(&record.id) {
                    let what = "a second row for it";
                    return Err(fenced(record.id, record.epoch, what));
                }
                let trial = Trial {
                    record: record.clone(),
                    configuration: *configuration,
                    settings: (**settings).clone(),
                };
                self.put(|s| &mut s.trials, record.id, trial, undo);
                Ok(())
            }
            Write::Trial(record) => {
                let what = "its state";
                self.check_holder(record)?;
                let held = self.trials.get(&record.id).filter(|held| {
                    held.record.epoch <= record.epoch
                        && !matches!(held.record.phase, Phase::Ended { .. })
                });
                let Some(mut trial) = held.cloned() else {
                    return Err(fenced(record.id, record.epoch, what));
                };
                trial.record = record.clone();
                self.put(|s| &mut s.trials, record.id, trial, undo);
                Ok(())
            }
            Write::AttemptStarted(record) => self.start_attempt(record, undo),
            Write::AttemptProgress { lease, last_step } => {
                let mut attempt = self.attempt(*lease, "an attempt's progress")?;
                attempt.last_step = attempt.last_step.max(*last_step);
                self.put(|s| &mut s.attempts, (lease.trial, lease.epoch), attempt, undo);
                Ok(())
            }
            Write::AttemptEnded { lease, end, class, message, at } => {
                let mut attempt = self.attempt(*lease, "an attempt's end")?;
                attempt.ended = Some((*end, *at));
                attempt.class = *class;
                attempt.message.clone_from(message);
                self.put(|s| &mut s.attempts, (lease.trial, lease.epoch), attempt, undo);
                Ok(())
            }
            Write::Outcome(record) => {
                let ended = Phase::Ended { outcome: record.outcome };
                let current = self.trials.get(&record.id).is_some_and(|held| {
                    held.record.epoch == record.epoch && held.record.phase == ended
                });
                if !current || self.outcomes.contains_key(&record.id) {
                    return Err(fenced(record.id, record.epoch, "its outcome"));
                }
                self.put(|s| &mut s.outcomes, record.id, (**record).clone(), undo);
                Ok(())
            }
            Write::Evaluation { lease, evaluation, .. } => {
                let current = self.trials.get(&lease.trial).is_some_and(|held| {
                    held.record.epoch == lease.epoch
                        && !matches!(held.record.phase, Phase::Ended { .. })
                });
                if !current {
                    return Err(fenced(lease.trial, lease.epoch, "an evaluation"));
                }
                let key = EvaluationKey {
                    trial: lease.trial.index,
                    step: evaluation.step,
                    split: evaluation.split.clone(),
                };
                let key = (lease.trial.sweep, key);
                self.put(|s| &mut s.evaluations, key, evaluation.clone(), undo);
                Ok(())
            }
            Write::Worker(record) => {
                self.put(|s| &mut s.workers, record.id, record.clone(), undo);
                Ok(())
            }
            Write::WorkerLeft { worker, at } => {
                let mut held = self.worker(*worker, "a worker's departure")?;
                held.left = Some(*at);
                self.put(|s| &mut s.workers, *worker, held, undo);
                Ok(())
            }
            // Nothing reads them here.
            Write::StaleReport { worker, .. } => self.worker(*worker, "a stale report").map(|_| ()),
            Write::Log(record) => {
                if self.log.contains_key(&record.cursor) {
                    let why = format!("cursor {} is taken", record.cursor);
                    return Err(CommitError::Inconsistent { what: "a log entry", why });
                }
                self.put(|s| &mut s.log, record.cursor, record.clone(), undo);
                Ok(())
            }
        }
    }

    /// An ended trial has its outcome by the end of the transaction.
    fn check_ended(&self, write: &Write) -> Result<(), CommitError> {
        let (Write::Trial(record) | Write::NewTrial { record, .. }) = write else { return Ok(()) };
        let Phase::Ended { outcome } = record.phase else { return Ok(()) };
        let held = self.outcomes.get(&record.id);
        if held.is_some_and(|o| o.outcome == outcome && o.epoch == record.epoch) {
            return Ok(());
        }
        let why = format!("trial {} has ended without an outcome", record.id);
        Err(CommitError::Inconsistent { what: "the transaction's end", why })
    }

    fn insert_sweep(&mut self, record: &SweepRecord, undo: &mut Undo) -> Result<(), CommitError> {
        let spec = record
            .submission
            .parse()
            .map_err(|source| CommitError::Submission { sweep: record.id, source })?;
        let taken = |s: &Sweep| s.record.request_id == record.request_id;
        if self.sweeps.contains_key(&record.id) || self.sweeps.values().any(taken) {
            let why = format!("sweep {} or its request is there already", record.id);
            return Err(CommitError::Inconsistent { what: "a sweep", why });
        }
        let sweep = Sweep {
            record: record.clone(),
            metric_name: spec.objective.metric.name(),
            goal: spec.objective.goal,
            varied: varied_settings(&spec),
        };
        self.put(|s| &mut s.sweeps, record.id, sweep, undo);
        Ok(())
    }

    fn start_attempt(
        &mut self,
        record: &AttemptRecord,
        undo: &mut Undo,
    ) -> Result<(), CommitError> {
        let current = self.trials.get(&record.id).is_some_and(|held| {
            held.record.epoch == record.epoch && matches!(held.record.phase, Phase::Leased { .. })
        });
        if !current {
            return Err(fenced(record.id, record.epoch, "an attempt"));
        }
        self.worker(record.worker, "an attempt")?;
        let key = (record.id, record.epoch);
        let attempt = match self.attempts.get(&key) {
            // Revived: it keeps its start.
            Some(held) => Attempt {
                record: AttemptRecord {
                    worker: record.worker,
                    slot: record.slot,
                    ..held.record.clone()
                },
                last_step: held.last_step,
                ended: None,
                class: None,
                message: String::new(),
            },
            None => Attempt {
                record: record.clone(),
                last_step: record.first_step,
                ended: None,
                class: None,
                message: String::new(),
            },
        };
        self.put(|s| &mut s.attempts, key, attempt, undo);
        Ok(())
    }

    fn sweep(&self, id: SweepId, what: &'static str) -> Result<Sweep, CommitError> {
        let why = || format!("sweep {id} is not there");
        self.sweeps.get(&id).cloned().ok_or_else(|| CommitError::Inconsistent { what, why: why() })
    }

    fn worker(&self, id: WorkerId, what: &'static str) -> Result<WorkerRecord, CommitError> {
        let why = || format!("worker {id} is not there");
        self.workers.get(&id).cloned().ok_or_else(|| CommitError::Inconsistent { what, why: why() })
    }

    fn attempt(&self, lease: LeaseKey, what: &'static str) -> Result<Attempt, CommitError> {
        let held = self.attempts.get(&(lease.trial, lease.epoch));
        held.cloned().ok_or_else(|| fenced(lease.trial, lease.epoch, what))
    }

    fn check_holder(&self, record: &TrialRecord) -> Result<(), CommitError> {
        let holder = match record.phase {
            Phase::Leased { worker, .. } => Some(worker),
            Phase::Pending { last_holder } => last_holder,
            Phase::Ended { .. } => None,
        };
        holder.map_or(Ok(()), |worker| self.worker(worker, "a trial's holder").map(|_| ()))
    }

    /// Inserts or replaces, remembering how to take it back.
    fn put<K: Ord + Clone + 'static, V: 'static>(
        &mut self,
        map: fn(&mut State) -> &mut BTreeMap<K, V>,
        key: K,
        value: V,
        undo: &mut Undo,
    ) {
        let previous = map(self).insert(key.clone(), value);
        undo.push(Box::new(move |state| {
            match previous {
                Some(value) => map(state).insert(key, value),
                None => map(state).remove(&key),
            };
        }));
    }
}

fn fenced(trial: TrialId, epoch: Epoch, what: &'static str) -> CommitError {
    CommitError::Fenced { trial, epoch, what }
}
