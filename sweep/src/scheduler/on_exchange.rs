//! An agent reports finished attempts and gets trials for its free slots.

use crate::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::outcome::Outcome;
use crate::record::{AttemptRecord, LogEntry, Phase};
use crate::scheduler::event::{
    Ack, Grant, LeaseKey, Now, Refusal, Reply, Report, ReportEnd, Step, StopReason, Write,
};
use crate::scheduler::state::{Live, Scheduler, Trial};

/// Most reports in one exchange.
const MAX_REPORTS: usize = 1024;

impl Scheduler {
    pub(super) fn on_exchange(
        &mut self,
        worker: WorkerId,
        request_id: RequestId,
        reports: Vec<Report>,
        free_slots: &[u32],
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        for (what, count) in [("reports", reports.len()), ("free slots", free_slots.len())] {
            if count > MAX_REPORTS {
                return Err(Refusal::TooMany { what, count, limit: MAX_REPORTS });
            }
        }
        let Some(known) = self.workers.get_mut(&worker) else {
            return Err(Refusal::UnknownWorker(worker));
        };
        known.seen = now.monotonic;
        let acks = reports.into_iter().map(|r| self.take_report(worker, r, now, step)).collect();
        let mut grants = Vec::new();
        for &slot in free_slots {
            if let Some(grant) = self.fill_slot(worker, request_id, slot, now, step) {
                grants.push(grant);
            }
        }
        // One trial per pack for now: every grant is its own pack.
        for (pack, grant) in (0..).zip(&mut grants) {
            grant.pack = pack;
        }
        Ok(Reply::Exchanged { acks, grants })
    }

    fn take_report(&mut self, worker: WorkerId, report: Report, now: Now, step: &mut Step) -> Ack {
        let LeaseKey { trial: id, epoch } = report.lease;
        let Some(sweep) = self.sweeps.get_mut(&id.sweep) else {
            return Ack::Rejected { reason: format!("there is no sweep {}", id.sweep) };
        };
        if let Some(ended) = sweep.ended.get(&id.index).copied() {
            // The same report again, after an answer that was lost. A success is the same only
            // where one was recorded: the trial may have failed because its worker was lost.
            let succeeds = matches!(report.end, ReportEnd::Succeeded { .. });
            let same = !succeeds || ended.outcome == Outcome::Succeeded;
            if ended.epoch == epoch && ended.worker == Some(worker) && same {
                return Ack::Accepted;
            }
            let reason = match ended.outcome {
                Outcome::Cancelled => StopReason::Cancelled,
                _ => StopReason::Superseded,
            };
            keep_evidence(worker, &report, now, step);
            return Ack::Stale { current: ended.epoch, reason };
        }
        let Some(trial) = sweep.active.get_mut(&id.index) else {
            return Ack::Rejected { reason: format!("trial {id} was never leased") };
        };
        if trial.is_held_by(worker, epoch) || mutation::on("no epoch check on completion") {
            if let Phase::Pending { .. } = trial.phase {
                // The lease had expired, but its holder was not lost after all.
                trial.losses = trial.losses.saturating_sub(1);
            }
            trial.live.step = trial.live.step.max(report.last_step);
            for evaluation in report.evaluations {
                self.record_evaluation(report.lease, evaluation, now, step);
            }
            self.end_attempt(id, worker, report.end, now, step);
            return Ack::Accepted;
        }
        let over =
            epoch == trial.epoch && matches!(trial.phase, Phase::Pending { last_holder: None });
        if over && !matches!(report.end, ReportEnd::Succeeded { .. }) {
            // This attempt's end was recorded before; the answer was lost. A success would have
            // ended the trial: that one was never recorded, because its worker was declared lost.
            return Ack::Accepted;
        }
        if epoch > trial.epoch {
            return Ack::Rejected { reason: format!("trial {id} has no epoch {epoch} yet") };
        }
        let current = trial.epoch;
        keep_evidence(worker, &report, now, step);
        Ack::Stale { current, reason: StopReason::Superseded }
    }

    fn fill_slot(
        &mut self,
        worker: WorkerId,
        request_id: RequestId,
        slot: u32,
        now: Now,
        step: &mut Step,
    ) -> Option<Grant> {
        let known = self.workers.get(&worker)?;
        known.slot(slot)?;
        if let Some(&id) = known.slots.get(&slot)
            && !mutation::on("slot leased twice")
        {
            // Granted before under this request: the answer was lost, give it again. Under
            // another request the slot is taken.
            return self.granted(id, request_id, slot);
        }
        let id = self.next_trial(worker, now)?;
        self.lease(id, worker, request_id, slot, now, step)
    }

    fn granted(&self, id: TrialId, request_id: RequestId, slot: u32) -> Option<Grant> {
        let trial = self.sweeps.get(&id.sweep)?.active.get(&id.index)?;
        match trial.phase {
            Phase::Leased { request_id: granted_by, .. } if granted_by == request_id => {
                self.grant(id, slot)
            }
            _ => None,
        }
    }

    fn lease(
        &mut self,
        id: TrialId,
        worker: WorkerId,
        request_id: RequestId,
        slot: u32,
        now: Now,
        step: &mut Step,
    ) -> Option<Grant> {
        let sweep = self.sweeps.get_mut(&id.sweep)?;
        sweep.waiting.remove(id.index);
        let phase = Phase::Leased { worker, slot, request_id };
        if let Some(trial) = sweep.active.get_mut(&id.index) {
            trial.epoch = trial.epoch.next();
            trial.phase = phase;
            trial.charged = now.monotonic;
            let step_held = trial.checkpoint.as_ref().map_or(0, |c| c.step);
            trial.live = Live { step: step_held, ..Live::default() };
            step.writes.push(Write::Trial(trial.record(id)));
        } else {
            let settings = sweep.settings(id.index)?;
            let mut trial = Trial::new(Epoch(1), phase, None);
            trial.charged = now.monotonic;
            step.writes.push(Write::NewTrial {
                record: trial.record(id),
                configuration: sweep.configuration(id.index),
                settings: Box::new(settings),
            });
            sweep.active.insert(id.index, trial);
            sweep.next_index = id.index + 1;
            sweep.skip_ended();
            let next_index = sweep.next_index;
            step.writes.push(Write::NextIndex { sweep: id.sweep, next_index });
        }
        sweep.leased += 1;
        let grant = self.grant(id, slot)?;
        let first_step = grant.checkpoint.as_ref().map_or(0, |c| c.step);
        let epoch = grant.lease.epoch;
        step.writes.push(Write::AttemptStarted(AttemptRecord {
            id,
            epoch,
            worker,
            slot,
            first_step,
            started: now.wall,
        }));
        self.log(id.sweep, Some(id), LogEntry::Leased { epoch, worker, first_step }, now, step);
        self.take_turn(id.sweep);
        self.arm(id, now);
        if let Some(known) = self.workers.get_mut(&worker) {
            known.slots.insert(slot, id);
        }
        Some(grant)
    }

    fn grant(&self, id: TrialId, slot: u32) -> Option<Grant> {
        let sweep = self.sweeps.get(&id.sweep)?;
        let trial = sweep.active.get(&id.index)?;
        Some(Grant {
            lease: trial.lease(id),
            slot,
            pack: 0,
            settings: sweep.settings(id.index)?,
            sweep: sweep.record.clone(),
            model_path: sweep.spec.model.path.clone(),
            checkpoint: trial.checkpoint.clone(),
        })
    }

    /// Sweeps that have a trial without an outcome.
    #[must_use]
    pub fn running_sweeps(&self) -> Vec<SweepId> {
        let running =
            |(&id, s): (&SweepId, &super::state::Sweep)| (!s.status.is_over()).then_some(id);
        self.sweeps.iter().filter_map(running).collect()
    }
}

fn keep_evidence(worker: WorkerId, report: &Report, now: Now, step: &mut Step) {
    let words = match &report.end {
        ReportEnd::Succeeded { result, .. } => {
            format!("succeeded: {} {}", result.metric_name, result.metric)
        }
        ReportEnd::Failed { class, message } => format!("failed ({class}): {message}"),
        ReportEnd::Released => "released".to_owned(),
    };
    step.writes.push(Write::StaleReport {
        lease: report.lease,
        worker,
        report: words,
        at: now.wall,
    });
}
