//! Which trials train together: those of one sweep that see the same batches and masks (equal
//! seed, training settings and step), as many as a slot holds, and no more than keep all slots
//! equally busy.

use crate::id::{TrialId, WorkerId};
use crate::record::SlotRecord;
use crate::scheduler::event::Now;
use crate::scheduler::state::{Scheduler, Sweep};
use crate::spec::{Cohort, Method};

/// Most trials looked at when a pack is formed.
const WINDOW: usize = 1024;

/// Milliseconds for which it is believed how much of the running trials is left.
const RECOUNT: u64 = 500;

impl Scheduler {
    /// Trials that join `first`, which is about to be leased to a worker's slot.
    pub(super) fn companions(
        &self,
        first: TrialId,
        worker: WorkerId,
        slot: u32,
        now: Now,
    ) -> Vec<TrialId> {
        let Some(sweep) = self.sweeps.get(&first.sweep) else { return Vec::new() };
        let slot = self.workers.get(&worker).and_then(|known| known.record.slot(slot));
        let most = slot.map_or(1, |slot| self.most_members(sweep, first.index, slot));
        if most < 2 {
            return Vec::new();
        }
        let mut found = sweep.cohort_of(first.index, worker, self.config.lease_ttl, now);
        // A cohort larger than a pack makes packs of equal size.
        let all = found.len() as u64 + 1;
        let each = all.div_ceil(all.div_ceil(u64::from(most)).max(1));
        found.truncate(usize::try_from(each).unwrap_or(usize::MAX).saturating_sub(1));
        found.into_iter().map(|index| TrialId { sweep: first.sweep, index }).collect()
    }

    /// Most trials of the pack that `index` is to be in.
    fn most_members(&self, sweep: &Sweep, index: u64, slot: &SlotRecord) -> u32 {
        let bounds = [sweep.spec().limits.max_pack, sweep.room()];
        let mut most = bounds.into_iter().flatten().fold(slot.max_pack, u32::min);
        let alone = sweep.active.get(&index).is_some_and(|trial| trial.alone);
        if most < 2 || alone || sweep.spec().method == Method::Full {
            return 1;
        }
        most = most.min(self.members_that_fit(sweep, index, slot));
        let slots = sweep.slots.map_or(1, |(slots, _)| slots);
        most.min(sweep.even_pack(slots.max(1), most.max(1)))
    }
}

impl Sweep {
    /// How many more trials `max_parallel` allows; `None` without a bound.
    pub(super) fn room(&self) -> Option<u32> {
        self.controls.max_parallel.map(|most| most.saturating_sub(self.leased))
    }

    /// Counts how much of the running trials is left, unless that was done just now: it goes
    /// through all of them.
    pub(super) fn count_under_way(&mut self, now: Now) {
        if self.under_way.is_some_and(|(at, _)| now.monotonic < at.saturating_add(RECOUNT)) {
            return;
        }
        let running = self.active.iter().filter(|(_, trial)| trial.phase.holder().is_some());
        let left: Vec<(u64, u64)> =
            running.map(|(&index, _)| (index, self.left_of(index))).collect();
        self.under_way = Some((now.monotonic, left.iter().map(|(_, left)| left).sum()));
        for (index, left) in left {
            if let Some(trial) = self.active.get_mut(&index) {
                trial.left = left;
            }
        }
    }

    /// How much of a trial is left, in thousandths.
    fn left_of(&self, index: u64) -> u64 {
        let (steps, trial) = (self.steps(index).max(1), self.active.get(&index));
        let made = trial.map_or(0, |trial| trial.live.step);
        steps.saturating_sub(made).saturating_mul(1000) / steps
    }

    /// A trial is leased.
    pub(super) fn count_lease(&mut self, index: u64) {
        self.leased += 1;
        let left = self.left_of(index);
        if let Some(trial) = self.active.get_mut(&index) {
            trial.left = left;
        }
        if let Some((_, sum)) = &mut self.under_way {
            *sum = sum.saturating_add(left);
        }
    }

    /// The size of packs with which all slots have equally much to do until the sweep's end, which
    /// then comes soonest.
    fn even_pack(&self, slots: u64, most: u32) -> u32 {
        let ended = self.ended.len() as u64 + u64::from(self.leased);
        let left = self.total.saturating_sub(ended);
        let at_once = slots.saturating_mul(u64::from(most));
        if left >= at_once.saturating_mul(2) {
            return most;
        }
        // In thousandths of a trial.
        let under_way = self.under_way.map_or(0, |(_, left)| left);
        let work = left.saturating_mul(1000).saturating_add(under_way);
        let rounds = work.div_ceil(at_once.saturating_mul(1000)).max(1);
        let even = work.div_ceil(slots.saturating_mul(rounds).saturating_mul(1000));
        u32::try_from(even).unwrap_or(u32::MAX).clamp(1, most)
    }

    /// The other trials that may be leased now and train with the one at `first`: those that wait
    /// again, then those of the grid that were never leased, each by index.
    fn cohort_of(&self, first: u64, worker: WorkerId, ttl: u64, now: Now) -> Vec<u64> {
        let Some(cohort) = self.cohort(first) else { return Vec::new() };
        let step = self.first_step(first);
        let fits = |&index: &u64| {
            index != first && self.cohort(index).is_some_and(|other| cohort.takes(&other))
        };
        let again = self.waiting.ready_now().filter(|index| {
            self.active
                .get(index)
                .is_some_and(|trial| !trial.alone && !trial.is_about_to_be_heard(worker, ttl, now))
                && self.first_step(*index) == step
        });
        let again = again.take(WINDOW).filter(fits);
        let untouched = if step == 0 { self.spec().cohort_indexes(&cohort) } else { None };
        let untouched = untouched.into_iter().flat_map(|(offset, stride)| {
            // The first of the cohort that is not below `next_index`.
            let behind = self.next_index.saturating_sub(offset).div_ceil(stride.max(1));
            let from = offset.saturating_add(behind.saturating_mul(stride));
            (from..self.grid).step_by(usize::try_from(stride).unwrap_or(usize::MAX))
        });
        let untouched = untouched.take(WINDOW).filter(|&index| !self.has_row(index)).filter(fits);
        again.chain(untouched).collect()
    }

    /// What a trial has in common with those that it may train with.
    fn cohort(&self, index: u64) -> Option<Cohort> {
        let Some(added) = self.added.get(&index) else { return self.points.cohort(index) };
        Some(Cohort { seed: added.seed, ..self.points.cohort(added.origin)? })
    }

    /// The step from which a trial would start.
    fn first_step(&self, index: u64) -> u64 {
        let checkpoint = self.active.get(&index).and_then(|trial| trial.checkpoint.as_ref());
        checkpoint.map_or(0, |checkpoint| checkpoint.step)
    }
}
