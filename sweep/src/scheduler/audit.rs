//! The scheduler's memory, looked at from outside: what it believes of a trial, and whether its
//! parts agree with each other. Never decides anything.

use crate::id::{Epoch, SweepId, TrialId, WorkerId};
use crate::outcome::SweepStatus;
use crate::record::{CheckpointRef, Controls, Phase};
use crate::scheduler::event::Now;
use crate::scheduler::state::{Busy, Scheduler, Sweep};

/// What the scheduler believes of a trial that has a row in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Epoch of its latest lease or its cancellation.
    pub epoch: Epoch,
    /// Where it stands.
    pub phase: Phase,
    /// Failures that count; 0 once it has ended.
    pub failures: u32,
    /// Losses that count; 0 once it has ended.
    pub losses: u32,
    /// Whether it runs alone from now on; `false` once it has ended.
    pub alone: bool,
    /// Trials that its latest lease's pack began with; 0 once it has ended.
    pub pack_members: u32,
    /// Its latest checkpoint; `None` once it has ended.
    pub checkpoint: Option<CheckpointRef>,
    /// Monotonic time before which it is not leased again, for a trial that waits.
    pub not_before: Option<u64>,
}

/// Two parts of the scheduler's memory that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler contradicts itself: {0}")]
pub struct Contradiction(String);

impl Scheduler {
    /// What is believed of a trial; `None` for one that was never leased.
    #[must_use]
    pub fn standing(&self, id: TrialId) -> Option<Standing> {
        let sweep = self.sweeps.get(&id.sweep)?;
        if let Some(ended) = sweep.ended.get(&id.index) {
            return Some(Standing {
                epoch: ended.epoch,
                phase: Phase::Ended { outcome: ended.outcome },
                failures: 0,
                losses: 0,
                alone: false,
                pack_members: 0,
                checkpoint: None,
                not_before: None,
            });
        }
        let trial = sweep.active.get(&id.index)?;
        Some(Standing {
            epoch: trial.epoch,
            phase: trial.phase,
            failures: trial.failures,
            losses: trial.losses,
            alone: trial.alone,
            pack_members: trial.pack_members,
            checkpoint: trial.checkpoint.clone(),
            not_before: sweep.waiting.get(id.index),
        })
    }

    /// What is believed of a sweep: whether it may lease, its limits, and the milliseconds of slots
    /// that it used.
    #[must_use]
    pub fn sweep_standing(&self, id: SweepId) -> Option<(SweepStatus, Controls, u64)> {
        self.sweeps.get(&id).map(|sweep| (sweep.status, sweep.controls, sweep.used))
    }

    /// The trials that were leased and have no outcome, with when a live lease expires.
    pub fn active(&self) -> impl Iterator<Item = (TrialId, Option<u64>)> {
        self.sweeps.iter().flat_map(|(&sweep, state)| {
            state.active.iter().map(move |(&index, trial)| {
                let leased = matches!(trial.phase, Phase::Leased(_));
                (TrialId { sweep, index }, leased.then_some(trial.expires))
            })
        })
    }

    /// Whether a worker is registered.
    #[must_use]
    pub fn knows(&self, worker: WorkerId) -> bool {
        self.workers.contains_key(&worker)
    }

    /// Looks at everything in memory. Takes time in proportion to it.
    ///
    /// # Errors
    /// Names the first contradiction.
    pub fn audit(&self, now: Now) -> Result<(), Contradiction> {
        let wrong = |text: String| Err(Contradiction(text));
        let mut expiries = 0;
        for (&id, sweep) in &self.sweeps {
            check_counts(id, sweep)?;
            if let Some((counted, fleet)) = sweep.slots
                && fleet == self.fleet
                && counted != self.slots_for(sweep).count() as u64
            {
                return wrong(format!("sweep {id} counts {counted} slots, there are others"));
            }
            for (&index, trial) in &sweep.active {
                let trial_id = TrialId { sweep: id, index };
                let waits = sweep.waiting.get(index).is_some();
                match trial.phase {
                    Phase::Leased(holder) => {
                        if waits {
                            return wrong(format!("trial {trial_id} is leased and waits"));
                        }
                        let known = self.workers.get(&holder.worker);
                        let busy = known.and_then(|known| known.slots.get(&holder.slot));
                        if !busy.is_some_and(|busy| busy.trials.contains(&trial_id)) {
                            let text = format!("trial {trial_id} is leased to a slot without it");
                            return wrong(text);
                        }
                        if busy.is_some_and(|busy| busy.request_id != holder.request_id) {
                            return wrong(format!("trial {trial_id} is in another's pack"));
                        }
                        if !self.expiries.contains(&(trial.expires, trial_id)) {
                            return wrong(format!("the lease of {trial_id} never expires"));
                        }
                        expiries += 1;
                    }
                    Phase::Pending { .. } if !waits => {
                        return wrong(format!("trial {trial_id} is pending and does not wait"));
                    }
                    Phase::Pending { .. } => {}
                    Phase::Ended { .. } => {
                        return wrong(format!("trial {trial_id} has ended and is active"));
                    }
                }
            }
        }
        if expiries != self.expiries.len() {
            return wrong(format!("{} expiries of {expiries} leases", self.expiries.len()));
        }
        if let Some(memory) = self.learnt.contradiction() {
            return wrong(format!("no pack of {} took {} bytes", memory.members, memory.bytes));
        }
        for (&worker, known) in &self.workers {
            if known.seen > now.monotonic {
                return wrong(format!("worker {worker} was heard in the future"));
            }
            for (&slot, busy) in &known.slots {
                self.check_slot(worker, slot, busy)?;
            }
        }
        Ok(())
    }

    /// A slot works for trials of one sweep that are leased to it.
    fn check_slot(&self, worker: WorkerId, slot: u32, busy: &Busy) -> Result<(), Contradiction> {
        let wrong = |text: String| Err(Contradiction(format!("slot {slot} of {worker} {text}")));
        let Some(first) = busy.trials.first() else { return wrong("is busy with nothing".into()) };
        for &trial in &busy.trials {
            let holder = self.holder(trial);
            if holder.map(|holder| (holder.worker, holder.slot)) != Some((worker, slot)) {
                return wrong(format!("holds {trial}, which is not leased to it"));
            }
            if trial.sweep != first.sweep {
                return wrong(format!("works for {first} and {trial} at once"));
            }
        }
        Ok(())
    }
}

fn check_counts(id: SweepId, sweep: &Sweep) -> Result<(), Contradiction> {
    let wrong = |text: String| Err(Contradiction(format!("sweep {id}: {text}")));
    let leased = sweep.active.values().filter(|t| matches!(t.phase, Phase::Leased(_))).count();
    if leased as u64 != u64::from(sweep.leased) {
        return wrong(format!("{} leases are counted, {leased} are there", sweep.leased));
    }
    if let Some((_, sum)) = sweep.under_way {
        let running = sweep.active.values().filter(|t| matches!(t.phase, Phase::Leased(_)));
        let left: u64 = running.map(|trial| trial.left).sum();
        if left != sum {
            return wrong(format!("{sum} thousandths of trials are under way, {left} are there"));
        }
    }
    let known = (sweep.active.len() + sweep.ended.len()) as u64;
    let above = sweep.next_index..sweep.grid;
    let early = sweep.ended.range(above.clone()).count()
        + sweep.active.range(above).count()
        + sweep.added.len();
    if known != sweep.next_index + early as u64
        || sweep.active.keys().any(|i| sweep.ended.contains_key(i))
    {
        return wrong(format!("{known} trials are known, {} have a row", sweep.next_index));
    }
    if sweep.next_index > sweep.grid || sweep.total != sweep.grid + sweep.added.len() as u64 {
        let (next, grid, total) = (sweep.next_index, sweep.grid, sweep.total);
        return wrong(format!("{next} of {grid} trials have a row, {total} there are"));
    }
    if let Some(index) = sweep.waiting.indexes().find(|i| !sweep.active.contains_key(i)) {
        return wrong(format!("trial {index} waits and is not active"));
    }
    Ok(())
}
