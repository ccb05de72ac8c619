//! What the scheduler remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::footprint::ModelSize;
use crate::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::model::ModelConfig;
use crate::mutation;
use crate::outcome::{Outcome, SweepStatus};
use crate::points::{Points, steps_of_grid};
use crate::record::{
    Added, CheckpointRef, Controls, DeletedRecord, Holder, LogEntry, LogRecord, Phase, SpaceText,
    SweepRecord, TrialRecord, WorkerRecord,
};
use crate::scheduler::event::{Effect, LeaseKey, Now, Step, Write};
use crate::scheduler::memory::Learnt;
use crate::scheduler::quarantine::Health;
use crate::scheduler::request::Asked;
use crate::scheduler::share::{Place, Share};
use crate::scheduler::waiting::Waiting;
use crate::spec::{Settings, Spec};

/// Times and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Milliseconds for which a lease lives without a heartbeat.
    pub lease_ttl: u64,
    /// Losses of one trial that cost it no attempt. Each further one counts as a failure.
    pub free_losses: u32,
    /// Milliseconds of the first wait after a failure; doubles with each.
    pub backoff_base: u64,
    /// Longest wait after a failure, in milliseconds.
    pub backoff_cap: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config { lease_ttl: 30_000, free_losses: 2, backoff_base: 1_000, backoff_cap: 60_000 }
    }
}

/// See the [module](crate::scheduler).
#[derive(Debug)]
pub struct Scheduler {
    pub(super) config: Config,
    pub(super) sweeps: BTreeMap<SweepId, Sweep>,
    /// Requests that were carried out.
    pub(super) requests: BTreeMap<RequestId, Asked>,
    /// Sweeps that were deleted.
    pub(super) deleted: BTreeMap<SweepId, DeletedRecord>,
    /// Sweeps that may lease.
    pub(super) running: BTreeSet<SweepId>,
    /// Sweeps with a budget that have not ended.
    pub(super) budgeted: BTreeSet<SweepId>,
    pub(super) share: Share,
    pub(super) workers: BTreeMap<WorkerId, Worker>,
    /// Counts the changes of which slots there are.
    pub(super) fleet: u64,
    /// What was learnt of the memory that packs take.
    pub(super) learnt: Learnt,
    /// Expiry of every live lease, soonest first.
    pub(super) expiries: BTreeSet<(u64, TrialId)>,
    pub(super) next_cursor: u64,
    /// Monotonic time of the latest event.
    pub(super) now: u64,
    /// Monotonic time of the latest tick.
    pub(super) ticked: Option<u64>,
}

/// A sweep in memory.
#[derive(Debug)]
pub(super) struct Sweep {
    pub(super) record: Arc<SweepRecord>,
    pub(super) points: Points,
    /// The spaces that were added, as they were given.
    pub(super) spaces: Vec<SpaceText>,
    /// Its model's shape; a submission that was accepted has one.
    pub(super) model: Option<ModelSize>,
    /// What its trials' shapes begin with.
    pub(super) shape: String,
    pub(super) status: SweepStatus,
    pub(super) controls: Controls,
    /// Trials of the spec's grid.
    pub(super) grid: u64,
    /// All trials: those of the grid and those that were added.
    pub(super) total: u64,
    /// First index of the grid that was never leased and has not ended.
    pub(super) next_index: u64,
    /// The added trials.
    pub(super) added: BTreeMap<u64, Added>,
    /// Trials that are run again, and by which.
    pub(super) retries: BTreeMap<u64, u64>,
    /// Where it is in the order of service.
    pub(super) place: Place,
    /// Milliseconds of slots that it used, and as written last.
    pub(super) used: u64,
    pub(super) used_written: u64,
    /// Trials that were leased and have no outcome.
    pub(super) active: BTreeMap<u64, Trial>,
    /// Those of `active` that wait.
    pub(super) waiting: Waiting,
    /// Trials with an outcome.
    pub(super) ended: BTreeMap<u64, Ended>,
    /// Live leases.
    pub(super) leased: u32,
    /// How many slots there are for its trials, and the state of the fleet at which they were
    /// counted.
    pub(super) slots: Option<(u64, u64)>,
    /// How much of its running trials is left, in thousandths of a trial, and when that was
    /// counted.
    pub(super) under_way: Option<(u64, u64)>,
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
    /// Trials that its latest lease's pack began with.
    pub(super) pack_members: u32,
    pub(super) checkpoint: Option<CheckpointRef>,
    /// Why it exists, unless it is one of the grid.
    pub(super) added: Option<Added>,
    /// When the lease expires, or did; meaningful while leased and while its holder may report.
    pub(super) expires: u64,
    /// How much of it is left, in thousandths, as counted in its sweep's sum.
    pub(super) left: u64,
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
    /// What its slots are busy with.
    pub(super) slots: BTreeMap<u32, Busy>,
    /// Monotonic time at which it was last heard.
    pub(super) seen: u64,
    pub(super) health: Health,
    /// Whether a later run of the same agent has taken its place.
    pub(super) replaced: bool,
}

/// What a slot is busy with.
#[derive(Debug)]
pub(super) struct Busy {
    /// Those of the pack that are still leased: trials of one sweep, at least one.
    pub(super) trials: BTreeSet<TrialId>,
    /// The exchange that granted them.
    pub(super) request_id: RequestId,
    /// Monotonic time up to which the slot's use is counted.
    pub(super) charged: u64,
    /// Whether another exchange asked for the slot meanwhile, and waits: the child has ended, its
    /// report is under way.
    pub(super) awaited: bool,
}

impl Worker {
    /// One that holds nothing.
    pub(super) fn new(record: WorkerRecord, now: Now) -> Worker {
        let health = Health::default();
        Worker { record, slots: BTreeMap::new(), seen: now.monotonic, health, replaced: false }
    }

    /// A slot works for a trial, alone or with the rest of its pack.
    pub(super) fn occupy(&mut self, holder: Holder, trial: TrialId, now: Now) {
        let request_id = holder.request_id;
        let (trials, charged) = (BTreeSet::new(), now.monotonic);
        let new = || Busy { trials, request_id, charged, awaited: false };
        self.slots.entry(holder.slot).or_insert_with(new).trials.insert(trial);
    }

    /// A slot does not work for a trial any more; it is free once no trial is left. Returns whether
    /// somebody waits for it then.
    pub(super) fn vacate(&mut self, slot: u32, trial: TrialId) -> bool {
        let Some(busy) = self.slots.get_mut(&slot) else { return false };
        busy.trials.remove(&trial);
        let awaited = busy.trials.is_empty() && busy.awaited;
        if busy.trials.is_empty() {
            self.slots.remove(&slot);
        }
        awaited
    }
}

impl Scheduler {
    /// An empty scheduler.
    #[must_use]
    pub fn new(config: Config) -> Scheduler {
        Scheduler {
            config,
            sweeps: BTreeMap::new(),
            requests: BTreeMap::new(),
            deleted: BTreeMap::new(),
            running: BTreeSet::new(),
            budgeted: BTreeSet::new(),
            share: Share::default(),
            workers: BTreeMap::new(),
            fleet: 0,
            learnt: Learnt::default(),
            expiries: BTreeSet::new(),
            next_cursor: 1,
            now: 0,
            ticked: None,
        }
    }

    /// Files a sweep by its status.
    pub(super) fn note_status(&mut self, id: SweepId) {
        let Some(sweep) = self.sweeps.get(&id) else { return };
        let running = match sweep.status {
            SweepStatus::Running => true,
            SweepStatus::Paused => mutation::on("a paused sweep leases"),
            SweepStatus::Finished | SweepStatus::Cancelled => false,
        };
        if running {
            self.running.insert(id);
        } else {
            self.running.remove(&id);
        }
        if sweep.controls.budget.is_some() && !sweep.status.is_over() {
            self.budgeted.insert(id);
        } else {
            self.budgeted.remove(&id);
        }
    }

    /// Who holds the lease of a trial, if there is one.
    pub(super) fn holder(&self, id: TrialId) -> Option<Holder> {
        self.sweeps.get(&id.sweep)?.active.get(&id.index)?.phase.holder()
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

    /// Takes the lease of a trial away from its slot and from the expiry queue, and counts its
    /// time.
    pub(super) fn disarm(&mut self, id: TrialId, now: Now, step: &mut Step) {
        if !mutation::on("an attempt's last seconds are not counted") {
            self.charge(id, now, step);
        }
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(trial) = sweep.active.get(&id.index) else { return };
        if let Phase::Leased(holder) = trial.phase {
            self.expiries.remove(&(trial.expires, id));
            sweep.leased = sweep.leased.saturating_sub(1);
            if let Some((_, sum)) = &mut sweep.under_way {
                *sum = sum.saturating_sub(trial.left);
            }
            if let Some(worker) = self.workers.get_mut(&holder.worker)
                && worker.vacate(holder.slot, id)
            {
                step.effects.push(Effect::WorkAvailable);
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
        let used = if mutation::on("use forgotten on restart") { 0 } else { record.used };
        Sweep {
            steps_ended: 0,
            steps_total: steps_of_grid(&spec),
            controls: record.controls.unwrap_or_else(|| spec.limits.controls()),
            grid: spec.total(),
            total: record.total,
            model: ModelConfig::parse("config.json", &record.submission.model_config)
                .ok()
                .map(ModelSize::new),
            shape: format!("({:?}, {:?}, ", record.submission.model_config, spec.method.as_str()),
            points: Points::new(spec),
            spaces: Vec::new(),
            status: record.status,
            next_index: record.next_index,
            added: BTreeMap::new(),
            retries: BTreeMap::new(),
            place: Place::default(),
            used,
            used_written: used,
            record: Arc::new(record),
            active: BTreeMap::new(),
            waiting: Waiting::default(),
            ended: BTreeMap::new(),
            leased: 0,
            slots: None,
            under_way: None,
        }
    }

    pub(super) fn spec(&self) -> &Spec {
        self.points.spec()
    }

    /// Everything that a trial's training depends on.
    pub(super) fn settings(&self, index: u64) -> Option<Settings> {
        let Some(added) = self.added.get(&index) else { return self.points.settings(index) };
        let mut settings = self.points.settings(added.origin)?;
        settings.seed = added.seed;
        Some(settings)
    }

    /// Updates of a trial.
    pub(super) fn steps(&self, index: u64) -> u64 {
        self.points.steps(self.point(index))
    }

    /// Number of a trial's configuration.
    pub(super) fn configuration(&self, index: u64) -> u64 {
        self.points.configuration(self.point(index))
    }

    /// The point whose settings a trial has, but for the seed.
    pub(super) fn point(&self, index: u64) -> u64 {
        self.added.get(&index).map_or(index, |added| added.origin)
    }

    /// The sweep has this many trials now.
    pub(super) fn set_total(&mut self, total: u64) {
        self.total = total;
        Arc::make_mut(&mut self.record).total = total;
    }

    /// Remembers a trial's outcome.
    pub(super) fn end(&mut self, index: u64, ended: Ended) {
        self.steps_ended = self.steps_ended.saturating_add(self.steps(index));
        self.ended.insert(index, ended);
    }

    /// Whether a trial has a row in the store.
    pub(super) fn has_row(&self, index: u64) -> bool {
        self.active.contains_key(&index) || self.ended.contains_key(&index)
    }

    /// Goes on behind the trials that were leased or cancelled, be it before their turn.
    pub(super) fn skip_known(&mut self) {
        while self.next_index < self.grid && self.has_row(self.next_index) {
            self.next_index += 1;
        }
    }

    /// Whether every trial has an outcome.
    pub(super) fn is_complete(&self) -> bool {
        self.ended.len() as u64 == self.total
    }
}

impl Trial {
    /// A trial of which nothing is known yet.
    pub(super) fn new(epoch: Epoch, phase: Phase, added: Option<Added>) -> Trial {
        Trial {
            epoch,
            phase,
            failures: 0,
            losses: 0,
            alone: false,
            pack_members: 1,
            checkpoint: None,
            added,
            expires: 0,
            left: 0,
            live: Live::default(),
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
            pack_members: self.pack_members,
            checkpoint: self.checkpoint.clone(),
            added: self.added,
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
                Phase::Leased(holder) => holder.worker == worker,
                Phase::Pending { last_holder } => last_holder.is_some_and(|h| h.worker == worker),
                Phase::Ended { .. } => false,
            }
    }
}
