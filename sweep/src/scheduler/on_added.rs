//! A sweep gets more trials than its spec's grid has: some run others again, some have new seeds.
//! Each has a row from the start, since nothing else says what it is.

use std::collections::BTreeSet;

use crate::id::{Epoch, SweepId, TrialId};
use crate::outcome::Outcome;
use crate::record::{Added, LogEntry, Phase};
use crate::scheduler::event::{Effect, Now, Refusal, Step, Write};
use crate::scheduler::state::{Scheduler, Sweep, Trial};

/// Most trials that one request adds.
const MAX_ADDED: usize = 100_000;

impl Scheduler {
    /// Runs trials again, as new ones: an outcome never changes.
    pub(super) fn retry(
        &mut self,
        sweep: SweepId,
        trials: Vec<u64>,
        now: Now,
        step: &mut Step,
    ) -> Result<(), Refusal> {
        let Some(state) = self.sweeps.get(&sweep) else { return Ok(()) };
        let wanted: BTreeSet<u64> = if trials.is_empty() {
            let again = state.ended.iter().filter(|(index, ended)| {
                ended.outcome != Outcome::Succeeded && !state.retries.contains_key(index)
            });
            again.map(|(&index, _)| index).collect()
        } else {
            for &index in &trials {
                state.check_retry(TrialId { sweep, index })?;
            }
            trials.into_iter().collect()
        };
        let added = |&index: &u64| {
            let (origin, seed) = state.origin(index)?;
            Some(Added { origin, seed, retry_of: Some(index) })
        };
        let added: Vec<Added> = wanted.iter().filter_map(added).collect();
        self.check_added(sweep, &added, state.controls.budget, now)?;
        self.add(sweep, &added, true, now, step);
        Ok(())
    }

    /// Gives a sweep trials that were checked before.
    pub(super) fn add(
        &mut self,
        sweep: SweepId,
        added: &[Added],
        retries: bool,
        now: Now,
        step: &mut Step,
    ) {
        let Some(state) = self.sweeps.get_mut(&sweep) else { return };
        if added.is_empty() {
            return;
        }
        let first = state.total;
        for (index, &added) in (first..).zip(added) {
            state.know_added(index, added);
            let Some(settings) = state.settings(index) else { continue };
            let id = TrialId { sweep, index };
            let trial = Trial::new(Epoch(1), Phase::Pending { last_holder: None }, Some(added));
            step.writes.push(Write::NewTrial {
                record: trial.record(id),
                configuration: state.configuration(index),
                settings: Box::new(settings),
            });
            state.active.insert(index, trial);
            state.waiting.insert(index, now.monotonic, None);
        }
        let count = added.len() as u64;
        state.set_total(first + count);
        step.writes.push(Write::SweepTotal { sweep, total: state.total });
        if state.status.is_over() {
            self.reopen(sweep, now, step);
        }
        self.log(sweep, None, LogEntry::Added { first, count, retries }, now, step);
        step.effects.push(Effect::WorkAvailable);
    }

    /// Whether a sweep with this budget may get these trials.
    pub(super) fn check_added(
        &self,
        sweep: SweepId,
        added: &[Added],
        budget: Option<u64>,
        now: Now,
    ) -> Result<(), Refusal> {
        check_count(added.len())?;
        if !added.is_empty() && budget.is_some_and(|budget| self.has_used(sweep, budget, now)) {
            return Err(Refusal::BudgetSpent(sweep));
        }
        Ok(())
    }
}

impl Sweep {
    /// The trials that more seeds make: one of every configuration for each seed that the sweep
    /// does not have yet.
    pub(super) fn with_seeds(&self, seeds: Vec<u64>) -> Result<Vec<Added>, Refusal> {
        let mut known: BTreeSet<u64> = self.spec.space.seeds.iter().copied().collect();
        known.extend(self.added.values().map(|added| added.seed));
        let per = (self.spec.space.seeds.len() as u64).max(1);
        let new: Vec<u64> = seeds.into_iter().filter(|seed| known.insert(*seed)).collect();
        let configurations = self.grid / per;
        let count = (new.len() as u64).saturating_mul(configurations);
        check_count(usize::try_from(count).unwrap_or(usize::MAX))?;
        let of = |configuration: u64| {
            let origin = configuration * per;
            new.iter().map(move |&seed| Added { origin, seed, retry_of: None })
        };
        Ok((0..configurations).flat_map(of).collect())
    }

    fn check_retry(&self, trial: TrialId) -> Result<(), Refusal> {
        let refuse = |why: String| Err(Refusal::NotRetried { trial, why });
        if trial.index >= self.total {
            return Err(Refusal::UnknownTrial(trial));
        }
        if let Some(&index) = self.retries.get(&trial.index) {
            let again = TrialId { sweep: trial.sweep, index };
            return refuse(format!("that was done before, as trial {again}"));
        }
        match self.ended.get(&trial.index).map(|ended| ended.outcome) {
            None => refuse("it has not ended".to_owned()),
            Some(Outcome::Succeeded) => refuse("it succeeded".to_owned()),
            Some(_) => Ok(()),
        }
    }

    /// The trial of the grid whose settings a trial has, and its seed.
    fn origin(&self, index: u64) -> Option<(u64, u64)> {
        if let Some(added) = self.added.get(&index) {
            return Some((added.origin, added.seed));
        }
        Some((index, self.spec.settings(index)?.seed))
    }

    /// Remembers why an added trial exists.
    pub(super) fn know_added(&mut self, index: u64, added: Added) {
        if let Some(of) = added.retry_of {
            self.retries.insert(of, index);
        }
        self.added.insert(index, added);
        self.steps_total = self.steps_total.saturating_add(self.steps(index));
    }
}

fn check_count(count: usize) -> Result<(), Refusal> {
    if count > MAX_ADDED {
        return Err(Refusal::TooMany { what: "trials added", count, limit: MAX_ADDED });
    }
    Ok(())
}
