//! What happens to a trial when an attempt ends: an outcome, or another attempt.

use crate::id::{SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::outcome::{FailureClass, Outcome, SweepStatus};
use crate::record::{AttemptEnd, LogEntry, OutcomeRecord, Phase};
use crate::scheduler::event::{Effect, Now, ReportEnd, Step, Write};
use crate::scheduler::state::{Config, Ended, Scheduler, Trial};

/// What to do with a trial whose attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It waits this many milliseconds, then it may be leased again.
    Again(u64),
    /// It has failed.
    Over,
}

impl Scheduler {
    /// Ends an attempt of a trial by its holder's word. The caller has checked the epoch.
    pub(super) fn end_attempt(
        &mut self,
        id: TrialId,
        worker: WorkerId,
        end: ReportEnd,
        now: Now,
        step: &mut Step,
    ) {
        match end {
            ReportEnd::Succeeded { result, adapter } => {
                if let Some(known) = self.workers.get_mut(&worker)
                    && known.health.succeeded(now.monotonic)
                {
                    step.effects.push(Effect::WorkAvailable);
                }
                if let Some(bytes) = result.peak_memory_bytes {
                    self.note_memory(id, bytes, now, step);
                }
                self.record_outcome(id, step, now, |trial| OutcomeRecord {
                    id,
                    epoch: trial.epoch,
                    outcome: Outcome::Succeeded,
                    class: None,
                    message: String::new(),
                    result: Some(result),
                    adapter: Some(adapter),
                    worker: Some(worker),
                    at: now.wall,
                });
            }
            ReportEnd::Failed { class, message } => {
                self.note_failure(id, worker, class, now, step);
                self.fail_attempt(id, worker, class, message, AttemptEnd::Failed, now, step);
            }
            ReportEnd::Released => self.fail_attempt(
                id,
                worker,
                FailureClass::Preempted,
                "handed back by its worker".to_owned(),
                AttemptEnd::Released,
                now,
                step,
            ),
        }
    }

    /// Ends an attempt without success.
    #[allow(clippy::too_many_arguments, reason = "one call per way to fail, all different")]
    pub(super) fn fail_attempt(
        &mut self,
        id: TrialId,
        worker: WorkerId,
        class: FailureClass,
        message: String,
        end: AttemptEnd,
        now: Now,
        step: &mut Step,
    ) {
        let config = self.config;
        let Some(sweep) = self.sweeps.get(&id.sweep) else { return };
        let max_attempts = sweep.spec().limits.max_attempts;
        let Some(trial) = sweep.active.get(&id.index) else { return };
        let members = trial.pack_members;
        if class == FailureClass::Oom && members > 1 {
            self.halve_packs(id, members, now, step);
        }
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(trial) = sweep.active.get_mut(&id.index) else { return };
        let fate = trial.count(class, max_attempts, config);
        let lease = trial.lease(id);
        let last_step = trial.live.step;
        if mutation::on("lease counted down twice") {
            self.disarm(id, now, step);
        }
        match fate {
            Fate::Over => {
                self.record_outcome(id, step, now, |trial| OutcomeRecord {
                    id,
                    epoch: trial.epoch,
                    outcome: Outcome::Failed,
                    class: Some(class),
                    message,
                    result: None,
                    adapter: None,
                    worker: Some(worker),
                    at: now.wall,
                });
            }
            Fate::Again(wait) => {
                if mutation::on("budget counted twice on retry") {
                    self.charge_again(id, now);
                }
                let offered = self.offers(id.sweep, now);
                self.disarm(id, now, step);
                let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
                let Some(trial) = sweep.active.get_mut(&id.index) else { return };
                // After an expiry the old holder may still be at work: its word counts until
                // somebody else is given the trial.
                let holder = trial.phase.holder();
                let last_holder = holder.filter(|_| end == AttemptEnd::Expired);
                trial.phase = Phase::Pending { last_holder };
                step.writes.push(Write::AttemptEnded {
                    lease,
                    end,
                    class: Some(class),
                    message: message.clone(),
                    last_step,
                    at: now.wall,
                });
                step.writes.push(Write::Trial(trial.record(id)));
                let from = now.monotonic.saturating_add(wait);
                sweep.waiting.insert(id.index, from, last_holder);
                let entry = LogEntry::Requeued { epoch: lease.epoch, end, class, message };
                self.log(id.sweep, Some(id), entry, now, step);
                self.offer(id.sweep, offered, now, step);
            }
        }
    }

    /// Gives a trial its outcome; the sweep may end with it.
    fn record_outcome(
        &mut self,
        id: TrialId,
        step: &mut Step,
        now: Now,
        record: impl FnOnce(&Trial) -> OutcomeRecord,
    ) {
        let offered = self.offers(id.sweep, now);
        self.disarm(id, now, step);
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else { return };
        let Some(mut trial) = sweep.active.remove(&id.index) else { return };
        sweep.waiting.remove(id.index);
        let record = record(&trial);
        let end = match record.outcome {
            Outcome::Succeeded => AttemptEnd::Succeeded,
            Outcome::Failed | Outcome::Cancelled | Outcome::Pruned => AttemptEnd::Failed,
        };
        let last_step = record.result.as_ref().map_or(trial.live.step, |result| result.steps);
        step.writes.push(Write::AttemptEnded {
            lease: trial.lease(id),
            end,
            class: record.class,
            message: record.message.clone(),
            last_step,
            at: now.wall,
        });
        trial.phase = Phase::Ended { outcome: record.outcome };
        let (epoch, outcome, worker) = (record.epoch, record.outcome, record.worker);
        sweep.end(id.index, Ended { epoch, outcome, worker });
        let complete = sweep.is_complete();
        step.writes.push(Write::Trial(trial.record(id)));
        let entry = LogEntry::Ended {
            outcome,
            class: record.class,
            message: record.message.clone(),
            result: record.result.clone().map(Box::new),
        };
        step.writes.push(Write::Outcome(Box::new(record)));
        self.log(id.sweep, Some(id), entry, now, step);
        if complete {
            self.finish_sweep(id.sweep, SweepStatus::Finished, now, step);
        }
        // A slot of the sweep's max_parallel may be free now.
        self.offer(id.sweep, offered, now, step);
    }

    pub(super) fn finish_sweep(
        &mut self,
        sweep: SweepId,
        status: SweepStatus,
        now: Now,
        step: &mut Step,
    ) {
        self.set_status(sweep, status, Some(now.wall), step);
        self.log(sweep, None, LogEntry::Finished { status }, now, step);
    }
}

impl Trial {
    /// Milliseconds to wait after the last failure that counted.
    pub(super) fn backoff(&self, config: Config) -> u64 {
        let doublings = self.failures.saturating_sub(1).min(20);
        (config.backoff_base << doublings).min(config.backoff_cap)
    }

    /// Counts a failure against the trial and decides what follows.
    fn count(&mut self, class: FailureClass, max_attempts: u32, config: Config) -> Fate {
        match class {
            FailureClass::Preempted if mutation::on("handing back counts") => {
                self.failures = self.failures.saturating_add(1);
                Fate::Again(0)
            }
            FailureClass::Preempted => Fate::Again(0),
            FailureClass::WorkerLost => {
                self.losses = self.losses.saturating_add(1);
                if self.losses > config.free_losses {
                    self.fail(max_attempts, config)
                } else {
                    Fate::Again(0)
                }
            }
            // Which member made a pack crash, hang or grow too large is not known: none of them
            // is blamed. After a crash they run alone, after a want of memory in smaller packs.
            FailureClass::Crashed | FailureClass::Timeout
                if self.pack_members > 1
                    && !mutation::on("a pack's crash blamed on its members") =>
            {
                self.alone = true;
                Fate::Again(0)
            }
            FailureClass::Oom if self.pack_members > 1 => Fate::Again(0),
            FailureClass::Diverged | FailureClass::Data | FailureClass::UserError => Fate::Over,
            FailureClass::Oom
            | FailureClass::Crashed
            | FailureClass::Timeout
            | FailureClass::Infra => self.fail(max_attempts, config),
        }
    }

    /// An attempt that counts.
    fn fail(&mut self, max_attempts: u32, config: Config) -> Fate {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= max_attempts { Fate::Over } else { Fate::Again(self.backoff(config)) }
    }

    /// Its lease had expired, but its holder was not lost after all.
    pub(super) fn take_back_loss(&mut self, config: Config) {
        if self.losses > config.free_losses {
            self.failures = self.failures.saturating_sub(1);
        }
        self.losses = self.losses.saturating_sub(1);
    }
}
