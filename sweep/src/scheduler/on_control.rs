//! A person changes a sweep.

use crate::id::{RequestId, SweepId, TrialId};
use crate::outcome::SweepStatus;
use crate::record::{Controls, LogEntry};
use crate::scheduler::event::{Changes, Control, Effect, Now, Refusal, Reply, Step, Write};
use crate::scheduler::state::Scheduler;

impl Scheduler {
    pub(super) fn on_control(
        &mut self,
        request_id: RequestId,
        sweep: SweepId,
        control: Control,
        now: Now,
        step: &mut Step,
    ) -> Result<Reply, Refusal> {
        if let Some(&known) = self.requests.get(&request_id) {
            // The same request again, after an answer that was lost.
            let same = known == sweep;
            return if same {
                Ok(Reply::Sweep(sweep))
            } else {
                Err(Refusal::RequestReused(request_id))
            };
        }
        if self.deleted.contains_key(&sweep) {
            let done = control == Control::Delete;
            return if done { Ok(Reply::Sweep(sweep)) } else { Err(Refusal::Deleted(sweep)) };
        }
        let Some(state) = self.sweeps.get(&sweep) else {
            return Err(Refusal::UnknownSweep(sweep));
        };
        let status = state.status;
        match control {
            Control::Pause => self.pause(sweep, status, now, step)?,
            Control::Resume => self.resume(sweep, status, now, step)?,
            Control::Change(changes) => self.change(sweep, changes, now, step)?,
            Control::Retry(trials) => self.retry(sweep, trials, now, step)?,
            Control::AddSeeds(seeds) => self.add_seeds(sweep, seeds, now, step)?,
            Control::CancelTrial(index) => {
                self.cancel_trial(TrialId { sweep, index }, now, step)?
            }
            Control::Delete => {
                self.delete(sweep, status, now, step)?;
                return Ok(Reply::Sweep(sweep));
            }
        }
        self.requests.insert(request_id, sweep);
        step.writes.push(Write::Request { request_id, sweep, at: now.wall });
        Ok(Reply::Sweep(sweep))
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
        check(changes)?;
        let Some(state) = self.sweeps.get_mut(&sweep) else { return Ok(()) };
        let before = state.controls;
        let controls = Controls {
            priority: changes.priority.unwrap_or(before.priority),
            weight: changes.weight.unwrap_or(before.weight),
            max_parallel: changes.max_parallel.unwrap_or(before.max_parallel),
            budget: changes.budget.unwrap_or(before.budget),
        };
        if controls == before {
            return Ok(());
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
        Ok(())
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
        let submitted_by = state.record.request_id;
        self.requests.retain(|request, of| *of != sweep || *request == submitted_by);
        self.deleted.insert(sweep, submitted_by);
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

fn check(changes: Changes) -> Result<(), Refusal> {
    let range = |fits: bool, what, expected| {
        if fits { Ok(()) } else { Err(Refusal::OutOfRange { what, expected }) }
    };
    let most = Controls::MAX_PRIORITY;
    let priority = changes.priority.is_none_or(|p| (-most..=most).contains(&p));
    range(priority, "the priority", "from -1000 to 1000")?;
    let weight = changes.weight.is_none_or(|w| (1..=Controls::MAX_WEIGHT).contains(&w));
    range(weight, "the weight", "from 1 to 1000")?;
    let parallel = changes.max_parallel.flatten().is_none_or(|n| n > 0);
    range(parallel, "max_parallel", "above 0; pause the sweep instead")?;
    let budget = changes.budget.flatten();
    let fits = budget.is_none_or(|b| (1..=Controls::MAX_BUDGET).contains(&b));
    range(fits, "the budget", "above 0 and at most 1,000,000 hours")
}
