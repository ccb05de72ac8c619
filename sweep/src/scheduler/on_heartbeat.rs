//! An agent is alive, and has news of the trials that it runs.

use crate::child::Evaluation;
use crate::id::{TrialId, WorkerId};
use crate::mutation;
use crate::outcome::Outcome;
use crate::record::{AttemptRecord, Holder, LogEntry, Phase};
use crate::scheduler::event::{
    LeaseKey, LeaseProgress, Now, Refusal, Reply, Step, Stop, StopReason, TrialProgress, Write,
};
use crate::scheduler::state::{Busy, Scheduler};

/// Most leases in one heartbeat.
const MAX_LEASES: usize = 4096;
/// Most evaluations of one trial in one message.
const MAX_EVALUATIONS: usize = 1024;

impl Scheduler {
    pub(super) fn on_heartbeat(
        &mut self,
        worker: WorkerId,
        leases: &[LeaseProgress],
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        self.hear(worker, leases.len(), now)?;
        let mut stops = Vec::new();
        for progress in leases {
            if let Err(stop) = self.hold(worker, progress.lease, now, step) {
                stops.push(stop);
                continue;
            }
            let id = progress.lease.trial;
            let Some(trial) =
                self.sweeps.get_mut(&id.sweep).and_then(|s| s.active.get_mut(&id.index))
            else {
                continue;
            };
            let moved = progress.step > trial.live.step;
            trial.live.step = trial.live.step.max(progress.step);
            trial.live.loss = Some(progress.loss);
            trial.live.steps_per_second = progress.steps_per_second;
            if moved {
                let last_step = trial.live.step;
                step.writes.push(Write::AttemptProgress { lease: progress.lease, last_step });
            }
            self.charge(id, now, step);
        }
        Ok(self.heard(worker, stops))
    }

    pub(super) fn on_progress(
        &mut self,
        worker: WorkerId,
        trials: Vec<TrialProgress>,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        self.hear(worker, trials.len(), now)?;
        for progress in &trials {
            let count = progress.evaluations.len();
            if count > MAX_EVALUATIONS {
                let (what, limit) = ("evaluations of one trial", MAX_EVALUATIONS);
                return Err(Refusal::TooMany { what, count, limit });
            }
        }
        let mut stops = Vec::new();
        for progress in trials {
            if let Err(stop) = self.hold(worker, progress.lease, now, step) {
                stops.push(stop);
                continue;
            }
            for evaluation in progress.evaluations {
                self.record_evaluation(progress.lease, evaluation, now, step);
            }
            let id = progress.lease.trial;
            let trial = self.sweeps.get_mut(&id.sweep).and_then(|s| s.active.get_mut(&id.index));
            if let (Some(trial), Some(checkpoint)) = (trial, progress.checkpoint)
                && trial.checkpoint.as_ref().is_none_or(|held| held.step < checkpoint.step)
            {
                trial.live.step = trial.live.step.max(checkpoint.step);
                step.writes.push(Write::AttemptProgress {
                    lease: progress.lease,
                    last_step: trial.live.step,
                });
                trial.checkpoint = Some(checkpoint);
                step.writes.push(Write::Trial(trial.record(id)));
            }
        }
        Ok(self.heard(worker, stops))
    }

    fn heard(&self, worker: WorkerId, stops: Vec<Stop>) -> Reply {
        let drain = self.workers.get(&worker).is_some_and(|known| known.record.draining);
        Reply::Heard { stops, drain }
    }

    fn hear(&mut self, worker: WorkerId, count: usize, now: Now) -> Result<(), Refusal> {
        if count > MAX_LEASES {
            return Err(Refusal::TooMany { what: "leases", count, limit: MAX_LEASES });
        }
        let known = self.workers.get_mut(&worker).ok_or(Refusal::UnknownWorker(worker))?;
        known.seen = now.monotonic;
        Ok(())
    }

    /// Extends the lease, or revives it when it expired and nobody else has the trial.
    fn hold(
        &mut self,
        worker: WorkerId,
        lease: LeaseKey,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Stop> {
        let LeaseKey { trial: id, epoch } = lease;
        let stop = |reason| Err(Stop { lease, reason });
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else {
            return stop(StopReason::Unknown);
        };
        if let Some(ended) = sweep.ended.get(&id.index) {
            return stop(match ended.outcome {
                Outcome::Cancelled => StopReason::Cancelled,
                _ => StopReason::Superseded,
            });
        }
        let Some(trial) = sweep.active.get_mut(&id.index) else {
            return stop(StopReason::Unknown);
        };
        if !trial.is_held_by(worker, epoch) && !mutation::on("no epoch check on progress") {
            return stop(StopReason::Superseded);
        }
        if let Phase::Pending { .. } = trial.phase
            && !self.revive(id, worker, now, step)
        {
            // It has finished the trial and got another one for its slot: what it has to tell
            // counts as long as nobody else was given the trial.
            return Ok(());
        }
        self.arm(id, now);
        Ok(())
    }

    /// Whether there was a slot for it.
    fn revive(&mut self, id: TrialId, worker: WorkerId, now: Now, step: &mut Step) -> bool {
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return false };
        let Some(trial) = sweep.active.get_mut(&id.index) else { return false };
        let Some(known) = self.workers.get_mut(&worker) else { return false };
        let Phase::Pending { last_holder: Some(holder) } = trial.phase else { return false };
        // The worker says that it runs the trial, and it runs it where it did: that slot must be
        // free, or work for the rest of the same pack.
        let Holder { slot, request_id, .. } = holder;
        let another_pack = |busy: &Busy| {
            busy.request_id != request_id || busy.trials.iter().any(|it| it.sweep != id.sweep)
        };
        if known.slots.get(&slot).is_some_and(another_pack) {
            return false;
        }
        known.occupy(holder, id, now);
        trial.take_back_loss(self.config);
        trial.phase = Phase::Leased(holder);
        sweep.waiting.remove(id.index);
        let first_step = trial.checkpoint.as_ref().map_or(0, |c| c.step);
        let (epoch, members) = (trial.epoch, trial.pack_members);
        step.writes.push(Write::Trial(trial.record(id)));
        sweep.count_lease(id.index);
        let started = now.wall;
        step.writes.push(Write::AttemptStarted(AttemptRecord {
            id,
            epoch,
            worker,
            slot,
            members,
            first_step,
            started,
        }));
        self.log(id.sweep, Some(id), LogEntry::Leased { epoch, worker, first_step }, now, step);
        true
    }

    /// Records an evaluation of a trial that its worker holds.
    pub(super) fn record_evaluation(
        &mut self,
        lease: LeaseKey,
        evaluation: Evaluation,
        now: Now,
        step: &mut Step,
    ) {
        let id: TrialId = lease.trial;
        step.writes.push(Write::Evaluation { lease, at: now.wall, evaluation: evaluation.clone() });
        self.log(id.sweep, Some(id), LogEntry::Evaluated { evaluation }, now, step);
    }
}
