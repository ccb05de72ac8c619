//! Who is served next: sweeps by priority, and within a priority by weighted fair share.
//!
//! Every sweep has a *pass*, which a lease moves on by one stride divided by its weight; the sweep
//! with the lowest pass is served next (start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996).
//! One that had nothing to lease for a while starts again where the others are, without a claim to
//! what it left. Of every sixteen leases one goes to the sweep that is furthest behind, whatever
//! its priority, so that nothing starves.

use crate::id::{SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::record::Phase;
use crate::scheduler::event::Now;
use crate::scheduler::state::{Scheduler, Sweep, Trial};

/// What a lease costs a sweep of weight 1.
const STRIDE: u64 = 1 << 20;
/// Every so many leases one goes by pass alone.
const REGARDLESS: u64 = 16;

/// How far the leases are.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// The pass at which the latest lease began.
    pub(super) at: u64,
    /// Leases so far.
    leases: u64,
}

impl Scheduler {
    /// The next trial to lease to a worker: of the sweep whose turn it is those that wait again
    /// before those that were never leased, by index.
    pub(super) fn next_trial(&mut self, worker: WorkerId, now: Now) -> Option<TrialId> {
        let regardless = self.share.leases % REGARDLESS == REGARDLESS - 1;
        let unfair = mutation::on("fair share forgotten");
        let (at, ttl) = (self.share.at, self.config.lease_ttl);
        let mut best: Option<((i32, u64), TrialId)> = None;
        for &id in &self.running {
            let Some(sweep) = self.sweeps.get_mut(&id) else { continue };
            let key = match (unfair, regardless) {
                (true, _) => (0, 0),
                (false, true) => (0, sweep.pass),
                (false, false) => (-sweep.controls.priority, sweep.pass.max(at)),
            };
            if best.is_some_and(|(held, _)| held <= key) || !sweep.has_room() {
                continue;
            }
            if let Some(index) = sweep.next_for(worker, ttl, now) {
                best = Some((key, TrialId { sweep: id, index }));
            }
        }
        best.map(|(_, id)| id)
    }

    /// A trial of the sweep is leased.
    pub(super) fn take_turn(&mut self, sweep: SweepId) {
        let Some(state) = self.sweeps.get_mut(&sweep) else { return };
        let start = state.pass.max(self.share.at);
        state.pass = start.saturating_add(STRIDE / u64::from(state.controls.weight.max(1)));
        self.share.at = start;
        self.share.leases += 1;
    }

    /// Whether some trial could be leased now, were there a slot.
    #[must_use]
    pub fn has_work(&self, now: Now) -> bool {
        self.running.iter().filter_map(|id| self.sweeps.get(id)).any(|sweep| {
            let untouched = sweep.next_index < sweep.grid;
            sweep.has_room() && (untouched || sweep.waiting.has_ready(now.monotonic))
        })
    }
}

impl Sweep {
    /// Whether its limits allow one more lease.
    fn has_room(&self) -> bool {
        self.controls.max_parallel.is_none_or(|most| self.leased < most)
            && self.controls.budget.is_none_or(|budget| self.used < budget)
    }

    fn next_for(&mut self, worker: WorkerId, ttl: u64, now: Now) -> Option<u64> {
        let active = &self.active;
        let mut ready = self.waiting.ready(now.monotonic);
        ready
            .find(|index| {
                !active.get(index).is_none_or(|t| t.is_about_to_be_heard(worker, ttl, now))
            })
            .or_else(|| (self.next_index < self.grid).then_some(self.next_index))
    }
}

impl Trial {
    /// Whether the worker that asks is the one that was cut off with it. It comes back with news
    /// of the trial, perhaps with its result, so it is not given the same trial anew before it had
    /// the time to tell.
    fn is_about_to_be_heard(&self, worker: WorkerId, ttl: u64, now: Now) -> bool {
        matches!(self.phase, Phase::Pending { last_holder: Some(holder) } if holder == worker)
            && now.monotonic < self.expires.saturating_add(ttl / 3)
    }
}
