//! A sweep gets more trials than its spec's grid has: some run others again, some have new seeds.
//! Each has a row from the start, since nothing else says what it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Epoch, SweepId, TrialId};
use crate::outcome::Outcome;
use crate::points::Points;
use crate::record::{Added, LogEntry, Phase, SpaceRecord, SpaceText};
use crate::scheduler::event::{Effect, Now, Refusal, Step, Write};
use crate::scheduler::state::{Scheduler, Sweep, Trial};

/// Most trials that one request adds.
const MAX_ADDED: usize = 100_000;

/// Most spaces that are added to one sweep, so that all of their texts fit into one answer.
const MAX_SPACES: usize = 32;

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

    /// A sweep has another space.
    pub(super) fn set_points(
        &mut self,
        sweep: SweepId,
        space: SpaceText,
        points: Points,
        now: Now,
        step: &mut Step,
    ) {
        let Some(state) = self.sweeps.get_mut(&sweep) else { return };
        state.points = points;
        state.spaces.push(space.clone());
        let number = u32::try_from(state.points.spaces()).unwrap_or(u32::MAX);
        let record = SpaceRecord { sweep, number, space, at: now.wall };
        step.writes.push(Write::Space { record, varied: state.points.varied() });
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
        check_count(added.len() as u64)?;
        if !added.is_empty() && budget.is_some_and(|budget| self.has_used(sweep, budget, now)) {
            return Err(Refusal::BudgetSpent(sweep));
        }
        Ok(())
    }
}

impl Sweep {
    /// The trials that more seeds make: one of every configuration for each seed that it does not
    /// have yet.
    pub(super) fn with_seeds(&self, seeds: &[u64]) -> Result<Vec<Added>, Refusal> {
        if seeds.is_empty() {
            return Ok(Vec::new());
        }
        let mut known = Known::of(self);
        let per = (self.spec().space.seeds.len() as u64).max(1);
        let of_grid = (0..self.grid / per).map(|number| (number, number * per));
        let all: Vec<(u64, u64)> = of_grid.chain(known.of_spaces.clone()).collect();
        known.missing(all, seeds)
    }

    /// Adds the trials that another space makes: one for each of its points that the sweep does not
    /// have yet, nor gets by `added`. `None` if there are none.
    pub(super) fn with_space(
        &self,
        text: &SpaceText,
        added: &mut Vec<Added>,
    ) -> Result<Option<Points>, Refusal> {
        let spec = self.record.submission.parse_space(text).map_err(Refusal::Space)?;
        if self.points.spaces() >= MAX_SPACES {
            let what = "spaces added to a sweep";
            return Err(Refusal::TooMany { what, count: MAX_SPACES + 1, limit: MAX_SPACES });
        }
        check_count(spec.total())?;
        let mut known = Known::of(self);
        for other in &*added {
            known.insert(self.points.configuration(other.origin), other.seed);
        }
        let seeds = spec.space.seeds.clone();
        let mut points = self.points.clone();
        let first = points.total();
        points.add(spec);
        // The seeds vary fastest.
        let firsts = (first..points.total()).step_by(seeds.len().max(1));
        let all: Vec<(u64, u64)> =
            firsts.map(|point| (points.configuration(point), point)).collect();
        let new = known.missing(all, &seeds)?;
        let has_new = !new.is_empty();
        added.extend(new);
        Ok(has_new.then_some(points))
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

    /// The point whose settings a trial has, and its seed.
    fn origin(&self, index: u64) -> Option<(u64, u64)> {
        if let Some(added) = self.added.get(&index) {
            return Some((added.origin, added.seed));
        }
        Some((index, self.points.settings(index)?.seed))
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

/// Which configurations have which seeds.
struct Known {
    /// Configurations of the grid, which have all of its seeds.
    grid: u64,
    seeds: BTreeSet<u64>,
    added: BTreeSet<(u64, u64)>,
    /// A point of each configuration that the grid does not have, by configuration.
    of_spaces: BTreeMap<u64, u64>,
}

impl Known {
    fn of(sweep: &Sweep) -> Known {
        let spec = sweep.spec();
        let (grid, seeds) = (spec.configurations(), spec.space.seeds.iter().copied().collect());
        let mut known = Known { grid, seeds, added: BTreeSet::new(), of_spaces: BTreeMap::new() };
        for added in sweep.added.values() {
            let configuration = sweep.points.configuration(added.origin);
            known.added.insert((configuration, added.seed));
            if configuration >= grid {
                known.of_spaces.entry(configuration).or_insert(added.origin);
            }
        }
        known
    }

    /// Whether this seed of this configuration was not known; it is from now on.
    fn insert(&mut self, configuration: u64, seed: u64) -> bool {
        let in_grid = configuration < self.grid && self.seeds.contains(&seed);
        !in_grid && self.added.insert((configuration, seed))
    }

    /// The trials that are not known yet, of configurations with a point each and seeds; they are
    /// known from now on.
    fn missing(
        &mut self,
        configurations: Vec<(u64, u64)>,
        seeds: &[u64],
    ) -> Result<Vec<Added>, Refusal> {
        let most = (configurations.len() as u64).saturating_mul(seeds.len() as u64);
        let mut missing = Vec::new();
        for (configuration, origin) in configurations {
            for &seed in seeds {
                if self.insert(configuration, seed) {
                    missing.push(Added { origin, seed, retry_of: None });
                }
            }
            if missing.len() > MAX_ADDED {
                check_count(most)?;
            }
        }
        Ok(missing)
    }
}

fn check_count(count: u64) -> Result<(), Refusal> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count > MAX_ADDED {
        return Err(Refusal::TooMany { what: "trials added", count, limit: MAX_ADDED });
    }
    Ok(())
}
