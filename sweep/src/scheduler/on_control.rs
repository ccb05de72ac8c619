//! A person changes a sweep.

use crate::id::{ArtifactHash, RequestId, SweepId, TrialId};
use crate::mutation;
use crate::outcome::SweepStatus;
use crate::record::{Controls, DeletedRecord, LogEntry, RequestRecord};
use crate::scheduler::event::{Changes, Control, Effect, Now, Refusal, Reply, Step, Write};
use crate::scheduler::request::Asked;
use crate::scheduler::state::Scheduler;
use crate::spec::MAX_SEED;

impl Scheduler {
    pub(super) fn on_control(
        &mut self,
        request_id: RequestId,
        content: ArtifactHash,
        sweep: SweepId,
        control: Control,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        // The same request again, after an answer that was lost, or another under its id.
        if let Some(before) = self.controlled_before(request_id, &content) {
            return before;
        }
        if self.deleted.contains_key(&sweep) {
            return Err(Refusal::Deleted(sweep));
        }
        let Some(state) = self.sweeps.get(&sweep) else {
            return Err(Refusal::UnknownSweep(sweep));
        };
        let status = state.status;
        let mut answer = None;
        // Each refuses before it changes anything.
        match control {
            Control::Pause => self.pause(sweep, status, now, step)?,
            Control::Resume => self.resume(sweep, status, now, step)?,
            Control::Change(changes) => self.change(sweep, changes, now, step)?,
            Control::Retry(trials) => self.retry(sweep, trials, now, step)?,
            Control::Cancel if status.is_over() => {}
            Control::Cancel => self.cancel_all(sweep, "", now, step),
            Control::CancelTrial(index) => {
                self.cancel_trial(TrialId { sweep, index }, now, step)?
            }
            Control::Delete { answer: told } => {
                self.delete(sweep, status, now, step)?;
                answer = Some(told);
            }
        }
        let reply = match &answer {
            Some(answer) => Reply::Deleted { sweep, answer: answer.clone() },
            None => Reply::Sweep(sweep),
        };
        let record =
            RequestRecord { id: request_id, sweep, content: Some(content), answer, at: now.wall };
        if record.answer.is_none() || !mutation::on("delete request id forgotten") {
            self.requests.insert(request_id, Asked::Control(record.clone()));
            step.writes.push(Write::Request(record));
        }
        Ok(reply)
    }

    fn pause(
        &mut self,
        sweep: SweepId,
        status: SweepStatus,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        match status {
            SweepStatus::Running => {
                self.set_status(sweep, SweepStatus::Paused, None, step);
                self.log(sweep, None, LogEntry::Paused, now, step);
                Ok(())
            }
            SweepStatus::Paused => Ok(()),
            _ => Err(Refusal::NotNow { sweep, status, what: "paused" }),
        }
    }

    fn resume(
        &mut self,
        sweep: SweepId,
        status: SweepStatus,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        match status {
            SweepStatus::Paused => {
                self.reopen(sweep, now, step);
                Ok(())
            }
            SweepStatus::Running => Ok(()),
            _ => Err(Refusal::NotNow { sweep, status, what: "resumed" }),
        }
    }

    /// The sweep leases again.
    pub(super) fn reopen(&mut self, sweep: SweepId, now: Now, step: &mut Step) {
        self.set_status(sweep, SweepStatus::Running, None, step);
        self.log(sweep, None, LogEntry::Resumed, now, step);
        step.effects.push(Effect::WorkAvailable);
    }

    fn change(
        &mut self,
        sweep: SweepId,
        changes: Changes,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        check(&changes)?;
        let Some(state) = self.sweeps.get(&sweep) else { return Ok(()) };
        let before = state.controls;
        let controls = Controls {
            priority: changes.priority.unwrap_or(before.priority),
            weight: changes.weight.unwrap_or(before.weight),
            max_parallel: changes.max_parallel.unwrap_or(before.max_parallel),
            budget: changes.budget.unwrap_or(before.budget),
        };
        let mut added = state.with_seeds(&changes.add_seeds)?;
        let space = match changes.add_space {
            Some(text) => state.with_space(&text, &mut added)?.map(|points| (text, points)),
            None => None,
        };
        self.check_added(sweep, &added, controls.budget, now)?;
        if let Some((space, points)) = space {
            self.set_points(sweep, space, points, now, step);
        }
        if controls != before {
            self.change_controls(sweep, controls, now, step);
        }
        self.add(sweep, &added, false, now, step);
        Ok(())
    }

    fn change_controls(&mut self, sweep: SweepId, controls: Controls, now: Now, step: &mut Step) {
        let Some(state) = self.sweeps.get_mut(&sweep) else { return };
        if controls.priority != state.controls.priority {
            // Passes of different priorities have nothing to do with each other.
            state.place = self.share.place(controls.priority);
        }
        state.controls = controls;
        step.writes.push(Write::Controls { sweep, controls });
        state.write_used(sweep, step);
        if controls.budget.is_some() && !state.status.is_over() {
            self.budgeted.insert(sweep);
        } else {
            self.budgeted.remove(&sweep);
        }
        self.log(sweep, None, LogEntry::Changed { controls }, now, step);
        step.effects.push(Effect::WorkAvailable);
    }

    /// What it held on workers is over already, since it has ended; late reports are rejected.
    fn delete(
        &mut self,
        sweep: SweepId,
        status: SweepStatus,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        if !status.is_over() {
            return Err(Refusal::NotNow { sweep, status, what: "deleted" });
        }
        let Some(state) = self.sweeps.remove(&sweep) else { return Ok(()) };
        let (request_id, hash) = (state.record.request_id, state.record.spec_hash.clone());
        let record = DeletedRecord { id: sweep, request_id, spec_hash: Some(hash) };
        self.deleted.insert(sweep, record);
        step.writes.push(Write::DeleteSweep { sweep, at: now.wall });
        Ok(())
    }

    /// Changes a sweep's status, here and in the store.
    pub(super) fn set_status(
        &mut self,
        sweep: SweepId,
        status: SweepStatus,
        finished: Option<crate::record::WallMillis>,
        step: &mut Step,
    ) {
        if let Some(state) = self.sweeps.get_mut(&sweep) {
            state.status = status;
        }
        step.writes.push(Write::SweepStatus { sweep, status, finished });
        self.note_status(sweep);
    }
}

fn check(changes: &Changes) -> Result<(), Refusal> {
    let range = |fits: bool, what, expected| {
        if fits { Ok(()) } else { Err(Refusal::OutOfRange { what, expected }) }
    };
    let most = Controls::MAX_PRIORITY;
    let priority = changes.priority.is_none_or(|p| (-most..=most).contains(&p));
    range(priority, "the priority", "from -1000 to 1000")?;
    let weight = changes.weight.is_none_or(|w| (1..=Controls::MAX_WEIGHT).contains(&w));
    range(weight, "the weight", "from 1 to 1000")?;
    let parallel = changes.max_parallel.flatten();
    let parallel = parallel.is_none_or(|n| (1..=Controls::MAX_PARALLEL).contains(&n));
    range(parallel, "max_parallel", "above 0 and at most 1,000,000; pause the sweep instead")?;
    let seeds = changes.add_seeds.iter().all(|seed| *seed <= MAX_SEED);
    range(seeds, "a seed", "at most 9223372036854775807")?;
    let budget = changes.budget.flatten();
    let fits = budget.is_none_or(|b| (1..=Controls::MAX_BUDGET).contains(&b));
    range(fits, "the budget", "above 0 and at most 1,000,000 hours")
}
