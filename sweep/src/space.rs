//! The grid: which settings the trials of a sweep have, computed from a trial's index alone.
//!
//! Axes stand in one fixed order, whatever their order in the spec: the first varies slowest,
//! the seeds fastest, so that the trials of one configuration are neighbours. The order is part
//! of a sweep's meaning (a stored index must keep its settings) and never changes.

use crate::spec::{Settings, Spec, Train, default_eval_every, default_warmup_steps};

/// The axes of a grid. A valid one has at least one value per axis, no value twice, and at most
/// [`crate::spec::MAX_TRIALS`] trials.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Source adapters to start from, by name; `None` for a start without one. Empty when the
    /// spec has no such axis.
    pub source: Vec<Option<String>>,
    /// m: rows of the prompt. `[0]` for methods without one.
    pub prompt_length: Vec<u32>,
    /// r: columns of A and rows of B.
    pub rank: Ranks,
    /// α1: peak learning rates of the prompt; empty for methods without one.
    pub prompt_lr: Vec<f64>,
    /// α2: peak learning rates of DePT's A and B; empty when they are not trained or take α1.
    pub lowrank_lr: Vec<f64>,
    /// Whether A and B take the prompt's own rate.
    pub one_rate: bool,
    /// Peak learning rates of LoRA and full fine-tuning; empty for other methods.
    pub learning_rate: Vec<f64>,
    /// Axes over training settings, each at most once, in the order of [`TrainAxis`].
    pub train: Vec<TrainAxis>,
    /// Training settings that the spec leaves open and that follow others, axes included.
    pub follow: Follow,
    /// Seeds.
    pub seeds: Vec<u64>,
}

/// Which training settings the spec leaves to their defaults where the default depends on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Follow {
    /// `warmup_steps` follows `steps`.
    pub warmup_steps: bool,
    /// `eval_every` follows `steps`.
    pub eval_every: bool,
    /// `eval_batch_size` is `batch_size`.
    pub eval_batch_size: bool,
}

impl Follow {
    fn apply(self, train: &mut Train) {
        if self.warmup_steps {
            train.warmup_steps = default_warmup_steps(train.steps);
        }
        if self.eval_every {
            train.eval_every = default_eval_every(train.steps);
        }
        if self.eval_batch_size {
            train.eval_batch_size = train.batch_size;
        }
    }
}

/// The rank axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranks {
    /// These values. `[0]` for prompt tuning and full fine-tuning.
    List(Vec<u32>),
    /// No axis of its own: r follows from m and s, so that every configuration has as many
    /// parameters as a prompt of `to` rows alone.
    EqualParameters {
        /// Rows of that prompt.
        to: u32,
        /// d: the model's hidden size.
        hidden: u32,
        /// What happens where no whole r exists.
        rounding: Rounding,
    },
}

/// What happens where the equal-parameter rank is no whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// The spec is refused.
    Exact,
    /// The nearest whole number is taken, halves upwards.
    Nearest,
}

/// A training setting that differs between configurations.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainAxis {
    /// Updates.
    Steps(Vec<u64>),
    /// Rows per micro-batch.
    BatchSize(Vec<u32>),
    /// Micro-batches per update.
    GradientAccumulation(Vec<u32>),
    /// s: longest input in tokens.
    MaxLength(Vec<u32>),
    /// Updates of linear warm-up.
    WarmupSteps(Vec<u64>),
    /// Dropout rate.
    Dropout(Vec<f64>),
}

impl TrainAxis {
    /// The keys of all, in order.
    pub const KEYS: [&'static str; 6] =
        ["steps", "batch_size", "gradient_accumulation", "max_length", "warmup_steps", "dropout"];

    /// The key in the spec.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            TrainAxis::Steps(_) => "steps",
            TrainAxis::BatchSize(_) => "batch_size",
            TrainAxis::GradientAccumulation(_) => "gradient_accumulation",
            TrainAxis::MaxLength(_) => "max_length",
            TrainAxis::WarmupSteps(_) => "warmup_steps",
            TrainAxis::Dropout(_) => "dropout",
        }
    }

    /// Number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            TrainAxis::Steps(values) | TrainAxis::WarmupSteps(values) => values.len(),
            TrainAxis::BatchSize(values)
            | TrainAxis::GradientAccumulation(values)
            | TrainAxis::MaxLength(values) => values.len(),
            TrainAxis::Dropout(values) => values.len(),
        }
    }

    /// Whether it has no values.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its values, each as bits that no other value has.
    pub(crate) fn bits(&self) -> Vec<u64> {
        match self {
            TrainAxis::Steps(values) | TrainAxis::WarmupSteps(values) => values.clone(),
            TrainAxis::BatchSize(values)
            | TrainAxis::GradientAccumulation(values)
            | TrainAxis::MaxLength(values) => values.iter().map(|&v| v.into()).collect(),
            TrainAxis::Dropout(values) => values.iter().map(|v| v.to_bits()).collect(),
        }
    }

    /// Which of its values `train` has.
    fn position(&self, train: &Train) -> Option<usize> {
        match self {
            TrainAxis::Steps(values) => values.iter().position(|v| *v == train.steps),
            TrainAxis::BatchSize(values) => values.iter().position(|v| *v == train.batch_size),
            TrainAxis::GradientAccumulation(values) => {
                values.iter().position(|v| *v == train.gradient_accumulation)
            }
            TrainAxis::MaxLength(values) => values.iter().position(|v| *v == train.max_length),
            TrainAxis::WarmupSteps(values) => values.iter().position(|v| *v == train.warmup_steps),
            TrainAxis::Dropout(values) => values.iter().position(|v| Some(*v) == train.dropout),
        }
    }

    /// Puts the value at `at` into `train`; `None` past the end.
    fn apply(&self, at: usize, train: &mut Train) -> Option<()> {
        match self {
            TrainAxis::Steps(values) => train.steps = *values.get(at)?,
            TrainAxis::BatchSize(values) => train.batch_size = *values.get(at)?,
            TrainAxis::GradientAccumulation(values) => {
                train.gradient_accumulation = *values.get(at)?;
            }
            TrainAxis::MaxLength(values) => train.max_length = *values.get(at)?,
            TrainAxis::WarmupSteps(values) => train.warmup_steps = *values.get(at)?,
            TrainAxis::Dropout(values) => train.dropout = Some(*values.get(at)?),
        }
        Some(())
    }
}

/// What trials of one spec must have in common to train as a pack: the batches and the dropout
/// masks follow from the seed and the training settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cohort {
    /// The space that `train` counts in: 0 for the spec's grid, the number of an added one.
    pub space: u32,
    /// Seed.
    pub seed: u64,
    /// Number of the combination of training settings that the grid varies.
    pub train: u64,
    /// m: prompts of a pack are padded to the longest.
    pub prompt_length: u32,
    /// s
    pub max_length: u32,
}

impl Cohort {
    /// Whether another trial may join: it has the same batches and masks, and padding the shorter
    /// of their prompts costs less than a tenth of the positions.
    #[must_use]
    pub fn takes(&self, other: &Cohort) -> bool {
        let padding = self.prompt_length.abs_diff(other.prompt_length);
        let positions = self.prompt_length.min(other.prompt_length).saturating_add(self.max_length);
        self.seed == other.seed
            && self.space == other.space
            && self.train == other.train
            && padding.saturating_mul(10) < positions.max(1)
    }
}

impl Space {
    /// Number of trials. Saturates; a parsed space has at most [`crate::spec::MAX_TRIALS`].
    #[must_use]
    pub fn total(&self) -> u64 {
        self.configurations().saturating_mul(length(&self.seeds))
    }

    /// Number of configurations: trials that differ in more than the seed.
    #[must_use]
    pub fn configurations(&self) -> u64 {
        let ranks = match &self.rank {
            Ranks::List(values) => length(values),
            Ranks::EqualParameters { .. } => 1,
        };
        let rates = [&self.prompt_lr, &self.lowrank_lr, &self.learning_rate]
            .map(|values| length(values).max(1))
            .into_iter()
            .fold(length(&self.source).max(1), u64::saturating_mul);
        self.train
            .iter()
            .map(|axis| axis.len() as u64)
            .fold(length(&self.prompt_length), u64::saturating_mul)
            .saturating_mul(ranks)
            .saturating_mul(rates)
    }
}

fn length<T>(values: &[T]) -> u64 {
    values.len() as u64
}

/// Takes the fastest remaining digit of `index`, whose base is `base`.
fn digit(index: &mut u64, base: usize) -> Option<usize> {
    let base = base as u64;
    let value = index.checked_rem(base)?;
    *index /= base;
    usize::try_from(value).ok()
}

/// Where a trial stands on each axis; 0 on one without values.
struct Place {
    seed: usize,
    /// Number of the combination of training settings.
    train: u64,
    learning_rate: usize,
    lowrank_lr: usize,
    prompt_lr: usize,
    rank: usize,
    prompt_length: usize,
    source: usize,
}

impl Space {
    /// Number of combinations of training settings.
    fn train_combinations(&self) -> u64 {
        self.train.iter().map(|axis| axis.len() as u64).product()
    }

    /// The place on each axis of training settings of a combination, the fastest first.
    fn train_axes(&self, mut combination: u64) -> impl Iterator<Item = (&TrainAxis, usize)> {
        let axes = self.train.iter().rev();
        axes.map_while(move |axis| Some((axis, digit(&mut combination, axis.len())?)))
    }
}

impl Spec {
    /// Number of trials.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.space.total()
    }

    /// Number of configurations.
    #[must_use]
    pub fn configurations(&self) -> u64 {
        self.space.configurations()
    }

    /// The one place that knows the order of the axes; `None` for an index past the last.
    fn place(&self, index: u64) -> Option<Place> {
        if index >= self.total() {
            return None;
        }
        let space = &self.space;
        let mut rest = index;
        let seed = digit(&mut rest, space.seeds.len())?;
        let combinations = space.train_combinations();
        let train = rest.checked_rem(combinations)?;
        rest /= combinations;
        Some(Place {
            seed,
            train,
            learning_rate: digit(&mut rest, space.learning_rate.len().max(1))?,
            lowrank_lr: digit(&mut rest, space.lowrank_lr.len().max(1))?,
            prompt_lr: digit(&mut rest, space.prompt_lr.len().max(1))?,
            rank: match &space.rank {
                Ranks::List(values) => digit(&mut rest, values.len())?,
                Ranks::EqualParameters { .. } => 0,
            },
            prompt_length: digit(&mut rest, space.prompt_length.len())?,
            source: digit(&mut rest, space.source.len().max(1))?,
        })
    }

    /// The first trial whose values on the axes are those of `settings`; other settings may differ.
    /// `None` where an axis does not have the value.
    pub(crate) fn index_on_axes(&self, settings: &Settings) -> Option<u64> {
        let space = &self.space;
        let mut index = 0;
        // The slowest first, as `place` takes the fastest first.
        let mut push = |at: Option<usize>, base: usize| {
            index = index * base.max(1) as u64 + at? as u64;
            Some(())
        };
        let of = |value, values: &[_]| values.iter().position(|one| *one == value);
        let rate = |value: Option<f64>, values: &[f64]| match (value, values) {
            (_, []) => Some(0),
            (value, values) => of(value?, values),
        };
        let source = &settings.source;
        let source = if space.source.is_empty() {
            source.is_none().then_some(0)
        } else {
            space.source.iter().position(|one| one == source)
        };
        push(source, space.source.len())?;
        let rows = space.prompt_length.iter().position(|one| *one == settings.prompt_length);
        push(rows, space.prompt_length.len())?;
        if let Ranks::List(values) = &space.rank {
            push(values.iter().position(|one| *one == settings.rank), values.len())?;
        }
        push(rate(settings.prompt_lr, &space.prompt_lr), space.prompt_lr.len())?;
        push(rate(settings.lowrank_lr, &space.lowrank_lr), space.lowrank_lr.len())?;
        push(rate(settings.learning_rate, &space.learning_rate), space.learning_rate.len())?;
        for axis in &space.train {
            push(axis.position(&settings.train), axis.len())?;
        }
        push(Some(0), space.seeds.len())?;
        Some(index)
    }

    /// The configuration of the trial at `index`; trials of one configuration differ in the seed
    /// alone.
    #[must_use]
    pub fn configuration(&self, index: u64) -> u64 {
        index / length(&self.space.seeds).max(1)
    }

    /// Updates of the trial at `index`, without working out the rest of its settings; 0 for an
    /// index past the last.
    #[must_use]
    pub fn steps(&self, index: u64) -> u64 {
        if index >= self.total() {
            return 0;
        }
        // The training settings are the fastest digits of a configuration.
        let mut axes = self.space.train_axes(self.configuration(index));
        let steps = axes.find_map(|(axis, at)| match axis {
            TrainAxis::Steps(values) => values.get(at).copied(),
            _ => None,
        });
        steps.unwrap_or(self.train.steps)
    }

    /// What the trial at `index` has in common with those that it may train with; `None` for an
    /// index past the last.
    #[must_use]
    pub fn cohort(&self, index: u64) -> Option<Cohort> {
        let (space, place) = (&self.space, self.place(index)?);
        let mut axes = space.train_axes(place.train);
        let max_length = axes.find_map(|(axis, at)| match axis {
            TrainAxis::MaxLength(values) => values.get(at).copied(),
            _ => None,
        });
        Some(Cohort {
            space: 0,
            seed: *space.seeds.get(place.seed)?,
            train: place.train,
            prompt_length: *space.prompt_length.get(place.prompt_length)?,
            max_length: max_length.unwrap_or(self.train.max_length),
        })
    }

    /// The indexes of a cohort's trials, whatever their prompt length: the first of them and the
    /// distance from one to the next. `None` where the grid does not have its seed, or where its
    /// training settings are those of an added space.
    #[must_use]
    pub fn cohort_indexes(&self, cohort: &Cohort) -> Option<(u64, u64)> {
        if cohort.space != 0 {
            return None;
        }
        let seeds = length(&self.space.seeds);
        let seed = self.space.seeds.iter().position(|seed| *seed == cohort.seed)? as u64;
        let train = self.space.train_combinations();
        Some((cohort.train.saturating_mul(seeds).saturating_add(seed), seeds.saturating_mul(train)))
    }

    /// The settings of the trial at `index`, the same for ever; `None` for an index past the
    /// last.
    #[must_use]
    pub fn settings(&self, index: u64) -> Option<Settings> {
        let (space, place) = (&self.space, self.place(index)?);
        let mut train = self.train.clone();
        for (axis, at) in space.train_axes(place.train) {
            axis.apply(at, &mut train)?;
        }
        space.follow.apply(&mut train);
        // Axes without values have no rate.
        let learning_rate = space.learning_rate.get(place.learning_rate).copied();
        let lowrank_lr = space.lowrank_lr.get(place.lowrank_lr).copied();
        let prompt_lr = space.prompt_lr.get(place.prompt_lr).copied();
        let prompt_length = *space.prompt_length.get(place.prompt_length)?;
        let rank = match &space.rank {
            Ranks::List(values) => *values.get(place.rank)?,
            Ranks::EqualParameters { to, hidden, rounding } => {
                equal_rank(*to, prompt_length, train.max_length, *hidden, *rounding)?
            }
        };
        Some(Settings {
            recipe: self.recipe,
            task: self.task.clone(),
            method: self.method,
            prompt_length,
            rank,
            prompt_lr,
            lowrank_lr: if space.one_rate { prompt_lr } else { lowrank_lr },
            learning_rate,
            lora_alpha: self.lora_alpha,
            init: self.start.init,
            init_text: self.start.init_text.clone(),
            source: space.source.get(place.source).cloned().flatten(),
            warm_start: self.start.warm_start,
            seed: *space.seeds.get(place.seed)?,
            train,
            objective: self.objective.clone(),
        })
    }
}

/// Number of trained parameters: m·d + r·(s + d). Saturates.
#[must_use]
pub fn trainable_parameters(prompt_length: u32, rank: u32, max_length: u32, hidden: u32) -> u64 {
    let prompt = u64::from(prompt_length).saturating_mul(u64::from(hidden));
    let lowrank = u64::from(rank).saturating_mul(u64::from(max_length) + u64::from(hidden));
    prompt.saturating_add(lowrank)
}

/// The r with m·d + r·(s + d) = to·d, if there is a whole one (`Exact`) or rounded (`Nearest`).
/// `None` also where m > to.
#[must_use]
pub fn equal_rank(
    to: u32,
    prompt_length: u32,
    max_length: u32,
    hidden: u32,
    rounding: Rounding,
) -> Option<u32> {
    let left = u64::from(to.checked_sub(prompt_length)?) * u64::from(hidden);
    let each = u64::from(max_length) + u64::from(hidden);
    let (whole, over) = (left.checked_div(each)?, left.checked_rem(each)?);
    let rank = match rounding {
        Rounding::Exact if over != 0 => return None,
        Rounding::Exact => whole,
        Rounding::Nearest => whole + u64::from(over * 2 >= each),
    };
    u32::try_from(rank).ok()
}

/// Every pair (m, r) of whole numbers with m·d + r·(s + d) = to·d and 1 ≤ r ≤ min(s, d),
/// by rising m.
#[must_use]
pub fn equal_pairs(to: u32, max_length: u32, hidden: u32) -> Vec<(u32, u32)> {
    let most = max_length.min(hidden);
    (0..=to)
        .filter_map(|m| Some((m, equal_rank(to, m, max_length, hidden, Rounding::Exact)?)))
        .filter(|(_, rank)| (1..=most).contains(rank))
        .collect()
}

/// The `count` pairs of [`equal_pairs`] whose m is nearest to `prompt_length`, by rising m.
#[must_use]
pub fn nearest_pairs(
    to: u32,
    prompt_length: u32,
    max_length: u32,
    hidden: u32,
    count: usize,
) -> Vec<(u32, u32)> {
    let mut pairs = equal_pairs(to, max_length, hidden);
    pairs.sort_by_key(|(m, _)| (m.abs_diff(prompt_length), *m));
    pairs.truncate(count);
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests;
