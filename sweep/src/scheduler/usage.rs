//! What sweeps use: milliseconds of slots, counted once for every attempt, and their budgets.

use crate::id::{SweepId, TrialId};
use crate::scheduler::event::{Now, Step, Write};
use crate::scheduler::state::{Scheduler, Sweep};

/// Without a budget, use is written down each time that it grew by this many milliseconds.
const COARSE: u64 = 60_000;

impl Scheduler {
    /// Counts the time for which the slot of a leased trial was not counted yet: once for all
    /// trials of its pack.
    pub(super) fn charge(&mut self, id: TrialId, now: Now, step: &mut Step) {
        let Some(holder) = self.holder(id) else { return };
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let known = self.workers.get_mut(&holder.worker);
        let Some(busy) = known.and_then(|known| known.slots.get_mut(&holder.slot)) else { return };
        let elapsed = now.monotonic.saturating_sub(busy.charged);
        busy.charged = now.monotonic;
        sweep.used = sweep.used.saturating_add(elapsed);
        sweep.write_used(id.sweep, step);
    }

    /// The deliberate bug: what a failed attempt used since its last heartbeat counts twice.
    pub(super) fn charge_again(&mut self, id: TrialId, now: Now) {
        let Some(holder) = self.holder(id) else { return };
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let known = self.workers.get(&holder.worker);
        let Some(busy) = known.and_then(|known| known.slots.get(&holder.slot)) else { return };
        sweep.used += now.monotonic.saturating_sub(busy.charged);
    }

    /// Ends the sweeps whose budget is used up: what has no outcome is recorded as cancelled.
    pub(super) fn check_budgets(&mut self, now: Now, step: &mut Step) {
        let over = |id: &&SweepId| {
            let sweep = self.sweeps.get(id);
            let budget = sweep.and_then(|sweep| sweep.controls.budget);
            budget.is_some_and(|budget| self.has_used(**id, budget, now))
        };
        // Paused sweeps too: what they run goes on.
        let spent: Vec<SweepId> = self.budgeted.iter().filter(over).copied().collect();
        for sweep in spent {
            let Some(state) = self.sweeps.get(&sweep) else { continue };
            let hours = state.controls.budget.unwrap_or(0) as f64 / 3_600_000.0;
            let message = format!("the sweep's budget of {hours} GPU-hours is used up");
            self.cancel_all(sweep, &message, now, step);
        }
    }
}

impl Scheduler {
    /// Whether a sweep has used that much, what its slots do right now counted too.
    pub(super) fn has_used(&self, id: SweepId, budget: u64, now: Now) -> bool {
        let busy = self.workers.values().flat_map(|known| known.slots.values());
        let busy = busy.filter(|busy| busy.trials.first().is_some_and(|trial| trial.sweep == id));
        let uncounted: u64 = busy.map(|busy| now.monotonic.saturating_sub(busy.charged)).sum();
        let used = self.sweeps.get(&id).map_or(0, |sweep| sweep.used);
        used.saturating_add(uncounted) >= budget
    }
}

impl Sweep {
    /// Writes its use down, where it matters or has grown enough.
    pub(super) fn write_used(&mut self, sweep: SweepId, step: &mut Step) {
        let grown = self.used - self.used_written;
        if grown >= COARSE || (self.controls.budget.is_some() && grown > 0) {
            self.used_written = self.used;
            step.writes.push(Write::Used { sweep, used: self.used });
        }
    }
}
