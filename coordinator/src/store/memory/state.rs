//! The content of a database in memory, and how writes change it.

use std::collections::BTreeMap;
use std::sync::Arc;

use deptune_sweep::child::Evaluation;
use deptune_sweep::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::mutation;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::points::Points;
use deptune_sweep::record::{
    AttemptEnd, AttemptRecord, Controls, DeletedRecord, LogRecord, OutcomeRecord, PackMemory,
    Phase, RequestRecord, SpaceRecord, Submission, SweepRecord, TrialRecord, WallMillis,
    WorkerRecord,
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
    /// Spaces that were added, by sweep and number.
    pub(super) spaces: BTreeMap<(SweepId, u32), SpaceRecord>,
    pub(super) trials: BTreeMap<TrialId, Trial>,
    pub(super) attempts: BTreeMap<(TrialId, Epoch), Attempt>,
    pub(super) outcomes: BTreeMap<TrialId, OutcomeRecord>,
    pub(super) evaluations: BTreeMap<(SweepId, EvaluationKey), Evaluation>,
    pub(super) workers: BTreeMap<WorkerId, WorkerRecord>,
    pub(super) log: BTreeMap<u64, LogRecord>,
    /// How often rows refer to each artifact.
    pub(super) references: BTreeMap<ArtifactHash, u64>,
    pub(super) requests: BTreeMap<RequestId, RequestRecord>,
    /// The deleted sweeps, and the log's last cursor when each was deleted.
    pub(super) deleted: BTreeMap<SweepId, (DeletedRecord, u64)>,
    /// Most trials of a pack, by shape and device.
    pub(super) pack_limits: BTreeMap<(ArtifactHash, String), u32>,
    /// What packs took, by shape, device and number of trials.
    pub(super) pack_memories: BTreeMap<(ArtifactHash, String, u32), PackMemory>,
}

#[derive(Debug, Clone)]
pub(super) struct Sweep {
    pub(super) record: SweepRecord,
    pub(super) metric_name: &'static str,
    pub(super) goal: Goal,
    /// As the spec says.
    pub(super) controls: Controls,
    pub(super) varied: String,
}

#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) record: TrialRecord,
    pub(super) configuration: u64,
    pub(super) settings: Arc<Settings>,
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
                let change = |held: &mut SweepRecord| held.next_index = *next_index;
                self.change_sweep(*sweep, "a sweep's next index", change, undo)
            }
            Write::SweepStatus { sweep, status, finished } => {
                let change = |held: &mut SweepRecord| {
                    held.status = *status;
                    held.finished = *finished;
                };
                self.change_sweep(*sweep, "a sweep's status", change, undo)
            }
            Write::SweepTotal { sweep, total } => {
                let change = |held: &mut SweepRecord| held.total = *total;
                self.change_sweep(*sweep, "a sweep's number of trials", change, undo)
            }
            Write::Space { record, varied } => {
                let sweep = record.sweep;
                let mut held = self.sweeps.get(&sweep).cloned();
                let held = held.as_mut().ok_or_else(|| no_sweep(sweep, "an added space"))?;
                held.varied = varied_settings(varied);
                self.put(|s| &mut s.sweeps, sweep, held.clone(), undo);
                self.put(|s| &mut s.spaces, (sweep, record.number), record.clone(), undo);
                Ok(())
            }
            Write::Controls { sweep, controls } => {
                let change = |held: &mut SweepRecord| held.controls = Some(*controls);
                self.change_sweep(*sweep, "what a sweep may use", change, undo)
            }
            Write::Used { sweep, used } => {
                let change = |held: &mut SweepRecord| held.used = *used;
                self.change_sweep(*sweep, "what a sweep used", change, undo)
            }
            Write::Request(record) => {
                if self.requests.contains_key(&record.id) {
                    let why = format!("request {} is there already", record.id);
                    return Err(CommitError::Inconsistent { what: "a request", why });
                }
                self.put(|s| &mut s.requests, record.id, record.clone(), undo);
                Ok(())
            }
            Write::DeleteSweep { sweep, .. } => self.delete_sweep(*sweep, undo),
            Write::NewTrial { record, configuration, settings } => {
                self.check_sweep(record.id.sweep, "a new trial")?;
                self.check_holder(record)?;
                if self.trials.contains_key(&record.id) {
                    let what = "a second row for it";
                    return Err(fenced(record.id, record.epoch, what));
                }
                let trial = Trial {
                    record: record.clone(),
                    configuration: *configuration,
                    settings: Arc::new((**settings).clone()),
                };
                self.put(|s| &mut s.trials, record.id, trial, undo);
                self.refer(needed(record), true, undo);
                Ok(())
            }
            Write::Trial(record) => {
                self.check_holder(record)?;
                let held = self.trials.get_mut(&record.id).filter(|held| {
                    held.record.epoch <= record.epoch
                        && !matches!(held.record.phase, Phase::Ended { .. })
                });
                let Some(trial) = held else {
                    return Err(fenced(record.id, record.epoch, "its state"));
                };
                let before = std::mem::replace(&mut trial.record, record.clone());
                let (id, old) = (record.id, needed(&before).cloned());
                undo.push(Box::new(move |state| {
                    if let Some(trial) = state.trials.get_mut(&id) {
                        trial.record = before;
                    }
                }));
                if old.as_ref() != needed(record) {
                    self.refer(needed(record), true, undo);
                    self.refer(old.as_ref(), false, undo);
                }
                Ok(())
            }
            Write::AttemptStarted(record) => self.start_attempt(record, undo),
            Write::AttemptProgress { lease, last_step } => {
                let mut attempt = self.attempt(*lease, "an attempt's progress")?;
                attempt.last_step = attempt.last_step.max(*last_step);
                self.put(|s| &mut s.attempts, (lease.trial, lease.epoch), attempt, undo);
                Ok(())
            }
            Write::AttemptEnded { lease, end, class, message, last_step, at } => {
                let mut attempt = self.attempt(*lease, "an attempt's end")?;
                attempt.last_step = attempt.last_step.max(*last_step);
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
                self.refer(record.adapter.as_ref(), true, undo);
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
            Write::PackLimit { limit, .. } => {
                let key = (limit.shape.clone(), limit.device.clone());
                self.put(|s| &mut s.pack_limits, key, limit.members, undo);
                Ok(())
            }
            Write::PackMemory { memory, .. } => {
                let key = (memory.shape.clone(), memory.device.clone(), memory.members);
                self.put(|s| &mut s.pack_memories, key, memory.clone(), undo);
                Ok(())
            }
            Write::Worker(record) => {
                self.put(|s| &mut s.workers, record.id, record.clone(), undo);
                Ok(())
            }
            Write::WorkerLeft { worker, at } => {
                let mut held = self.worker(*worker, "a worker's departure")?.clone();
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
        // Its sweep may have been deleted later in the same transaction.
        if !self.trials.contains_key(&record.id) {
            return Ok(());
        }
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
            controls: spec.limits.controls(),
            varied: varied_settings(&Points::new(spec).varied()),
        };
        self.put(|s| &mut s.sweeps, record.id, sweep, undo);
        for hash in files_of(&record.submission) {
            self.refer(Some(&hash), true, undo);
        }
        Ok(())
    }

    fn change_sweep(
        &mut self,
        sweep: SweepId,
        what: &'static str,
        change: impl FnOnce(&mut SweepRecord),
        undo: &mut Undo,
    ) -> Result<(), CommitError> {
        let Some(held) = self.sweeps.get_mut(&sweep) else { return Err(no_sweep(sweep, what)) };
        let held = &mut held.record;
        let before = (held.total, held.next_index, held.controls, held.used);
        let (status, finished) = (held.status, held.finished);
        change(held);
        undo.push(Box::new(move |state| {
            let Some(held) = state.sweeps.get_mut(&sweep).map(|s| &mut s.record) else { return };
            (held.total, held.next_index, held.controls, held.used) = before;
            (held.status, held.finished) = (status, finished);
        }));
        Ok(())
    }

    /// A row refers to an artifact, or does not any more.
    fn refer(&mut self, hash: Option<&ArtifactHash>, refers: bool, undo: &mut Undo) {
        let Some(hash) = hash else { return };
        self.count_reference(hash, refers);
        let hash = hash.clone();
        undo.push(Box::new(move |state| state.count_reference(&hash, !refers)));
    }

    fn count_reference(&mut self, hash: &ArtifactHash, refers: bool) {
        if refers {
            *self.references.entry(hash.clone()).or_default() += 1;
        } else if let Some(count) = self.references.get_mut(hash) {
            *count -= 1;
            if *count == 0 {
                self.references.remove(hash);
            }
        }
    }

    fn delete_sweep(&mut self, sweep: SweepId, undo: &mut Undo) -> Result<(), CommitError> {
        let what = "the deletion of a sweep";
        let held = self.sweeps.get(&sweep).cloned().ok_or_else(|| no_sweep(sweep, what))?;
        let adapters = self.outcomes.values().filter(|o| o.id.sweep == sweep);
        let adapters = adapters.filter_map(|o| o.adapter.clone());
        let trials = self.trials.values().filter(|t| t.record.id.sweep == sweep);
        let checkpoints = trials.filter_map(|t| needed(&t.record).cloned());
        let files = files_of(&held.record.submission);
        let gone: Vec<ArtifactHash> = adapters.chain(checkpoints).chain(files).collect();
        let last_cursor = self.last_cursor();
        for hash in &gone {
            self.refer(Some(hash), false, undo);
        }
        self.take(|s| &mut s.evaluations, |(of, _)| *of == sweep, undo);
        self.take(|s| &mut s.attempts, |(trial, _)| trial.sweep == sweep, undo);
        self.take(|s| &mut s.outcomes, |trial| trial.sweep == sweep, undo);
        self.take(|s| &mut s.trials, |trial| trial.sweep == sweep, undo);
        let entries: Vec<u64> =
            self.log.values().filter(|e| e.sweep == sweep).map(|e| e.cursor).collect();
        self.take(|s| &mut s.log, |cursor| entries.binary_search(cursor).is_ok(), undo);
        self.take(|s| &mut s.spaces, |(of, _)| *of == sweep, undo);
        self.take(|s| &mut s.sweeps, |id| *id == sweep, undo);
        let (request_id, hash) = (held.record.request_id, held.record.spec_hash);
        let record = DeletedRecord { id: sweep, request_id, spec_hash: Some(hash) };
        self.put(|s| &mut s.deleted, sweep, (record, last_cursor), undo);
        Ok(())
    }

    fn start_attempt(
        &mut self,
        record: &AttemptRecord,
        undo: &mut Undo,
    ) -> Result<(), CommitError> {
        let current = self.trials.get(&record.id).is_some_and(|held| {
            held.record.epoch == record.epoch && held.record.phase.holder().is_some()
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

    /// Last cursor that was ever used, as far as it matters.
    pub(super) fn last_cursor(&self) -> u64 {
        let deleted = self.deleted.values().map(|(_, cursor)| *cursor).max();
        self.log.keys().next_back().copied().max(deleted).unwrap_or(0)
    }

    fn check_sweep(&self, id: SweepId, what: &'static str) -> Result<(), CommitError> {
        if self.sweeps.contains_key(&id) { Ok(()) } else { Err(no_sweep(id, what)) }
    }

    fn worker(&self, id: WorkerId, what: &'static str) -> Result<&WorkerRecord, CommitError> {
        let why = || format!("worker {id} is not there");
        self.workers.get(&id).ok_or_else(|| CommitError::Inconsistent { what, why: why() })
    }

    fn attempt(&self, lease: LeaseKey, what: &'static str) -> Result<Attempt, CommitError> {
        let held = self.attempts.get(&(lease.trial, lease.epoch));
        held.cloned().ok_or_else(|| fenced(lease.trial, lease.epoch, what))
    }

    fn check_holder(&self, record: &TrialRecord) -> Result<(), CommitError> {
        let holder = match record.phase {
            Phase::Leased(holder) => Some(holder),
            Phase::Pending { last_holder } => last_holder,
            Phase::Ended { .. } => None,
        };
        holder.map_or(Ok(()), |held| self.worker(held.worker, "a trial's holder").map(|_| ()))
    }

    /// Removes what fits, remembering how to take it back.
    fn take<K: Ord + Clone + 'static, V: 'static>(
        &mut self,
        map: fn(&mut State) -> &mut BTreeMap<K, V>,
        fits: impl Fn(&K) -> bool,
        undo: &mut Undo,
    ) {
        let keys: Vec<K> = map(self).keys().filter(|key| fits(key)).cloned().collect();
        for key in keys {
            if let Some(value) = map(self).remove(&key) {
                undo.push(Box::new(move |state| {
                    map(state).insert(key, value);
                }));
            }
        }
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

fn no_sweep(id: SweepId, what: &'static str) -> CommitError {
    CommitError::Inconsistent { what, why: format!("sweep {id} is not there") }
}

/// The artifacts that a submission names.
fn files_of(files: &Submission) -> Vec<ArtifactHash> {
    let data = files.data.iter().map(|file| file.hash.clone());
    data.chain(files.model_files.iter().filter_map(|file| file.hash.parse().ok())).collect()
}

fn fenced(trial: TrialId, epoch: Epoch, what: &'static str) -> CommitError {
    CommitError::Fenced { trial, epoch, what }
}

/// The checkpoint that a trial's next attempt would continue from; an ended trial has none.
fn needed(record: &TrialRecord) -> Option<&ArtifactHash> {
    let ended = matches!(record.phase, Phase::Ended { .. });
    record.checkpoint.as_ref().filter(|_| !ended).map(|checkpoint| &checkpoint.hash)
}
