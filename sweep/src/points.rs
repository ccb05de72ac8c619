//! The points of a sweep: what its trials can be. Those of the spec's grid come first, by index,
//! then those of each space that was added, in the order of adding. A point's number is part of a
//! sweep's meaning (a stored trial must keep its settings) and never changes.

use std::collections::BTreeSet;

use crate::space::{Cohort, TrainAxis};
use crate::spec::{Settings, Spec};

/// The spec's grid and the spaces that were added.
#[derive(Debug, Clone)]
pub struct Points {
    spec: Spec,
    added: Vec<Added>,
}

/// An added space.
#[derive(Debug, Clone)]
struct Added {
    /// Differs from the sweep's in the grid alone.
    spec: Spec,
    /// Number of its first point.
    first: u64,
    /// Number of its first configuration.
    first_configuration: u64,
    /// The first space with the same training settings: 0 for the grid, 1 for the first added.
    train_of: u32,
}

impl Points {
    /// The points of a spec's grid.
    #[must_use]
    pub fn new(spec: Spec) -> Points {
        Points { spec, added: Vec::new() }
    }

    /// The first point of a configuration; `None` for a number that no configuration has.
    #[must_use]
    pub fn first_of(&self, configuration: u64) -> Option<u64> {
        let at = self.added.partition_point(|added| added.first_configuration <= configuration);
        let (spec, first, before) = match at.checked_sub(1).and_then(|at| self.added.get(at)) {
            Some(added) => (&added.spec, added.first, added.first_configuration),
            None => (&self.spec, 0, 0),
        };
        let (number, seeds) = (configuration - before, spec.space.seeds.len() as u64);
        let is_there = number < spec.configurations();
        is_there.then(|| first.saturating_add(number.saturating_mul(seeds)))
    }

    /// The sweep's spec.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Number of spaces that were added.
    #[must_use]
    pub fn spaces(&self) -> usize {
        self.added.len()
    }

    /// Number of points.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.last().map_or(self.spec.total(), |last| last.first.saturating_add(last.spec.total()))
    }

    /// Adds the grid of `spec`, which differs from the sweep's in that alone.
    pub fn add(&mut self, spec: Spec) {
        let same = |other: &Spec| other.trains_like(&spec);
        let train_of = if same(&self.spec) {
            0
        } else {
            let like = self.added.iter().position(|added| same(&added.spec));
            u32::try_from(like.unwrap_or(self.added.len()) + 1).unwrap_or(u32::MAX)
        };
        let configurations = self.last().map_or(self.spec.configurations(), |last| {
            last.first_configuration.saturating_add(last.spec.configurations())
        });
        let first = self.total();
        self.added.push(Added { spec, first, first_configuration: configurations, train_of });
    }

    /// Keys of the training settings in which points differ, but for those that follow others.
    #[must_use]
    pub fn varied(&self) -> Vec<&'static str> {
        let specs = || std::iter::once(&self.spec).chain(self.added.iter().map(|it| &it.spec));
        let differs = |key: &&'static str| {
            let values: BTreeSet<u64> = specs().flat_map(|spec| spec.train_values(key)).collect();
            values.len() > 1
        };
        TrainAxis::KEYS.into_iter().filter(differs).collect()
    }

    fn last(&self) -> Option<&Added> {
        self.added.last()
    }

    /// The added space that has a point; `None` for a point of the grid.
    fn space_of(&self, point: u64) -> Option<(usize, &Added)> {
        let at = self.added.partition_point(|added| added.first <= point).checked_sub(1)?;
        self.added.get(at).map(|added| (at, added))
    }

    fn spec_of(&self, point: u64) -> (&Spec, u64) {
        match self.space_of(point) {
            Some((_, added)) => (&added.spec, point - added.first),
            None => (&self.spec, point),
        }
    }

    /// The settings of a point; `None` past the last.
    #[must_use]
    pub fn settings(&self, point: u64) -> Option<Settings> {
        let (spec, index) = self.spec_of(point);
        spec.settings(index)
    }

    /// Updates of a point; 0 past the last.
    #[must_use]
    pub fn steps(&self, point: u64) -> u64 {
        let (spec, index) = self.spec_of(point);
        spec.steps(index)
    }

    /// What a point has in common with those that it may train with; `None` past the last.
    #[must_use]
    pub fn cohort(&self, point: u64) -> Option<Cohort> {
        let (spec, index) = self.spec_of(point);
        let space = self.space_of(point).map_or(0, |(_, added)| added.train_of);
        Some(Cohort { space, ..spec.cohort(index)? })
    }

    /// Number of a point's configuration: the same for points that differ in the seed alone,
    /// whichever spaces they are of.
    #[must_use]
    pub fn configuration(&self, point: u64) -> u64 {
        let Some((at, added)) = self.space_of(point) else { return self.spec.configuration(point) };
        let index = point - added.first;
        let own = added.first_configuration.saturating_add(added.spec.configuration(index));
        let Some(settings) = added.spec.settings(index) else { return own };
        if let Some(known) = self.spec.configuration_like(&settings) {
            return known;
        }
        let earlier = self.added.iter().take(at);
        let known = earlier.filter_map(|added| {
            Some(added.first_configuration + added.spec.configuration_like(&settings)?)
        });
        known.min().unwrap_or(own)
    }
}

impl Spec {
    /// The configuration with the same settings but for the seed, if the grid has it.
    fn configuration_like(&self, settings: &Settings) -> Option<u64> {
        let index = self.index_on_axes(settings)?;
        let mut like = self.settings(index)?;
        like.seed = settings.seed;
        (like == *settings).then(|| self.configuration(index))
    }

    /// Values of a training setting that the grid can vary, as bits; none if it follows others.
    fn train_values(&self, key: &str) -> Vec<u64> {
        if let Some(axis) = self.space.train.iter().find(|axis| axis.key() == key) {
            return axis.bits();
        }
        let train = &self.train;
        match key {
            "steps" => vec![train.steps],
            "batch_size" => vec![train.batch_size.into()],
            "gradient_accumulation" => vec![train.gradient_accumulation.into()],
            "max_length" => vec![train.max_length.into()],
            "warmup_steps" if !self.space.follow.warmup_steps => vec![train.warmup_steps],
            "dropout" => train.dropout.map(f64::to_bits).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Whether the training settings of the two grids are the same, axes included.
    fn trains_like(&self, other: &Spec) -> bool {
        self.train == other.train
            && self.space.train == other.space.train
            && self.space.follow == other.space.follow
    }
}

/// Updates of all trials of a grid: an axis over `steps` has every value equally often.
#[must_use]
pub fn steps_of_grid(spec: &Spec) -> u64 {
    let axis = spec.space.train.iter().find_map(|axis| match axis {
        TrainAxis::Steps(values) => Some(values),
        _ => None,
    });
    match axis {
        Some(values) if !values.is_empty() => {
            let times = spec.total() / values.len() as u64;
            values.iter().fold(0, |sum: u64, &v| sum.saturating_add(v.saturating_mul(times)))
        }
        _ => spec.train.steps.saturating_mul(spec.total()),
    }
}

#[cfg(test)]
mod tests;
