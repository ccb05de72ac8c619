//! A sweep is cancelled.

use crate::id::{Epoch, SweepId, TrialId};
use crate::mutation;
use crate::outcome::{Outcome, SweepStatus};
use crate::record::{AttemptEnd, OutcomeRecord, Phase, TrialRecord};
use crate::scheduler::event::{Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::{Ended, Scheduler};

impl Scheduler {
    /// Records every trial without an outcome as cancelled. Workers that hold one hear of it with
    /// their next heartbeat; what they report after this is stale.
    pub(super) fn on_cancel(
        &mut self,
        sweep: SweepId,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        let Some(state) = self.sweeps.get(&sweep) else {
            return Err(Refusal::UnknownSweep(sweep));
        };
        if state.status != SweepStatus::Running {
            return Ok(Reply::Sweep(sweep));
        }
        let spared = |phase| {
            mutation::on("cancel loses against a late success")
                && matches!(phase, Phase::Leased { .. })
        };
        let active = state.active.iter().filter(|(_, trial)| !spared(trial.phase));
        let active: Vec<u64> = active.map(|(&index, _)| index).collect();
        let untouched = state.next_index..state.record.total;
        for index in active {
            self.cancel_active(TrialId { sweep, index }, now, step);
        }
        for index in untouched {
            self.cancel_untouched(TrialId { sweep, index }, now, step);
        }
        if let Some(state) = self.sweeps.get_mut(&sweep) {
            state.next_index = state.record.total;
            step.writes.push(Write::NextIndex { sweep, next_index: state.next_index });
            state.status = SweepStatus::Cancelled;
        }
        self.finish_sweep(sweep, SweepStatus::Cancelled, now, step);
        Ok(Reply::Sweep(sweep))
    }

    fn cancel_active(&mut self, id: TrialId, now: Now, step: &mut Step) {
        self.disarm(id);
        let Some(state) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(mut trial) = state.active.remove(&id.index) else { return };
        state.waiting.remove(&id.index);
        if let Phase::Leased { .. } = trial.phase {
            step.writes.push(Write::AttemptEnded {
                lease: trial.lease(id),
                end: AttemptEnd::Cancelled,
                class: None,
                message: String::new(),
                at: now.wall,
            });
        }
        trial.epoch = trial.epoch.next();
        trial.phase = Phase::Ended { outcome: Outcome::Cancelled };
        let ended = Ended { epoch: trial.epoch, outcome: Outcome::Cancelled, worker: None };
        state.end(id.index, ended);
        step.writes.push(Write::Trial(trial.record(id)));
        step.writes.push(Write::Outcome(Box::new(cancelled(id, trial.epoch, now))));
    }

    fn cancel_untouched(&mut self, id: TrialId, now: Now, step: &mut Step) {
        let Some(state) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(settings) = state.spec.settings(id.index) else { return };
        let epoch = Epoch(1);
        step.writes.push(Write::NewTrial {
            record: TrialRecord {
                id,
                epoch,
                phase: Phase::Ended { outcome: Outcome::Cancelled },
                failures: 0,
                losses: 0,
                alone: false,
                checkpoint: None,
            },
            configuration: state.spec.configuration(id.index),
            settings: Box::new(settings),
        });
        step.writes.push(Write::Outcome(Box::new(cancelled(id, epoch, now))));
        state.end(id.index, Ended { epoch, outcome: Outcome::Cancelled, worker: None });
    }
}

fn cancelled(id: TrialId, epoch: Epoch, now: Now) -> OutcomeRecord {
    OutcomeRecord {
        id,
        epoch,
        outcome: Outcome::Cancelled,
        class: None,
        message: String::new(),
        result: None,
        adapter: None,
        worker: None,
        at: now.wall,
    }
}
