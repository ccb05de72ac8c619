//! Who is served next: sweeps by priority, and within a priority by weighted fair share.
//!
//! Every sweep has a *pass*, which each of its leases moves on by one stride divided by its weight;
//! of the sweeps of the highest priority the one with the lowest pass is served next (start-time
//! fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996), with a pack of them. One that had nothing to
//! lease for a while starts again where the others of its priority are, without a claim to what it
//! left.
//!
//! Of sixteen leases one goes to a sweep below the highest priority that has something to lease, so
//! that nothing starves: fifteen leases by priority earn one in spite of it, however many begin
//! together as a pack, and what was earned waits for a slot that such a sweep fits. Those turns are
//! shared by weight too, by passes of their own: what a sweep gets by its priority and what it gets
//! in spite of it do not mix.

use std::collections::BTreeMap;

use crate::id::{SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::record::Phase;
use crate::scheduler::event::{Effect, Now, Step};
use crate::scheduler::state::{Scheduler, Sweep, Trial};

/// What a lease costs a sweep of weight 1.
const STRIDE: u64 = 1 << 20;
/// So many leases by priority earn one below the highest priority.
const REGARDLESS: i64 = 15;

/// How far the leases are.
#[derive(Debug, Default)]
pub(super) struct Share {
    /// Of each priority, the pass at which its latest lease began: sweeps of another priority that
    /// lease in between do not move it, and so take away nobody's turn.
    at: BTreeMap<i32, u64>,
    /// The same of the leases below the highest priority.
    below: u64,
    /// Leases so far.
    leases: u64,
    /// Leases by priority that no lease below it was given for yet; at most [`REGARDLESS`], so that
    /// what nobody wanted for a while is not claimed later. Below zero after a pack.
    earned: i64,
    /// The sweep that was chosen last, if it was chosen from below the highest priority.
    chosen_below: Option<SweepId>,
}

/// Priority, pass, last service: the lowest is served next.
type Key = (i32, u64, u64);

/// A sweep's place in the order of service.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Place {
    /// Among the sweeps of its priority.
    pass: u64,
    /// Among all, for the leases below the highest priority.
    below: u64,
    /// Leases of all sweeps before its last one, or before it came.
    served: u64,
}

impl Share {
    /// Where a sweep that comes to this priority begins.
    pub(super) fn place(&self, priority: i32) -> Place {
        Place { pass: self.at(priority), below: self.below, served: self.leases }
    }

    fn at(&self, priority: i32) -> u64 {
        self.at.get(&priority).copied().unwrap_or(0)
    }
}

impl Scheduler {
    /// The next trial to lease to a worker: of the sweep whose turn it is those that wait again
    /// before those that were never leased, by index.
    pub(super) fn next_trial(&mut self, worker: WorkerId, slot: u32, now: Now) -> Option<TrialId> {
        self.share.chosen_below = None;
        let unfair = mutation::on("fair share forgotten");
        let first = self.first(worker, slot, now, |share, sweep| {
            let priority = sweep.controls.priority;
            let pass = sweep.place.pass.max(share.at(priority));
            Some(if unfair { (0, 0, 0) } else { (-priority, pass, sweep.place.served) })
        })?;
        if unfair || self.share.earned < REGARDLESS {
            return Some(first);
        }
        let highest = self.sweeps.get(&first.sweep)?.controls.priority;
        let below = self.first(worker, slot, now, |share, sweep| {
            let below = sweep.controls.priority < highest;
            below.then(|| (0, sweep.place.below.max(share.below), sweep.place.served))
        });
        self.share.chosen_below = below.map(|id| id.sweep);
        below.or(Some(first))
    }

    /// The first trial of the sweep with the lowest key that has one to lease to the slot. Of equals
    /// the one goes first that waits longest: else one that few slots fit might lose every time.
    fn first(
        &mut self,
        worker: WorkerId,
        slot: u32,
        now: Now,
        key: impl Fn(&Share, &Sweep) -> Option<Key>,
    ) -> Option<TrialId> {
        let ttl = self.config.lease_ttl;
        let record = &self.workers.get(&worker)?.record;
        let slot = record.slot(slot)?;
        let fits = |sweep: &Sweep| {
            sweep.spec().requires.fits(record, slot).is_ok()
                || mutation::on("requirements forgotten")
        };
        let mut best: Option<(Key, TrialId)> = None;
        for &id in &self.running {
            let Some(sweep) = self.sweeps.get_mut(&id) else { continue };
            let Some(key) = key(&self.share, sweep) else { continue };
            let passed = best.is_some_and(|(held, _)| held <= key);
            if passed || !sweep.has_room() || !fits(sweep) {
                continue;
            }
            if let Some(index) = sweep.next_for(worker, ttl, now) {
                best = Some((key, TrialId { sweep: id, index }));
            }
        }
        best.map(|(_, id)| id)
    }

    /// A pack of so many trials of the sweep is leased.
    pub(super) fn take_turn(&mut self, sweep: SweepId, trials: u64) {
        let Some(state) = self.sweeps.get_mut(&sweep) else { return };
        let cost = trials * STRIDE / u64::from(state.controls.weight.max(1));
        let share = &mut self.share;
        let turns = i64::try_from(trials).unwrap_or(i64::MAX);
        if share.chosen_below == Some(sweep) {
            let start = state.place.below.max(share.below);
            state.place.below = start.saturating_add(cost);
            share.below = start;
            share.earned = share.earned.saturating_sub(turns.saturating_mul(REGARDLESS));
        } else {
            let priority = state.controls.priority;
            let start = state.place.pass.max(share.at(priority));
            state.place.pass = start.saturating_add(cost);
            share.at.insert(priority, start);
            share.earned = share.earned.saturating_add(turns).min(REGARDLESS);
        }
        state.place.served = share.leases;
        share.leases += trials;
    }

    /// Whether some trial could be leased now, were there a slot.
    #[must_use]
    pub fn has_work(&self, now: Now) -> bool {
        self.running.iter().filter_map(|id| self.sweeps.get(id)).any(|sweep| sweep.offers(now))
    }

    /// Whether some trial of a sweep could be leased now.
    pub(super) fn offers(&self, sweep: SweepId, now: Now) -> bool {
        self.running.contains(&sweep) && self.sweeps.get(&sweep).is_some_and(|it| it.offers(now))
    }

    /// Lets those ask again who wait, if a sweep has a trial for them now and had none before.
    /// Where it had one they could not take it: they fit no sweep that has any, or wait for the next
    /// tick. Asking them each time that a trial ends would cost more than all the rest.
    pub(super) fn offer(&self, sweep: SweepId, offered: bool, now: Now, step: &mut Step) {
        if !offered && self.offers(sweep, now) {
            step.effects.push(Effect::WorkAvailable);
        }
    }
}

impl Sweep {
    /// Whether one of its trials could be leased now.
    fn offers(&self, now: Now) -> bool {
        let untouched = self.next_index < self.grid;
        self.has_room() && (untouched || self.waiting.has_ready(now.monotonic))
    }

    /// Whether its limits allow one more lease.
    fn has_room(&self) -> bool {
        self.room() != Some(0) && self.controls.budget.is_none_or(|budget| self.used < budget)
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
    pub(super) fn is_about_to_be_heard(&self, worker: WorkerId, ttl: u64, now: Now) -> bool {
        matches!(self.phase, Phase::Pending { last_holder: Some(holder) } if holder.worker == worker)
            && now.monotonic < self.expires.saturating_add(ttl / 3)
    }
}
