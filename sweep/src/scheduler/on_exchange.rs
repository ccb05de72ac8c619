//! An agent reports finished attempts and gets trials for its free slots.

use crate::id::{Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::outcome::Outcome;
use crate::record::{AttemptRecord, Holder, LogEntry, Phase};
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
            let holder = Holder { worker, slot, request_id };
            grants.extend(self.fill_slot(holder, now, step));
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
                trial.take_back_loss(self.config);
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

    /// The pack for a slot that its worker calls free; empty where there is none.
    fn fill_slot(&mut self, holder: Holder, now: Now, step: &mut Step) -> Vec<Grant> {
        let Holder { worker, slot, request_id } = holder;
        let Some(known) = self.workers.get_mut(&worker) else { return Vec::new() };
        if known.record.slot(slot).is_none() {
            return Vec::new();
        }
        if let Some(busy) = known.slots.get_mut(&slot)
            && !mutation::on("slot leased twice")
        {
            // Granted before under this request: the answer was lost, give it again. Under
            // another request the slot is taken.
            let same = busy.request_id == request_id;
            busy.awaited |= !same;
            let members: Vec<TrialId> = busy.trials.iter().copied().filter(|_| same).collect();
            return members.into_iter().filter_map(|id| self.grant(id, slot)).collect();
        }
        let draining = known.record.draining;
        // First what most often says no: all who wait ask together.
        if !self.has_work(now) || draining || self.is_barred(worker, now) {
            return Vec::new();
        }
        let Some(first) = self.next_trial(worker, slot, now) else { return Vec::new() };
        if self.sweeps.get(&first.sweep).is_some_and(|it| it.waiting.has_lapsed(request_id)) {
            // What was granted under this request has expired since. Its worker may have heard of
            // it all the same and come back for it: another pack must not bear its name.
            return Vec::new();
        }
        self.measure(first.sweep, now);
        let mut members = vec![first];
        members.extend(self.companions(first, worker, slot, now));
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let lease = |id| self.lease(id, holder, count, now, step);
        let grants: Vec<Grant> = members.into_iter().filter_map(lease).collect();
        self.take_turn(first.sweep, grants.len() as u64);
        grants
    }

    /// Leases a trial as one of `members` that begin together.
    fn lease(
        &mut self,
        id: TrialId,
        holder: Holder,
        members: u32,
        now: Now,
        step: &mut Step,
    ) -> Option<Grant> {
        let Holder { worker, slot, .. } = holder;
        let sweep = self.sweeps.get_mut(&id.sweep)?;
        sweep.waiting.remove(id.index);
        let phase = Phase::Leased(holder);
        if let Some(trial) = sweep.active.get_mut(&id.index) {
            trial.epoch = trial.epoch.next();
            trial.phase = phase;
            trial.pack_members = members;
            let step_held = trial.checkpoint.as_ref().map_or(0, |c| c.step);
            trial.live = Live { step: step_held, ..Live::default() };
            step.writes.push(Write::Trial(trial.record(id)));
        } else {
            let settings = sweep.settings(id.index)?;
            let mut trial = Trial::new(Epoch(1), phase, None);
            trial.pack_members = members;
            step.writes.push(Write::NewTrial {
                record: trial.record(id),
                configuration: sweep.configuration(id.index),
                settings: Box::new(settings),
            });
            sweep.active.insert(id.index, trial);
            let before = sweep.next_index;
            sweep.skip_known();
            let next_index = sweep.next_index;
            if next_index > before {
                step.writes.push(Write::NextIndex { sweep: id.sweep, next_index });
            }
        }
        sweep.count_lease(id.index);
        let grant = self.grant(id, slot)?;
        let first_step = grant.checkpoint.as_ref().map_or(0, |c| c.step);
        let epoch = grant.lease.epoch;
        step.writes.push(Write::AttemptStarted(AttemptRecord {
            id,
            epoch,
            worker,
            slot,
            members,
            first_step,
            started: now.wall,
        }));
        self.log(id.sweep, Some(id), LogEntry::Leased { epoch, worker, first_step }, now, step);
        self.arm(id, now);
        if let Some(known) = self.workers.get_mut(&worker) {
            known.occupy(holder, id, now);
        }
        Some(grant)
    }

    fn grant(&self, id: TrialId, slot: u32) -> Option<Grant> {
        let sweep = self.sweeps.get(&id.sweep)?;
        let trial = sweep.active.get(&id.index)?;
        Some(Grant {
            lease: trial.lease(id),
            slot,
            // A slot has one pack.
            pack: slot,
            settings: sweep.settings(id.index)?,
            sweep: sweep.record.clone(),
            model_path: sweep.spec().model.path.clone(),
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
