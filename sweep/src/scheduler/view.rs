//! Read-only looks at the scheduler, for watchers. Never decide anything.

use std::ops::Bound;
use std::sync::Arc;

use crate::id::{Epoch, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::record::{SlotRecord, SpaceText, SweepRecord, WorkerRecord};
use crate::scheduler::state::{Scheduler, Worker};

/// How a sweep stands right now.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepProgress {
    /// The leased trials, by index.
    pub running: Vec<RunningTrial>,
    /// Trials that wait: never leased, or to be leased again.
    pub pending: u64,
    /// Updates per second, all running trials together.
    pub steps_per_second: f64,
    /// Updates made by ended and running trials; an ended trial counts in full.
    pub steps_done: u64,
    /// Updates of the whole sweep.
    pub steps_total: u64,
}

/// A leased trial.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningTrial {
    /// The trial.
    pub trial: TrialId,
    /// Epoch of its lease.
    pub epoch: Epoch,
    /// Name of its worker.
    pub worker: String,
    /// Updates made.
    pub step: u64,
    /// Updates to make.
    pub steps: u64,
    /// Training loss of the last step, if there was one.
    pub loss: Option<Number>,
    /// Updates per second.
    pub steps_per_second: f64,
}

/// A registered worker and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerStatus {
    /// The worker.
    pub record: WorkerRecord,
    /// The trials of each of its slots.
    pub busy: Vec<Vec<TrialId>>,
    /// Milliseconds since it was heard last.
    pub silent: u64,
    /// Milliseconds for which it gets nothing, because trial after trial failed on it.
    pub quarantine: u64,
}

impl Scheduler {
    /// Registered workers by id, after `after`, at most `limit`, as of the latest event.
    #[must_use]
    pub fn workers(&self, after: Option<WorkerId>, limit: usize) -> Vec<WorkerStatus> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let status = |worker: &Worker| {
            let trials = |slot: &SlotRecord| {
                let busy = worker.slots.get(&slot.slot);
                busy.map(|busy| busy.trials.iter().copied().collect()).unwrap_or_default()
            };
            WorkerStatus {
                record: worker.record.clone(),
                busy: worker.record.slots.iter().map(trials).collect(),
                silent: self.now.saturating_sub(worker.seen),
                quarantine: worker.health.quarantine_left(self.now),
            }
        };
        let found = self.workers.range((from, Bound::Unbounded)).map(|(_, worker)| worker);
        found.take(limit).map(status).collect()
    }

    /// A sweep as it was submitted.
    #[must_use]
    pub fn record(&self, id: SweepId) -> Option<Arc<SweepRecord>> {
        self.sweeps.get(&id).map(|sweep| sweep.record.clone())
    }

    /// The spaces that were added to a sweep, in order.
    #[must_use]
    pub fn spaces(&self, id: SweepId) -> Vec<SpaceText> {
        self.sweeps.get(&id).map(|sweep| sweep.spaces.clone()).unwrap_or_default()
    }

    /// How a sweep stands.
    #[must_use]
    pub fn progress(&self, id: SweepId) -> Option<SweepProgress> {
        let sweep = self.sweeps.get(&id)?;
        let steps_of = |index| sweep.steps(index);
        let mut running = Vec::new();
        let mut steps_done = sweep.steps_ended;
        for (&index, trial) in &sweep.active {
            steps_done += trial.live.step;
            let Some(holder) = trial.phase.holder() else { continue };
            running.push(RunningTrial {
                trial: TrialId { sweep: id, index },
                epoch: trial.epoch,
                worker: self
                    .workers
                    .get(&holder.worker)
                    .map_or_else(String::new, |w| w.record.name.clone()),
                step: trial.live.step,
                steps: steps_of(index),
                loss: trial.live.loss,
                steps_per_second: trial.live.steps_per_second,
            });
        }
        Some(SweepProgress {
            steps_per_second: running.iter().map(|r| r.steps_per_second).sum(),
            pending: sweep.total
                - sweep.ended.len() as u64
                - u64::try_from(running.len()).unwrap_or(u64::MAX),
            running,
            steps_done,
            steps_total: sweep.steps_total,
        })
    }

    /// Registered workers and their slots.
    #[must_use]
    pub fn capacity(&self) -> (u32, u32) {
        let slots: usize = self.workers.values().map(|w| w.record.slots.len()).sum();
        (self.workers.len() as u32, slots as u32)
    }
}
