//! A sweep or a trial is cancelled.

use crate::id::{Epoch, SweepId, TrialId};
use crate::mutation;
use crate::outcome::{Outcome, SweepStatus};
use crate::record::{AttemptEnd, LogEntry, OutcomeRecord, Phase};
use crate::scheduler::event::{Effect, Now, Refusal, Step, Write};
use crate::scheduler::state::{Ended, Scheduler, Trial};

impl Scheduler {
    /// Records every trial without an outcome as cancelled, for this reason. Workers that hold one
    /// hear of it with their next heartbeat; what they report after this is stale.
    pub(super) fn cancel_all(&mut self, sweep: SweepId, message: &str, now: Now, step: &mut Step) {
        let Some(state) = self.sweeps.get(&sweep) else { return };
        let spared = |phase| {
            mutation::on("cancel loses against a late success") && matches!(phase, Phase::Leased(_))
        };
        let active = state.active.iter().filter(|(_, trial)| !spared(trial.phase));
        let active: Vec<u64> = active.map(|(&index, _)| index).collect();
        let untouched = (state.next_index..state.grid).filter(|&i| !state.has_row(i));
        let untouched: Vec<u64> = untouched.collect();
        for index in active {
            self.cancel_active(TrialId { sweep, index }, message, now, step);
        }
        for index in untouched {
            self.cancel_untouched(TrialId { sweep, index }, message, now, step);
        }
        if let Some(state) = self.sweeps.get_mut(&sweep) {
            state.next_index = state.grid;
            step.writes.push(Write::NextIndex { sweep, next_index: state.next_index });
        }
        self.finish_sweep(sweep, SweepStatus::Cancelled, now, step);
    }

    /// Cancels one trial; one that has ended stays as it is.
    pub(super) fn cancel_trial(
        &mut self,
        id: TrialId,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let Some(state) = self.sweeps.get(&id.sweep) else { return Ok(()) };
        if id.index >= state.total {
            return Err(Refusal::UnknownTrial(id));
        }
        if state.ended.contains_key(&id.index) {
            return Ok(());
        }
        if state.active.contains_key(&id.index) {
            self.cancel_active(id, "", now, step);
        } else {
            self.cancel_untouched(id, "", now, step);
        }
        let entry = LogEntry::Ended {
            outcome: Outcome::Cancelled,
            class: None,
            message: String::new(),
            result: None,
        };
        self.log(id.sweep, Some(id), entry, now, step);
        let Some(state) = self.sweeps.get_mut(&id.sweep) else { return Ok(()) };
        state.skip_known();
        let next_index = state.next_index;
        step.writes.push(Write::NextIndex { sweep: id.sweep, next_index });
        if state.is_complete() {
            self.finish_sweep(id.sweep, SweepStatus::Finished, now, step);
        }
        // A slot of the sweep's max_parallel may be free now.
        step.effects.push(Effect::WorkAvailable);
        Ok(())
    }

    fn cancel_active(&mut self, id: TrialId, message: &str, now: Now, step: &mut Step) {
        self.disarm(id, now, step);
        let Some(state) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(mut trial) = state.active.remove(&id.index) else { return };
        state.waiting.remove(id.index);
        if let Phase::Leased(_) = trial.phase {
            step.writes.push(Write::AttemptEnded {
                lease: trial.lease(id),
                end: AttemptEnd::Cancelled,
                class: None,
                message: message.to_owned(),
                last_step: trial.live.step,
                at: now.wall,
            });
        }
        trial.epoch = trial.epoch.next();
        trial.phase = Phase::Ended { outcome: Outcome::Cancelled };
        let ended = Ended { epoch: trial.epoch, outcome: Outcome::Cancelled, worker: None };
        state.end(id.index, ended);
        step.writes.push(Write::Trial(trial.record(id)));
        step.writes.push(Write::Outcome(Box::new(cancelled(id, trial.epoch, message, now))));
    }

    fn cancel_untouched(&mut self, id: TrialId, message: &str, now: Now, step: &mut Step) {
        let Some(state) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(settings) = state.settings(id.index) else { return };
        let epoch = Epoch(1);
        let phase = Phase::Ended { outcome: Outcome::Cancelled };
        step.writes.push(Write::NewTrial {
            record: Trial::new(epoch, phase, None).record(id),
            configuration: state.configuration(id.index),
            settings: Box::new(settings),
        });
        step.writes.push(Write::Outcome(Box::new(cancelled(id, epoch, message, now))));
        state.end(id.index, Ended { epoch, outcome: Outcome::Cancelled, worker: None });
    }
}

fn cancelled(id: TrialId, epoch: Epoch, message: &str, now: Now) -> OutcomeRecord {
    OutcomeRecord {
        id,
        epoch,
        outcome: Outcome::Cancelled,
        class: None,
        message: message.to_owned(),
        result: None,
        adapter: None,
        worker: None,
        at: now.wall,
    }
}
