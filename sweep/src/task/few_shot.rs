//! A few training rows of each class, chosen by the trial's seed.

use std::collections::BTreeMap;

use super::label::TargetRule;
use super::numpy::permutation;
use super::spec::{KShotSampling, TaskSpec};
use super::{DataError, Dataset, Example, Recipe, Split, TaskDef, TaskError};

/// A score above this counts as one class, one up to it as the other.
const MIDDLE_SCORE: f64 = 2.5;

/// How many rows are chosen, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KShot {
    rows: usize,
    sampling: KShotSampling,
}

impl KShot {
    /// The few-shot setting of a spec, if it has one.
    ///
    /// # Errors
    /// When there are no classes, or fewer rows than classes.
    pub(super) fn new(spec: &TaskSpec, def: &TaskDef) -> Result<Option<Self>, TaskError> {
        let useless =
            |key, reason: String| Err(TaskError::KShot { task: def.name.clone(), key, reason });
        let Some(rows) = spec.k_shot else {
            return match spec.k_shot_sampling {
                None => Ok(None),
                Some(_) => useless("k_shot_sampling", "it needs 'k_shot'".to_owned()),
            };
        };
        let classes = class_count(def);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        if classes == 0 {
            return useless("k_shot", "it needs a task with known labels".to_owned());
        }
        if rows < classes {
            return useless("k_shot", format!("it is less than the number of classes, {classes}"));
        }
        let sampling = spec.k_shot_sampling.unwrap_or(match def.recipe {
            Recipe::Default => KShotSampling::Balanced,
            Recipe::Reference => KShotSampling::Reference,
        });
        Ok(Some(Self { rows, sampling }))
    }
}

fn class_count(def: &TaskDef) -> usize {
    match def.target {
        TargetRule::Score { .. } => 2,
        _ => def.classes.len(),
    }
}

/// Number of the class that a row counts as.
fn class_of(def: &TaskDef, row: &Example) -> Option<usize> {
    match def.target {
        TargetRule::Score { .. } => {
            let score: f64 = row.target.parse().ok()?;
            Some(usize::from(score > MIDDLE_SCORE))
        }
        _ => def.classes.iter().position(|class| *class == row.target),
    }
}

impl Dataset {
    /// The data as a trial of that seed sees them: where the task asks for `k_shot` rows, these
    /// rows of the training part in a new order; otherwise all as it is. Validation and test are
    /// the same for every seed.
    ///
    /// The training part is put in the order of NumPy's `default_rng(seed).permutation`, as the
    /// authors' `shuffle` does, and gone through once:
    /// * [`KShotSampling::Reference`] takes a row while its class has fewer than `k / classes`
    ///   rows (rounded down), and any row where exactly one is missing to `k`;
    /// * [`KShotSampling::Balanced`] takes `k / classes` rows of each class, and one more of the
    ///   classes whose rows then come next, until there are `k`.
    ///
    /// # Errors
    /// When a class has too few rows for a balanced sample, or none are left.
    pub fn sample(mut self, def: &TaskDef, seed: u64) -> Result<Self, DataError> {
        let Some(k_shot) = def.k_shot else { return Ok(self) };
        let n = u32::try_from(self.train.len())
            .map_err(|_| DataError::TooManyRows { rows: self.train.len() as u64 })?;
        let mut rows: Vec<Option<Example>> = self.train.into_iter().map(Some).collect();
        let order = permutation(n, seed);
        let shuffled: Vec<Example> =
            order.iter().filter_map(|&i| rows.get_mut(i as usize)?.take()).collect();
        let classes: Vec<Option<usize>> = shuffled.iter().map(|row| class_of(def, row)).collect();
        let taken = match k_shot.sampling {
            KShotSampling::Reference => as_reference(&classes, k_shot.rows, class_count(def)),
            KShotSampling::Balanced => balanced(def, &classes, k_shot.rows)?,
        };
        self.train = shuffled
            .into_iter()
            .zip(taken)
            .filter(|(_, taken)| *taken)
            .map(|(row, _)| row)
            .collect();
        if self.train.is_empty() {
            return Err(DataError::EmptySplit { split: Split::Train });
        }
        Ok(self)
    }
}

/// Which rows the authors' code takes, given the rows' classes in shuffled order.
fn as_reference(classes: &[Option<usize>], k: usize, count: usize) -> Vec<bool> {
    let per_class = k / count;
    let mut counts = vec![0; count];
    let mut total = 0;
    let take = |class: &Option<usize>| {
        let Some(had) = class.and_then(|class| counts.get_mut(class)) else { return false };
        if total == k || !(*had < per_class || total + 1 == k) {
            return false;
        }
        *had += 1;
        total += 1;
        true
    };
    classes.iter().map(take).collect()
}

/// Exactly `k` rows, with class counts that differ by at most one.
fn balanced(def: &TaskDef, classes: &[Option<usize>], k: usize) -> Result<Vec<bool>, DataError> {
    let count = class_count(def);
    let (per_class, mut extra) = (k / count, k % count);
    let mut places: BTreeMap<usize, Vec<usize>> = (0..count).map(|c| (c, Vec::new())).collect();
    for (place, class) in classes.iter().enumerate() {
        if let Some(of_class) = class.and_then(|class| places.get_mut(&class)) {
            of_class.push(place);
        }
    }
    let mut taken = vec![false; classes.len()];
    let mut take = |place: usize| taken.get_mut(place).map(|taken| *taken = true);
    let mut next = Vec::new();
    for (class, places) in &places {
        if places.len() < per_class {
            let name = match def.target {
                TargetRule::Score { .. } if *class == 0 => format!("up to {MIDDLE_SCORE}"),
                TargetRule::Score { .. } => format!("above {MIDDLE_SCORE}"),
                _ => def.classes.get(*class).cloned().unwrap_or_default(),
            };
            let (rows, wanted) = (places.len() as u64, per_class as u64);
            return Err(DataError::TooFewOfClass { class: name, rows, wanted });
        }
        let (first, rest) = places.split_at(per_class);
        first.iter().for_each(|&place| {
            take(place);
        });
        next.extend(rest.first().copied());
    }
    next.sort_unstable();
    for place in next {
        if extra == 0 {
            break;
        }
        extra -= 1;
        take(place);
    }
    if extra > 0 {
        let (rows, parts) = (classes.len() as u64, k as u64);
        return Err(DataError::TooFewRows { rows, parts });
    }
    Ok(taken)
}

#[cfg(test)]
#[path = "few_shot_tests.rs"]
mod tests;
