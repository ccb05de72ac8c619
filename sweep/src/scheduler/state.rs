//! What the scheduler remembers, and how it is rebuilt from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::mutation;
use crate::outcome::{Outcome, SweepStatus};
use crate::record::{
    CheckpointRef, LogEntry, LogRecord, Phase, SlotRecord, SweepRecord, TrialRecord, WorkerRecord,
};
use crate::scheduler::event::{LeaseKey, Now, Step, Write};
use crate::space::TrainAxis;
use crate::spec::{Diagnostics, Spec};

/// Times and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds for which a lease lives without a heartbeat.
    pub lease_ttl: u64,
    /// Losses of one trial after which it is given up.
    pub max_losses: u32,
    /// Milliseconds of the first wait after a failure; doubles with each.
    pub backoff_base: u64,
    /// Longest wait after a failure, in milliseconds.
    pub backoff_cap: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { lease_ttl: 30_000, max_losses: 3, backoff_base: 1_000, backoff_cap: 60_000 }
    }
}

/// See the [module](crate::scheduler).
#[derive(Debug)]
pub struct Scheduler {
    pub(super) config: Config,
    pub(super) sweeps: BTreeMap<SweepId, Sweep>,
    pub(super) submissions: BTreeMap<RequestId, SweepId>,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Expiry of every live lease, soonest first.
    pub(super) expiries: BTreeSet<(u64, TrialId)>,
    pub(super) next_cursor: u64,
}

/// A sweep in memory.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) record: Arc<SweepRecord>,
    pub(super) spec: Spec,
    pub(super) status: SweepStatus,
    /// First index that was never leased.
    pub(super) next_index: u64,
    /// Trials that were leased and have no outcome.
    pub(super) active: BTreeMap<u64, Trial>,
    /// Those of `active` that wait, and the monotonic time before which they are not leased.
    pub(super) waiting: BTreeMap<u64, u64>,
    /// Trials with an outcome.
    pub(super) ended: BTreeMap<u64, Ended>,
    /// Live leases.
    pub(super) leased: u32,
    /// Updates of the trials in `ended`, each in full.
    pub(super) steps_ended: u64,
    /// Updates of all trials.
    pub(super) steps_total: u64,
}

/// A trial without an outcome.
#[derive(Debug)]
pub(super) struct Trial {
    pub(super) epoch: Epoch,
    pub(super) phase: Phase,
    pub(super) failures: u32,
    pub(super) losses: u32,
    pub(super) alone: bool,
    pub(super) checkpoint: Option<CheckpointRef>,
    /// When the lease expires; meaningful while leased.
    pub(super) expires: u64,
    pub(super) live: Live,
}

/// How far a running trial is, for watchers. Not stored.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Live {
    pub(super) step: u64,
    pub(super) loss: Option<Number>,
    pub(super) steps_per_second: f64,
}

/// What is remembered of a trial with an outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) epoch: Epoch,
    pub(super) outcome: Outcome,
    pub(super) worker: Option<WorkerId>,
}

/// A registered worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) record: WorkerRecord,
    /// Lease of each slot.
    pub(super) slots: BTreeMap<u32, TrialId>,
    /// Monotonic time at which it was last heard.
    pub(super) seen: u64,
}

impl Worker {
    pub(super) fn slot(&self, slot: u32) -> Option<&SlotRecord> {
        self.record.slots.iter().find(|s| s.slot == slot)
    }
}

/// Everything that the store knows, to rebuild the scheduler from.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// All sweeps.
    pub sweeps: Vec<SweepRecord>,
    /// All trials with a row.
    pub trials: Vec<TrialRecord>,
    /// Who recorded the outcome of each ended trial.
    pub reporters: Vec<(TrialId, WorkerId)>,
    /// Workers that have not left.
    pub workers: Vec<WorkerRecord>,
    /// Cursor of the last log entry.
    pub last_cursor: u64,
}

/// The store's content makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A stored spec is no longer valid.
    #[error("the stored spec of sweep {sweep} is not valid in this version")]
    Spec {
        /// Which sweep.
        sweep: SweepId,
        /// Why.
        #[source]
        source: Diagnostics,
    },
    /// A stored model configuration is no longer valid.
    #[error("the stored model configuration of sweep {sweep} is not valid in this version")]
    Model {
        /// Which sweep.
        sweep: SweepId,
        /// Why.
        #[source]
        source: crate::model::ModelError,
    },
    /// A trial belongs to no sweep, or has an index that its sweep does not have.
    #[error("stored trial {0} is not a trial of a stored sweep")]
    StrayTrial(TrialId),
    /// The stored number of trials is not what the stored spec implies.
    #[error("sweep {sweep} is stored with {stored} trials, its spec has {implied}")]
    Total {
        /// Which sweep.
        sweep: SweepId,
        /// Number in the store.
        stored: u64,
        /// Number by the spec.
        implied: u64,
    },
}

impl Scheduler {
    /// An empty scheduler.
    #[must_use]
    pub fn new(config: Config) -> Scheduler {
        Scheduler {
            config,
            sweeps: BTreeMap::new(),
            submissions: BTreeMap::new(),
            workers: BTreeMap::new(),
            expiries: BTreeSet::new(),
            next_cursor: 1,
        }
    }

    /// Rebuilds the scheduler. Every stored lease is armed for one full TTL from `now`, so that
    /// workers which kept training through a restart are heard before their trials are given
    /// away.
    ///
    /// # Errors
    /// When the store's content contradicts itself or this version cannot read it.
    pub fn restore(
        config: Config,
        snapshot: Snapshot,
        now: Now,
    ) -> Result<Scheduler, RestoreError> {
        let mut scheduler = Scheduler::new(config);
        scheduler.next_cursor = snapshot.last_cursor.saturating_add(1);
        for record in snapshot.workers {
            scheduler
                .workers
                .insert(record.id, Worker { record, slots: BTreeMap::new(), seen: now.monotonic });
        }
        for record in snapshot.sweeps {
            let (id, request_id) = (record.id, record.request_id);
            scheduler.sweeps.insert(id, Sweep::restore(record)?);
            if !mutation::on("request id forgotten after restart") {
                scheduler.submissions.insert(request_id, id);
            }
        }
        let reporters: BTreeMap<TrialId, WorkerId> = snapshot.reporters.into_iter().collect();
        for record in snapshot.trials {
            scheduler.restore_trial(record, &reporters, now)?;
        }
        Ok(scheduler)
    }

    fn restore_trial(
        &mut self,
        record: TrialRecord,
        reporters: &BTreeMap<TrialId, WorkerId>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let stray = RestoreError::StrayTrial(record.id);
        let Some(sweep) = self.sweeps.get_mut(&record.id.sweep) else { return Err(stray) };
        if record.id.index >= sweep.next_index {
            return Err(stray);
        }
        let index = record.id.index;
        let mut trial = Trial::from_record(&record);
        match record.phase {
            Phase::Ended { outcome } => {
                let worker = reporters.get(&record.id).copied();
                sweep.end(index, Ended { epoch: record.epoch, outcome, worker });
                return Ok(());
            }
            Phase::Pending { last_holder } => {
                // When it failed is not stored: after a failure the wait begins anew.
                let waits = trial.failures > 0
                    && last_holder.is_none()
                    && !mutation::on("backoff lost on restart");
                let wait = if waits { trial.backoff(self.config) } else { 0 };
                sweep.waiting.insert(index, now.monotonic.saturating_add(wait));
                if mutation::on("epoch reused after restart") {
                    trial.epoch = Epoch(trial.epoch.0.saturating_sub(1));
                }
            }
            Phase::Leased { worker, slot, .. } => {
                let rearmed = !mutation::on("leases not armed again after restart");
                let ttl = if rearmed { self.config.lease_ttl } else { 0 };
                trial.expires = now.monotonic.saturating_add(ttl);
                self.expiries.insert((trial.expires, record.id));
                sweep.leased += 1;
                if let Some(worker) = self.workers.get_mut(&worker) {
                    worker.slots.insert(slot, record.id);
                }
            }
        }
        sweep.active.insert(index, trial);
        Ok(())
    }

    /// Appends to the log.
    pub(super) fn log(
        &mut self,
        sweep: SweepId,
        trial: Option<TrialId>,
        what: LogEntry,
        now: Now,
        step: &mut Step,
    ) {
        let cursor = self.next_cursor;
        self.next_cursor += 1;
        step.writes.push(Write::Log(LogRecord { cursor, sweep, trial, at: now.wall, what }));
    }

    /// Takes the lease of a trial away from its slot and from the expiry queue.
    pub(super) fn disarm(&mut self, id: TrialId) {
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(trial) = sweep.active.get(&id.index) else { return };
        if let Phase::Leased { worker, slot, .. } = trial.phase {
            self.expiries.remove(&(trial.expires, id));
            sweep.leased = sweep.leased.saturating_sub(1);
            if let Some(worker) = self.workers.get_mut(&worker)
                && worker.slots.get(&slot) == Some(&id)
            {
                worker.slots.remove(&slot);
            }
        }
    }

    /// Gives a trial's lease a full TTL from now.
    pub(super) fn arm(&mut self, id: TrialId, now: Now) {
        let expires = now.monotonic.saturating_add(self.config.lease_ttl);
        if let Some(trial) =
            self.sweeps.get_mut(&id.sweep).and_then(|s| s.active.get_mut(&id.index))
        {
            self.expiries.remove(&(trial.expires, id));
            trial.expires = expires;
            self.expiries.insert((expires, id));
        }
    }
}

impl Sweep {
    pub(super) fn new(record: SweepRecord, spec: Spec) -> Sweep {
        Sweep {
            steps_ended: 0,
            steps_total: steps_total(&spec),
            spec,
            status: record.status,
            next_index: record.next_index,
            record: Arc::new(record),
            active: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ended: BTreeMap::new(),
            leased: 0,
        }
    }

    fn restore(record: SweepRecord) -> Result<Sweep, RestoreError> {
        let sweep = record.id;
        let spec = match record.submission.parse() {
            Ok(spec) => spec,
            Err(crate::record::SubmissionError::Spec(source)) => {
                return Err(RestoreError::Spec { sweep, source });
            }
            Err(crate::record::SubmissionError::Model(source)) => {
                return Err(RestoreError::Model { sweep, source });
            }
        };
        let implied = spec.total();
        if implied != record.total {
            return Err(RestoreError::Total { sweep, stored: record.total, implied });
        }
        Ok(Sweep::new(record, spec))
    }

    /// Remembers a trial's outcome.
    pub(super) fn end(&mut self, index: u64, ended: Ended) {
        self.steps_ended += self.spec.settings(index).map_or(0, |s| s.train.steps);
        self.ended.insert(index, ended);
    }

    /// Whether every trial has an outcome.
    pub(super) fn is_complete(&self) -> bool {
        self.ended.len() as u64 == self.record.total
    }
}

/// Updates of all trials of a spec: an axis over `steps` occurs with every value equally often.
fn steps_total(spec: &Spec) -> u64 {
    let axis = spec.space.train.iter().find_map(|axis| match axis {
        TrainAxis::Steps(values) => Some(values),
        _ => None,
    });
    match axis {
        Some(values) if !values.is_empty() => {
            let times = spec.total() / values.len() as u64;
            values.iter().fold(0, |sum: u64, &v| sum.saturating_add(v.saturating_mul(times)))
        }
        _ => spec.train.steps.saturating_mul(spec.total()),
    }
}

impl Trial {
    fn from_record(record: &TrialRecord) -> Trial {
        Trial {
            epoch: record.epoch,
            phase: record.phase,
            failures: record.failures,
            losses: record.losses,
            alone: record.alone,
            checkpoint: record.checkpoint.clone(),
            expires: 0,
            live: Live {
                step: record.checkpoint.as_ref().map_or(0, |c| c.step),
                ..Live::default()
            },
        }
    }

    pub(super) fn record(&self, id: TrialId) -> TrialRecord {
        TrialRecord {
            id,
            epoch: self.epoch,
            phase: self.phase,
            failures: self.failures,
            losses: self.losses,
            alone: self.alone,
            checkpoint: self.checkpoint.clone(),
        }
    }

    pub(super) fn lease(&self, id: TrialId) -> LeaseKey {
        LeaseKey { trial: id, epoch: self.epoch }
    }

    /// Whether `worker` may still report about `epoch`: it holds the lease, or held it last and
    /// nobody was given the trial since.
    pub(super) fn is_held_by(&self, worker: WorkerId, epoch: Epoch) -> bool {
        epoch == self.epoch
            && match self.phase {
                Phase::Leased { worker: holder, .. } => holder == worker,
                Phase::Pending { last_holder } => last_holder == Some(worker),
                Phase::Ended { .. } => false,
            }
    }
}
