//! News of a child.

use deptune_sweep::child::Evaluation;
use deptune_sweep::id::TrialId;
use deptune_sweep::mutation;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::scheduler::{LeaseKey, Report, ReportEnd};

use super::event::{Action, ChildNews, Millis, StopHow};
use super::held::{Ending, Held, MAX_KEPT_EVALUATIONS, Phase, StopWhy};
use super::{Agent, Mode};

impl Agent {
    pub(super) fn on_child(
        &mut self,
        slot: u32,
        run: u64,
        news: ChildNews,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some(pack) = self.packs.get_mut(&slot).filter(|p| p.run == run) else { return };
        match news {
            ChildNews::Spawned => {
                pack.phase = Phase::Running;
                pack.moved = now;
            }
            ChildNews::Started => pack.moved = now,
            ChildNews::NotReady { message } => self.on_not_ready(slot, &message, now, out),
            ChildNews::CannotRun { class, message } => {
                self.end_members(slot, |held, key| held.failed(key, class, message.clone()), out);
                self.packs.remove(&slot);
            }
            ChildNews::Progress { trial, step, loss, steps_per_second } => {
                if let Some((_, held, moved)) = self.running(slot, trial) {
                    if step > held.step {
                        *moved = now;
                    }
                    held.step = held.step.max(step);
                    held.loss = loss;
                    held.steps_per_second = steps_per_second;
                }
            }
            ChildNews::Eval { trial, evaluation } => {
                self.on_evaluation(slot, trial, evaluation, now, out);
            }
            ChildNews::Checkpoint { trial, step, path } => {
                let Some((key, held, moved)) = self.running(slot, trial) else { return };
                *moved = now;
                held.step = held.step.max(step);
                held.next_checkpoint = Some((step, path));
                keep_next(key, held, out);
            }
            ChildNews::Done { trial, result, adapter } => {
                let Some((key, held, moved)) = self.running(slot, trial) else { return };
                *moved = now;
                held.step = held.step.max(result.steps);
                let step = held.step;
                held.end = Some(Ending::Keeping { result });
                out.push(Action::KeepAdapter { lease: key, step, path: adapter });
            }
            ChildNews::Failed { trial, class, message } => {
                let Some((key, held, moved)) = self.running(slot, trial) else { return };
                *moved = now;
                let report = held.failed(key, class, message);
                save(held, report, out);
            }
            ChildNews::Exited { class, message } => self.on_exit(slot, class, message, out),
        }
    }

    /// The member of that name which has not ended, and when its pack last got anywhere.
    fn running(&mut self, slot: u32, trial: TrialId) -> Option<(LeaseKey, &mut Held, &mut Millis)> {
        let pack = self.packs.get_mut(&slot)?;
        let key = pack.key_of(trial)?;
        let held = self.trials.get_mut(&key).filter(|h| h.end.is_none())?;
        Some((key, held, &mut pack.moved))
    }

    fn on_evaluation(
        &mut self,
        slot: u32,
        trial: TrialId,
        evaluation: Evaluation,
        now: Millis,
        out: &mut Vec<Action>,
    ) {
        let Some((key, held, moved)) = self.running(slot, trial) else { return };
        if held.evaluations.len() >= MAX_KEPT_EVALUATIONS {
            let message = format!("the trainer sent more than {MAX_KEPT_EVALUATIONS} evaluations");
            let report = held.failed(key, FailureClass::Crashed, message);
            save(held, report, out);
            return;
        }
        held.step = held.step.max(evaluation.step);
        let name = (evaluation.step, evaluation.split.clone());
        if held.evaluations.insert(name, evaluation).is_none() {
            *moved = now;
        }
    }

    fn on_not_ready(&mut self, slot: u32, message: &str, now: Millis, out: &mut Vec<Action>) {
        let Some(pack) = self.packs.get_mut(&slot) else { return };
        if pack.stop.is_some() || self.mode != Mode::Working {
            let message = message.to_owned();
            self.on_exit(slot, FailureClass::Infra, message, out);
            return;
        }
        let failures = match pack.phase {
            Phase::Preparing { failures } => failures.saturating_add(1),
            _ => 1,
        };
        tracing::warn!(slot, message, "the files of a trial cannot be fetched now, trying again");
        let until = now + self.delay(failures);
        if let Some(pack) = self.packs.get_mut(&slot) {
            pack.phase = Phase::Waiting { until, failures };
        }
    }

    /// The run is over: whoever has no result yet gets one.
    pub(super) fn on_exit(
        &mut self,
        slot: u32,
        class: FailureClass,
        message: String,
        out: &mut Vec<Action>,
    ) {
        let Some(pack) = self.packs.get(&slot) else { return };
        let stop = pack.stop;
        let hang = self.config.hang_timeout / 1000;
        self.end_members(
            slot,
            |held, key| match stop {
                Some(StopWhy::Drain | StopWhy::Over | StopWhy::Overdue) => {
                    held.report(key, ReportEnd::Released)
                }
                Some(StopWhy::Hang) => {
                    let message = format!("no step for {hang} s, ended by the watchdog");
                    held.failed(key, FailureClass::Timeout, message)
                }
                None => held.failed(key, class, message.clone()),
            },
            out,
        );
        self.packs.remove(&slot);
    }

    fn end_members(
        &mut self,
        slot: u32,
        report: impl Fn(&Held, LeaseKey) -> Report,
        out: &mut Vec<Action>,
    ) {
        let Some(pack) = self.packs.get(&slot) else { return };
        for key in pack.leases.iter().map(|l| l.lease) {
            let Some(held) = self.trials.get_mut(&key) else { continue };
            if held.end.is_none() {
                let report = report(held, key);
                save(held, report, out);
                if mutation::on("a pack's second member dropped when its first fails") {
                    return;
                }
            }
        }
    }

    pub(super) fn stop(&mut self, slot: u32, why: StopWhy, out: &mut Vec<Action>) {
        let Some(pack) = self.packs.get_mut(&slot) else { return };
        pack.stop = Some(why);
        let run = pack.run;
        if let Phase::Waiting { .. } = pack.phase {
            // Nothing runs that could answer.
            self.on_exit(slot, FailureClass::Preempted, String::new(), out);
            return;
        }
        let how = if why == StopWhy::Drain { StopHow::Ask } else { StopHow::End };
        out.push(Action::Stop { slot, run, how });
    }
}

/// Puts a report into the outbox.
pub(super) fn save(held: &mut Held, report: Report, out: &mut Vec<Action>) {
    out.push(Action::SaveReport(Box::new(report.clone())));
    held.end = Some(Ending::Saving { report, adapter: None });
}

/// Begins to keep the newest checkpoint, unless one is being kept.
pub(super) fn keep_next(lease: LeaseKey, held: &mut Held, out: &mut Vec<Action>) {
    if held.keeping {
        return;
    }
    if let Some((step, path)) = held.next_checkpoint.take() {
        held.keeping = true;
        let known = held.evaluations.values().filter(|e| e.step <= step);
        let evaluations = known.cloned().collect();
        out.push(Action::KeepCheckpoint { lease, step, path, evaluations });
    }
}
