//! I6: no more failures and losses than the limits allow, none for a trial that was handed back,
//! no lease before a failure's wait is over (whoever restarted meanwhile), none beyond
//! `max_parallel` and none while the sweep is paused; all that a sweep uses is counted, and counted
//! once, and nothing is leased beyond its budget. A pack's crash counts for none of its trials, and they run alone next.

use std::collections::{BTreeMap, BTreeSet};

use deptune_sweep::id::{SweepId, TrialId, WorkerId};
use deptune_sweep::outcome::{FailureClass, SweepStatus};
use deptune_sweep::record::{AttemptEnd, Phase, TrialRecord};
use deptune_sweep::scheduler::{Config, Write};

use super::{Commit, Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// How the last attempt of a trial ended, and when.
    ended: BTreeMap<TrialId, (AttemptEnd, Option<FailureClass>, u64)>,
    /// What sweeps used, by the world's clock.
    usage: BTreeMap<SweepId, Usage>,
}

/// Slot time of a sweep, in milliseconds of the world.
#[derive(Debug, Default)]
struct Usage {
    /// Of the attempts that have ended.
    over: u64,
    /// The slots that work for it, by those of its trials that they run.
    open: BTreeMap<TrialId, (WorkerId, u32)>,
    /// How many trials each of those slots runs, since when it works, and for how long its
    /// coordinator's clock had stalled by then.
    slots: BTreeMap<(WorkerId, u32), (u32, u64, u64)>,
    /// The sum of those times.
    began: u64,
    /// What was used at least: all of it, but for what was under way when a coordinator began.
    least: u64,
    /// Slots that were at work already when the latest coordinator began.
    found: BTreeSet<(WorkerId, u32)>,
    /// Whether what was used last was written down because there is a budget.
    exact: bool,
}

impl Usage {
    fn begin(&mut self, trial: TrialId, slot: (WorkerId, u32), commit: &Commit<'_>) {
        self.end(trial, commit);
        let at = commit.decided;
        self.open.insert(trial, slot);
        let (trials, ..) = self.slots.entry(slot).or_insert((0, at, commit.stood));
        *trials += 1;
        if *trials == 1 {
            self.began += at;
        }
    }

    fn end(&mut self, trial: TrialId, commit: &Commit<'_>) {
        let Some(slot) = self.open.remove(&trial) else { return };
        let Some((trials, began, stood)) = self.slots.get_mut(&slot) else { return };
        *trials -= 1;
        if *trials == 0 {
            self.began -= *began;
            let worked = commit.decided.saturating_sub(*began);
            self.over += worked;
            if !self.found.remove(&slot) {
                let unnoticed = commit.stood.saturating_sub(*stood);
                self.least += worked.saturating_sub(unnoticed);
            }
            self.slots.remove(&slot);
        }
    }

    /// A coordinator begins with what was written down.
    fn restored(&mut self, written: u64) {
        self.found.extend(self.slots.keys());
        if !self.exact {
            self.least = self.least.min(written);
        }
    }

    fn until(&self, at: u64) -> u64 {
        self.over + (self.slots.len() as u64 * at).saturating_sub(self.began)
    }
}

impl Invariant for Attempts {
    fn id(&self) -> &'static str {
        "I6"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::AttemptEnded { lease, end, class, .. }, commit) => {
                self.ended.insert(lease.trial, (*end, *class, commit.decided));
                let usage = self.usage.entry(lease.trial.sweep).or_default();
                usage.end(lease.trial, commit);
                Ok(())
            }
            Seen::Write(Write::AttemptStarted(record), commit) => {
                let usage = self.usage.entry(record.id.sweep).or_default();
                usage.begin(record.id, (record.worker, record.slot), commit);
                Ok(())
            }
            Seen::Write(Write::Used { sweep, used }, commit) => {
                let usage = self.usage.entry(*sweep).or_default();
                // The coordinator's clock may run fast, or slow.
                let most = usage.until(commit.decided) * 106 / 100 + 100;
                let least = (usage.least * 94 / 100).saturating_sub(100);
                if *used > most || *used < least {
                    return Err(format!("sweep {sweep} used {used} ms, not {least} to {most}"));
                }
                let line = ledger.sweeps.get(sweep);
                usage.exact = line.is_some_and(|line| line.controls.budget.is_some());
                Ok(())
            }
            Seen::Write(Write::Controls { sweep, controls }, _) if controls.budget.is_none() => {
                self.usage.entry(*sweep).or_default().exact = false;
                Ok(())
            }
            Seen::Restored(..) => {
                for (id, usage) in &mut self.usage {
                    let line = ledger.sweeps.get(id);
                    usage.restored(line.map_or(0, |line| line.record.used));
                }
                Ok(())
            }
            Seen::Write(Write::DeleteSweep { sweep, .. }, _) => {
                self.usage.remove(sweep);
                Ok(())
            }
            Seen::Write(Write::Trial(record), commit) => self.written(ledger, record, commit),
            Seen::Write(Write::NewTrial { record, .. }, _) => parallel(ledger, record),
            _ => Ok(()),
        }
    }
}

impl Attempts {
    fn written(
        &mut self,
        ledger: &Ledger,
        record: &TrialRecord,
        commit: &Commit<'_>,
    ) -> Result<(), String> {
        let id = record.id;
        let Some(line) = ledger.trials.get(&id) else { return Ok(()) };
        let Some(sweep) = ledger.sweeps.get(&id.sweep) else { return Ok(()) };
        let old = &line.record;
        let free = Config::default().free_losses;
        let (failures, losses) = (record.failures, record.losses);
        // Each loss beyond those that are free is a failure.
        if failures > sweep.max_attempts || losses.saturating_sub(free) > failures {
            return Err(format!("trial {id} counts {failures} failures and {losses} losses"));
        }
        let ended = self.ended.get(&id).copied();
        let was_leased = old.phase.holder().is_some();
        let is_pending = matches!(record.phase, Phase::Pending { .. });
        if let Some((AttemptEnd::Released, ..)) = ended
            && was_leased
            && is_pending
            && (record.failures > old.failures || record.losses > old.losses)
        {
            return Err(format!("trial {id} was handed back, and it counts"));
        }
        let blamed = record.failures > old.failures;
        if let Some((_, Some(FailureClass::Crashed | FailureClass::Timeout), _)) = ended
            && was_leased
            && is_pending
            && old.pack_members > 1
            && (blamed || !record.alone)
        {
            return Err(format!("trial {id} is blamed for a pack's crash, or not run alone after"));
        }
        if record.alone && record.phase.holder().is_some() && record.pack_members > 1 {
            return Err(format!("trial {id} is to run alone, and is leased with others"));
        }
        if !was_leased && record.phase.holder().is_some() && record.epoch > old.epoch {
            if let Some((AttemptEnd::Failed, Some(class), at)) = ended {
                let wait = wait(class, old);
                if commit.decided < at + wait {
                    let waited = commit.decided - at;
                    return Err(format!("trial {id} waits {waited} ms, not {wait}, after {class}"));
                }
            }
            return parallel(ledger, record);
        }
        Ok(())
    }
}

/// A tenth less than the rule says: the coordinator's clock may run fast.
fn wait(class: FailureClass, trial: &TrialRecord) -> u64 {
    let counts = matches!(
        class,
        FailureClass::Oom | FailureClass::Crashed | FailureClass::Timeout | FailureClass::Infra
    );
    // Nobody knows which member of a pack it was.
    let blameless = trial.pack_members > 1 && class != FailureClass::Infra;
    if !counts || blameless {
        return 0;
    }
    let config = Config::default();
    let doubled = config.backoff_base << trial.failures.saturating_sub(1).min(20);
    doubled.min(config.backoff_cap) * 9 / 10
}

fn parallel(ledger: &Ledger, record: &TrialRecord) -> Result<(), String> {
    let Some(sweep) = ledger.sweeps.get(&record.id.sweep) else { return Ok(()) };
    let Phase::Leased(_) = record.phase else { return Ok(()) };
    let id = record.id;
    if sweep.record.status != SweepStatus::Running {
        return Err(format!("trial {id} is leased, its sweep is {}", sweep.record.status));
    }
    if let Some(most) = sweep.controls.max_parallel.filter(|most| sweep.leased >= *most) {
        return Err(format!("trial {id} is one too many: {most} may run"));
    }
    match sweep.controls.budget {
        Some(budget) if sweep.record.used >= budget => {
            Err(format!("trial {id} is leased beyond the budget of {budget} ms"))
        }
        _ => Ok(()),
    }
}
