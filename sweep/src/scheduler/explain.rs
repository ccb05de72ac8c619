//! Why a trial stands where it stands, for people. Never decides anything.

use std::collections::BTreeMap;
use std::fmt;

use crate::id::TrialId;
use crate::outcome::{Outcome, SweepStatus};
use crate::record::Holder;
use crate::scheduler::event::Now;
use crate::scheduler::placement::Unplaced;
use crate::scheduler::state::{Scheduler, Sweep};

/// Why a trial runs, waits, or does neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Explanation {
    /// It has its outcome.
    Ended(Outcome),
    /// It is leased.
    Running {
        /// Name of the worker.
        worker: String,
        /// Slot of the worker.
        slot: u32,
        /// Other trials of its pack that run with it.
        others: usize,
    },
    /// Its sweep is paused.
    Paused,
    /// It failed, and waits before it is tried again.
    Backoff {
        /// Failures so far.
        failures: u32,
        /// How many there may be.
        max_attempts: u32,
        /// Milliseconds left.
        left: u64,
    },
    /// As many trials of its sweep run as may.
    MaxParallel(u32),
    /// Its sweep's budget is used up; it is about to be cancelled.
    Budget,
    /// No worker can take it.
    Unplaced(Unplaced),
    /// Every slot is taken.
    NoFreeSlot {
        /// How many slots there are.
        slots: usize,
        /// Trials of its sweep that are leased before it.
        before: u64,
    },
    /// A slot is free: it, or one before it, is leased when its worker asks.
    Soon {
        /// Trials of its sweep that are leased before it.
        before: u64,
    },
}

impl Explanation {
    /// One word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Explanation::Ended(_) => "ended",
            Explanation::Running { .. } => "running",
            Explanation::Paused => "paused",
            Explanation::Backoff { .. } => "backoff",
            Explanation::MaxParallel(_) => "max_parallel",
            Explanation::Budget => "budget",
            Explanation::Unplaced(Unplaced::NoWorker) => "no_worker",
            Explanation::Unplaced(Unplaced::NoFit { .. }) => "no_fit",
            Explanation::NoFreeSlot { .. } => "no_free_slot",
            Explanation::Soon { .. } => "soon",
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Explanation::Ended(outcome) => write!(f, "it has ended: {outcome}"),
            Explanation::Running { worker, slot, others } => {
                write!(f, "it runs on slot {slot} of worker {worker}")?;
                match others {
                    0 => Ok(()),
                    1 => f.write_str(", together with 1 other trial"),
                    others => write!(f, ", together with {others} other trials"),
                }
            }
            Explanation::Paused => f.write_str("its sweep is paused"),
            Explanation::Backoff { failures, max_attempts, left } => write!(
                f,
                "it failed {failures} of at most {max_attempts} times, and is tried again in {} s",
                left.div_ceil(1000)
            ),
            Explanation::MaxParallel(most) => {
                write!(f, "as many trials of its sweep run as may at once: {most}")
            }
            Explanation::Budget => f.write_str("its sweep's budget is used up"),
            Explanation::Unplaced(unplaced) => unplaced.fmt(f),
            Explanation::NoFreeSlot { slots, before } => write!(
                f,
                "all slots are taken ({slots}); {before} trials of its sweep come before it"
            ),
            Explanation::Soon { before } => write!(
                f,
                "a slot is free and is filled when its worker asks; {before} trials of its sweep \
                 come before it"
            ),
        }
    }
}

impl Scheduler {
    /// Why a trial stands where it stands; `None` where there is no such trial.
    #[must_use]
    pub fn explain(&self, id: TrialId) -> Option<Explanation> {
        let sweep = self.sweeps.get(&id.sweep).filter(|sweep| id.index < sweep.total)?;
        if let Some(ended) = sweep.ended.get(&id.index) {
            return Some(Explanation::Ended(ended.outcome));
        }
        let trial = sweep.active.get(&id.index);
        if let Some(Holder { worker, slot, .. }) = trial.and_then(|t| t.phase.holder()) {
            let known = self.workers.get(&worker);
            let name = known.map_or_else(|| worker.to_string(), |w| w.record.name.clone());
            let busy = known.and_then(|known| known.slots.get(&slot));
            let others = busy.map_or(0, |busy| busy.trials.len().saturating_sub(1));
            return Some(Explanation::Running { worker: name, slot, others });
        }
        if sweep.status == SweepStatus::Paused {
            return Some(Explanation::Paused);
        }
        if let Some(trial) = trial
            && let Some(left) = sweep.waiting.get(id.index).and_then(|at| at.checked_sub(self.now))
            && left > 0
        {
            let (failures, max_attempts) = (trial.failures, sweep.spec().limits.max_attempts);
            return Some(Explanation::Backoff { failures, max_attempts, left });
        }
        if sweep.controls.budget.is_some_and(|budget| sweep.used >= budget) {
            return Some(Explanation::Budget);
        }
        if let Some(most) = sweep.controls.max_parallel.filter(|most| sweep.leased >= *most) {
            return Some(Explanation::MaxParallel(most));
        }
        let now = Now { monotonic: self.now, wall: 0 };
        if let Some(unplaced) = self.unplaced(id.sweep) {
            return Some(Explanation::Unplaced(unplaced));
        }
        let (mut slots, mut taken, mut barred) = (0, 0, BTreeMap::new());
        for (worker, slot) in self.slots_for(sweep) {
            if self.is_barred(worker.record.id, now) {
                barred.insert(worker.record.name.clone(), "is in quarantine".to_owned());
            } else {
                slots += 1;
                taken += usize::from(worker.slots.contains_key(&slot.slot));
            }
        }
        if slots == 0 {
            let reasons = barred.into_iter().collect();
            return Some(Explanation::Unplaced(Unplaced::NoFit { reasons, more: 0 }));
        }
        let before = sweep.before(id.index);
        Some(if taken >= slots {
            Explanation::NoFreeSlot { slots, before }
        } else {
            Explanation::Soon { before }
        })
    }
}

impl Sweep {
    /// Trials that are leased before the one at `index`: those that wait again, by index, then
    /// those of the grid that were never leased.
    fn before(&self, index: u64) -> u64 {
        let again = self.waiting.indexes();
        if self.waiting.get(index).is_some() {
            return again.filter(|other| *other < index).count() as u64;
        }
        let untouched = (self.next_index..index).filter(|&other| !self.has_row(other));
        again.count() as u64 + untouched.count() as u64
    }
}
