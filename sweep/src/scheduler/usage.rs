//! What sweeps use: milliseconds of slots, counted once for every attempt, and their budgets.

use crate::id::{SweepId, TrialId};
use crate::record::Phase;
use crate::scheduler::event::{Now, Step, Write};
use crate::scheduler::state::{Scheduler, Sweep};

/// Without a budget, use is written down each time that it grew by this many milliseconds.
const COARSE: u64 = 60_000;

impl Scheduler {
    /// Counts the time for which a leased trial was not counted yet.
    pub(super) fn charge(&mut self, id: TrialId, now: Now, step: &mut Step) {
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(trial) = sweep.active.get_mut(&id.index) else { return };
        let Phase::Leased { .. } = trial.phase else { return };
        let elapsed = now.monotonic.saturating_sub(trial.charged);
        trial.charged = now.monotonic;
        sweep.used = sweep.used.saturating_add(elapsed);
        sweep.write_used(id.sweep, step);
    }

    /// The deliberate bug: what a failed attempt used since its last heartbeat counts twice.
    pub(super) fn charge_again(&mut self, id: TrialId, now: Now) {
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(trial) = sweep.active.get(&id.index) else { return };
        sweep.used += now.monotonic.saturating_sub(trial.charged);
    }

    /// Ends the sweeps whose budget is used up: what has no outcome is recorded as cancelled.
    pub(super) fn check_budgets(&mut self, now: Now, step: &mut Step) {
        let over = |id: &&SweepId| {
            let sweep = self.sweeps.get(id);
            sweep.is_some_and(|s| s.controls.budget.is_some_and(|budget| s.has_used(budget, now)))
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

impl Sweep {
    /// Whether it has used that much, running attempts counted up to now.
    pub(super) fn has_used(&self, budget: u64, now: Now) -> bool {
        let running = self.active.values().filter(|t| matches!(t.phase, Phase::Leased { .. }));
        let uncounted: u64 = running.map(|t| now.monotonic.saturating_sub(t.charged)).sum();
        self.used.saturating_add(uncounted) >= budget
    }

    /// Writes its use down, where it matters or has grown enough.
    pub(super) fn write_used(&mut self, sweep: SweepId, step: &mut Step) {
        let grown = self.used - self.used_written;
        if grown >= COARSE || (self.controls.budget.is_some() && grown > 0) {
            self.used_written = self.used;
            step.writes.push(Write::Used { sweep, used: self.used });
        }
    }
}
