//! What was committed, kept beside the store by other code, so that the invariants need not trust
//! the store to say what it holds.

use std::collections::BTreeMap;

use deptune_sweep::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::outcome::{Outcome, SweepStatus};
use deptune_sweep::record::{
    AttemptEnd, Controls, Holder, OutcomeRecord, PackMemory, Phase, SweepRecord, TrialRecord,
    WorkerRecord,
};
use deptune_sweep::scheduler::{Scheduler, Write};
use deptune_sweep::spec::Requires;

use super::counters::Counters;
use super::files::FileKey;

/// Everything committed.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Sweeps.
    pub(crate) sweeps: BTreeMap<SweepId, SweepLine>,
    /// Trials with a row.
    pub(crate) trials: BTreeMap<TrialId, TrialLine>,
    /// Who holds which slot.
    pub(crate) slots: BTreeMap<(WorkerId, u32), BTreeMap<TrialId, RequestId>>,
    /// Workers, and whether they are here.
    pub(crate) workers: BTreeMap<WorkerId, (WorkerRecord, bool)>,
    /// Requests that changed a sweep.
    pub(crate) requests: BTreeMap<RequestId, RequestLine>,
    /// Sweeps that were deleted, and the requests that had submitted them.
    pub(crate) deleted: BTreeMap<SweepId, RequestId>,
    /// What packs took, by shape, device and number of trials.
    pub(crate) memories: BTreeMap<(ArtifactHash, String, u32), PackMemory>,
    /// Trials whose standing changed with the commit that is being applied.
    pub(crate) touched: Vec<TrialId>,
}

/// A request that changed a sweep.
#[derive(Debug)]
pub(crate) struct RequestLine {
    /// Which sweep.
    pub(crate) sweep: SweepId,
    /// Hash of what was asked for.
    pub(crate) content: Option<ArtifactHash>,
    /// Whether all trials of the sweep had ended once it was carried out.
    pub(crate) complete: bool,
}

/// A sweep.
#[derive(Debug)]
pub(crate) struct SweepLine {
    /// As inserted.
    pub(crate) record: SweepRecord,
    /// Its limits.
    pub(crate) max_attempts: u32,
    /// What it may use.
    pub(crate) controls: Controls,
    /// What its slots must be like.
    pub(crate) requires: Requires,
    /// Trials of its spec's grid.
    pub(crate) grid: u64,
    /// Trials that were added.
    pub(crate) added: u64,
    /// Trials of the grid with a row.
    pub(crate) rows: u64,
    /// Trials with an outcome.
    pub(crate) ended: u64,
    /// Live leases.
    pub(crate) leased: u32,
}

/// What the batches of a trial follow from: its seed and the rows of each.
pub(crate) type Batches = (u64, u32);

/// A trial.
#[derive(Debug)]
pub(crate) struct TrialLine {
    /// As written last.
    pub(crate) record: TrialRecord,
    /// What its batches follow from.
    pub(crate) batches: Batches,
    /// Its outcome.
    pub(crate) outcome: Option<Box<OutcomeRecord>>,
    /// The file that its row names: its latest checkpoint or, once it has ended, its adapter.
    pub(crate) needs: Option<FileKey>,
    /// To whom each epoch was leased.
    pub(crate) holders: BTreeMap<Epoch, WorkerId>,
    /// How its last attempt ended, until it is leased again.
    pub(crate) last_end: Option<AttemptEnd>,
}

impl Ledger {
    /// What the batches of a trial with a row follow from.
    #[must_use]
    pub(crate) fn batches(&self, trial: TrialId) -> Option<Batches> {
        self.trials.get(&trial).map(|line| line.batches)
    }

    /// Whether a sweep's trials may go to a slot, whoever holds it now.
    #[must_use]
    pub(crate) fn fits(&self, sweep: &SweepLine, holder: Holder) -> bool {
        let worker = self.workers.get(&holder.worker).map(|(record, _)| record);
        worker.is_some_and(|record| {
            let slot = record.slot(holder.slot);
            slot.is_some_and(|slot| sweep.requires.fits(record, slot).is_ok())
        })
    }

    /// Whether a scheduler believes of the packs' memory what was committed.
    ///
    /// # Errors
    /// When it does not.
    pub(crate) fn check_memories(&self, scheduler: &Scheduler) -> Result<(), String> {
        if scheduler.pack_memories().eq(self.memories.values()) {
            return Ok(());
        }
        let believed: Vec<_> = scheduler.pack_memories().collect();
        Err(format!("of packs {believed:?} is believed, the store holds {:?}", self.memories))
    }

    /// The sweep that a request submitted.
    #[must_use]
    pub(crate) fn submitted(&self, request: RequestId) -> Option<SweepId> {
        let here = self.sweeps.values().find(|s| s.record.request_id == request);
        let gone = || self.deleted.iter().find(|(_, of)| **of == request).map(|(&id, _)| id);
        here.map(|s| s.record.id).or_else(gone)
    }

    /// Applies a committed write.
    pub(crate) fn apply(&mut self, write: &Write, counters: &mut Counters) {
        match write {
            Write::Sweep(record) => {
                counters.count("sweep: submitted");
                let spec = record.submission.parse().ok();
                let (limits, requires) = spec.map(|spec| (spec.limits, spec.requires)).unzip();
                let line = SweepLine {
                    max_attempts: limits.as_ref().map_or(u32::MAX, |l| l.max_attempts),
                    controls: record.controls.unwrap_or(Controls {
                        priority: 0,
                        weight: 1,
                        max_parallel: None,
                        budget: None,
                    }),
                    requires: requires.unwrap_or_default(),
                    grid: record.total,
                    added: 0,
                    record: (**record).clone(),
                    rows: 0,
                    ended: 0,
                    leased: 0,
                };
                self.sweeps.insert(record.id, line);
            }
            Write::NextIndex { sweep, next_index } => {
                if let Some(line) = self.sweeps.get_mut(sweep) {
                    line.record.next_index = *next_index;
                }
            }
            Write::SweepStatus { sweep, status, .. } => {
                let before = self.sweeps.get(sweep).map(|line| line.record.status);
                counters.count(match (before, status) {
                    (Some(SweepStatus::Paused), SweepStatus::Finished) => "sweep: paused, finished",
                    (_, SweepStatus::Finished) => "sweep: finished",
                    (_, SweepStatus::Cancelled) => "sweep: cancelled",
                    (_, SweepStatus::Paused) => "sweep: paused",
                    (Some(SweepStatus::Paused), SweepStatus::Running) => "sweep: resumed",
                    (_, SweepStatus::Running) => "sweep: runs again",
                });
                if let Some(line) = self.sweeps.get_mut(sweep) {
                    line.record.status = *status;
                }
            }
            Write::SweepTotal { sweep, total } => {
                if let Some(line) = self.sweeps.get_mut(sweep) {
                    line.record.total = *total;
                }
            }
            Write::Controls { sweep, controls } => {
                counters.count("sweep: changed");
                if let Some(line) = self.sweeps.get_mut(sweep) {
                    line.controls = *controls;
                }
            }
            Write::Used { sweep, used } => {
                if let Some(line) = self.sweeps.get_mut(sweep) {
                    line.record.used = *used;
                }
            }
            // The last of what its event writes.
            Write::Request(record) => {
                let sweep = self.sweeps.get(&record.sweep);
                let complete = sweep.is_none_or(|line| line.ended == line.record.total);
                let content = record.content.clone();
                let line = RequestLine { sweep: record.sweep, content, complete };
                self.requests.insert(record.id, line);
            }
            Write::DeleteSweep { sweep, .. } => {
                counters.count("sweep: deleted");
                if let Some(line) = self.sweeps.remove(sweep) {
                    self.deleted.insert(*sweep, line.record.request_id);
                }
                let last = TrialId { sweep: SweepId(sweep.0 + 1), index: 0 };
                let mut rest = self.trials.split_off(&TrialId { sweep: *sweep, index: 0 });
                self.trials.append(&mut rest.split_off(&last));
            }
            Write::NewTrial { record, settings, .. } => {
                self.put(record, (settings.seed, settings.train.batch_size), counters);
            }
            Write::Trial(record) => {
                let batches = self.batches(record.id).unwrap_or_default();
                self.put(record, batches, counters);
            }
            Write::AttemptStarted(record) => {
                if let Some(line) = self.trials.get_mut(&record.id) {
                    line.holders.insert(record.epoch, record.worker);
                    line.last_end = None;
                }
            }
            Write::AttemptEnded { lease, end, .. } => {
                if let Some(line) = self.trials.get_mut(&lease.trial) {
                    line.last_end = Some(*end);
                }
            }
            Write::Outcome(record) => {
                if let Some(line) = self.trials.get_mut(&record.id) {
                    line.needs = record.adapter.as_ref().map(FileKey::of);
                    line.outcome = Some(record.clone());
                }
            }
            Write::Worker(record) => {
                counters.count(if record.draining {
                    "worker: is to end"
                } else {
                    "worker: registered"
                });
                self.workers.insert(record.id, (record.clone(), true));
            }
            Write::WorkerLeft { worker, .. } => {
                counters.count("worker: gone");
                if let Some(held) = self.workers.get_mut(worker) {
                    held.1 = false;
                }
            }
            Write::PackMemory { memory, .. } => {
                let key = (memory.shape.clone(), memory.device.clone(), memory.members);
                let known = self.memories.insert(key, memory.clone());
                counters.count(match known {
                    None => "pack: measured",
                    Some(_) => "pack: measured, larger",
                });
            }
            Write::AttemptProgress { .. }
            | Write::Evaluation { .. }
            | Write::Space { .. }
            | Write::PackLimit { .. }
            | Write::StaleReport { .. }
            | Write::Log(_) => {}
        }
    }

    fn put(&mut self, record: &TrialRecord, batches: Batches, counters: &mut Counters) {
        let id = record.id;
        let before = self.trials.get(&id).map(|line| line.record.phase);
        let end = self.trials.get(&id).and_then(|line| line.last_end);
        if let Some(name) = transition(before, record.phase, end) {
            counters.count(name);
        }
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        if let Some(held) = before.and_then(|phase| phase.holder()) {
            sweep.leased = sweep.leased.saturating_sub(1);
            let key = (held.worker, held.slot);
            if let Some(pack) = self.slots.get_mut(&key) {
                pack.remove(&id);
                if pack.is_empty() {
                    self.slots.remove(&key);
                }
            }
        }
        if let Some(holder) = record.phase.holder() {
            sweep.leased += 1;
            let pack = self.slots.entry((holder.worker, holder.slot)).or_default();
            pack.insert(id, holder.request_id);
            if pack.len() > 1 {
                counters.count("pack: of several trials");
            }
        }
        match record.added {
            _ if before.is_some() => {}
            Some(added) => {
                counters.count(if added.retry_of.is_some() {
                    "trial: new, runs another again"
                } else if added.origin >= sweep.grid {
                    "trial: new, of an added space"
                } else {
                    "trial: new, another seed"
                });
                sweep.added += 1;
            }
            None => sweep.rows += 1,
        }
        let ended = |phase| matches!(phase, Phase::Ended { .. });
        if ended(record.phase) && !before.is_some_and(ended) {
            sweep.ended += 1;
        }
        let checkpoint = record.checkpoint.as_ref().filter(|_| !ended(record.phase));
        let needs = checkpoint.map(|checkpoint| FileKey::of(&checkpoint.hash));
        match self.trials.get_mut(&id) {
            Some(line) => {
                line.record = record.clone();
                if line.outcome.is_none() {
                    line.needs = needs;
                }
            }
            None => {
                let line = TrialLine {
                    record: record.clone(),
                    batches,
                    outcome: None,
                    needs,
                    holders: BTreeMap::new(),
                    last_end: None,
                };
                self.trials.insert(id, line);
            }
        }
        self.touched.push(id);
    }
}

/// The name of a trial's change of phase; `None` where only its data changed.
fn transition(
    before: Option<Phase>,
    after: Phase,
    end: Option<AttemptEnd>,
) -> Option<&'static str> {
    Some(match (before, after) {
        (None, Phase::Leased(_)) => "trial: new, leased",
        (None, Phase::Ended { .. }) => "trial: new, cancelled",
        (Some(Phase::Pending { last_holder: Some(held) }), Phase::Leased(holder))
            if held == holder =>
        {
            "trial: pending, revived"
        }
        (Some(Phase::Pending { .. }), Phase::Leased(_)) => "trial: pending, leased again",
        (Some(Phase::Leased(_)), Phase::Pending { .. }) => match end {
            Some(AttemptEnd::Expired) => "trial: leased, expired, pending",
            Some(AttemptEnd::Released) => "trial: leased, released, pending",
            _ => "trial: leased, failed, pending",
        },
        (Some(Phase::Leased(_)), Phase::Ended { outcome }) => match outcome {
            Outcome::Succeeded => "trial: leased, succeeded",
            Outcome::Cancelled => "trial: leased, cancelled",
            Outcome::Failed | Outcome::Pruned => "trial: leased, failed for good",
        },
        (Some(Phase::Pending { .. }), Phase::Ended { outcome: Outcome::Cancelled }) => {
            "trial: pending, cancelled"
        }
        (Some(Phase::Pending { .. }), Phase::Ended { .. } | Phase::Pending { .. }) => {
            "trial: pending, late end"
        }
        _ => return None,
    })
}
