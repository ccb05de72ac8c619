//! What reads work out from the content.

use std::collections::BTreeMap;

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::Outcome;
use deptune_sweep::record::Phase;
use deptune_sweep::spec::{Goal, Train};

use super::state::{Attempt, State, Sweep, Trial};
use super::worker_of;
use crate::store::derived::selected;
use crate::store::student::t975;
use crate::store::{
    AttemptRow, LeaderboardRow, Page, SweepSummary, TrialPhase, TrialRow, page_limit,
};

/// The first rows of an iteration, and whether there are more.
pub(super) fn page<T>(rows: impl Iterator<Item = T>, limit: u32) -> Page<T> {
    let limit = page_limit(limit) as usize;
    let mut items: Vec<T> = rows.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    Page { items, more }
}

impl State {
    pub(super) fn trials_of(&self, sweep: SweepId) -> impl Iterator<Item = &Trial> {
        let first = TrialId { sweep, index: 0 };
        let last = TrialId { sweep, index: u64::MAX };
        self.trials.range(first..=last).map(|(_, trial)| trial)
    }

    pub(super) fn attempts_of(&self, trial: TrialId) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(move |((id, _), _)| *id == trial).map(|(_, attempt)| attempt)
    }

    pub(super) fn summary(&self, sweep: &Sweep) -> SweepSummary {
        let record = &sweep.record;
        let count = |outcome| {
            let ended = Phase::Ended { outcome };
            self.trials_of(record.id).filter(|t| t.record.phase == ended).count() as u64
        };
        let succeeded = count(Outcome::Succeeded);
        let failed = count(Outcome::Failed);
        let cancelled = count(Outcome::Cancelled);
        let pruned = count(Outcome::Pruned);
        let leased = |t: &&Trial| t.record.phase.holder().is_some();
        let running = self.trials_of(record.id).filter(leased).count() as u64;
        let larger = sweep.goal == Goal::Maximize;
        let mut best: Option<(TrialId, f64)> = None;
        for (id, result) in self.successes(record.id).map(|(t, r)| (t.record.id, r)) {
            let Some(metric) = result.metric.finite() else { continue };
            let better = |(_, held): (_, f64)| {
                Number::from(metric).is_better_than(Number::from(held), larger)
            };
            if best.is_none_or(better) {
                best = Some((id, metric));
            }
        }
        SweepSummary {
            id: record.id,
            name: record.name.clone(),
            status: record.status,
            trials: record.total,
            succeeded,
            failed,
            cancelled,
            pruned,
            running,
            pending: record.total - succeeded - failed - cancelled - pruned - running,
            metric_name: sweep.metric_name.to_owned(),
            goal: sweep.goal,
            best,
            submitted: record.submitted,
            finished: record.finished,
            spec_hash: record.spec_hash.clone(),
            controls: record.controls.unwrap_or(sweep.controls),
            used: record.used,
        }
    }

    fn successes(&self, sweep: SweepId) -> impl Iterator<Item = (&Trial, &TrialResult)> {
        self.trials_of(sweep).filter_map(|trial| {
            let outcome = self.outcomes.get(&trial.record.id)?;
            Some((trial, outcome.result.as_ref()?))
        })
    }

    pub(super) fn trial_row(&self, trial: &Trial) -> TrialRow {
        let (id, settings) = (trial.record.id, &trial.settings);
        let outcome = self.outcomes.get(&id);
        TrialRow {
            id,
            epoch: trial.record.epoch,
            phase: match trial.record.phase {
                Phase::Pending { .. } => TrialPhase::Pending,
                Phase::Leased(_) => TrialPhase::Leased,
                Phase::Ended { .. } => TrialPhase::Ended,
            },
            configuration: trial.configuration,
            method: settings.method,
            prompt_length: settings.prompt_length,
            rank: settings.rank,
            prompt_lr: settings.prompt_lr,
            lowrank_lr: settings.lowrank_lr,
            learning_rate: settings.learning_rate,
            source: settings.source.clone(),
            seed: settings.seed,
            retry_of: (trial.record.added.and_then(|added| added.retry_of))
                .map(|index| TrialId { sweep: id.sweep, index }),
            outcome: outcome.map(|o| o.outcome),
            class: outcome.and_then(|o| o.class),
            message: outcome.map_or_else(String::new, |o| o.message.clone()),
            result: outcome.and_then(|o| o.result.clone()),
            adapter: outcome.and_then(|o| o.adapter.clone()),
            attempts: u32::try_from(self.attempts_of(id).count()).unwrap_or(u32::MAX),
            worker: worker_of(self, trial),
        }
    }

    pub(super) fn attempt_row(&self, attempt: &Attempt) -> AttemptRow {
        let record = &attempt.record;
        AttemptRow {
            epoch: record.epoch,
            worker: self.workers.get(&record.worker).map_or_else(String::new, |w| w.name.clone()),
            slot: record.slot,
            first_step: record.first_step,
            last_step: attempt.last_step,
            end: attempt.ended.map(|(end, _)| end),
            class: attempt.class,
            message: attempt.message.clone(),
            started: record.started,
            ended: attempt.ended.map(|(_, at)| at),
        }
    }

    pub(super) fn leaderboard(&self, sweep: SweepId, limit: u32) -> Vec<LeaderboardRow> {
        let Some(held) = self.sweeps.get(&sweep) else { return Vec::new() };
        let mut configurations: BTreeMap<u64, Vec<(&Trial, &TrialResult)>> = BTreeMap::new();
        for (trial, result) in self.successes(sweep) {
            configurations.entry(trial.configuration).or_default().push((trial, result));
        }
        let mut rows: Vec<LeaderboardRow> =
            configurations.values().filter_map(|seeds| row(held, seeds)).collect();
        // Stable: of ties the lower configuration comes first.
        rows.sort_by(|a, b| {
            let quality = |row: &LeaderboardRow| Number::from(row.mean.unwrap_or(f64::NAN));
            quality(b).quality_cmp(quality(a), held.goal == Goal::Maximize)
        });
        rows.truncate(page_limit(limit) as usize);
        for (place, row) in (1..).zip(&mut rows) {
            row.place = place;
        }
        rows
    }
}

fn row(sweep: &Sweep, seeds: &[(&Trial, &TrialResult)]) -> Option<LeaderboardRow> {
    let (trial, result) = *seeds.first()?;
    let settings = &trial.settings;
    let of_test = |r: &TrialResult| {
        r.test.as_ref().and_then(|t| selected(&t.metrics, &r.metric_name)).and_then(Number::finite)
    };
    let metric = Spread::of(seeds.iter().map(|(_, r)| r.metric.finite()));
    let test = Spread::of(seeds.iter().map(|(_, r)| of_test(r)));
    let average = |values: &dyn Fn(&TrialResult) -> f64| {
        seeds.iter().map(|(_, r)| values(r)).sum::<f64>() / seeds.len() as f64
    };
    let test_constant =
        result.test.as_ref().and_then(|t| selected(&t.constant, &result.metric_name));
    Some(LeaderboardRow {
        place: 0,
        configuration: trial.configuration,
        method: settings.method,
        prompt_length: settings.prompt_length,
        rank: settings.rank,
        prompt_lr: settings.prompt_lr,
        lowrank_lr: settings.lowrank_lr,
        learning_rate: settings.learning_rate,
        source: settings.source.clone(),
        other_settings: other_settings(&sweep.varied, &settings.train),
        seeds: u32::try_from(seeds.len()).unwrap_or(u32::MAX),
        mean: metric.mean,
        std: metric.std,
        ci_low: metric.mean.zip(metric.half_width).map(|(mean, half)| mean - half),
        ci_high: metric.mean.zip(metric.half_width).map(|(mean, half)| mean + half),
        test_mean: test.mean,
        test_std: test.std,
        constant_answer: result.constant_metric.finite(),
        test_constant_answer: test_constant.and_then(Number::finite),
        trainable_parameters: result.trainable_parameters,
        best_step: average(&|r| r.best_step as f64),
        train_seconds: Some(average(&|r| r.train_seconds)),
    })
}

/// Mean, sample standard deviation and half of the 95 % interval.
struct Spread {
    mean: Option<f64>,
    std: Option<f64>,
    half_width: Option<f64>,
}

impl Spread {
    fn of(values: impl Iterator<Item = Option<f64>>) -> Spread {
        let nothing = Spread { mean: None, std: None, half_width: None };
        let Some(values) = values.collect::<Option<Vec<f64>>>() else { return nothing };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        if values.len() < 2 {
            return Spread { mean: Some(mean), ..nothing };
        }
        let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
        let std = (squares / (n - 1.0)).sqrt();
        let df = u32::try_from(values.len() - 1).unwrap_or(u32::MAX);
        Spread { mean: Some(mean), std: Some(std), half_width: Some(t975(df) * std / n.sqrt()) }
    }
}

fn other_settings(varied: &str, train: &Train) -> String {
    let mut settings = serde_json::Map::new();
    for key in varied.split(',').filter(|key| !key.is_empty()) {
        let value = match key {
            "steps" => train.steps.into(),
            "batch_size" => train.batch_size.into(),
            "gradient_accumulation" => train.gradient_accumulation.into(),
            "max_length" => train.max_length.into(),
            "warmup_steps" => train.warmup_steps.into(),
            "dropout" => train.dropout.into(),
            _ => continue,
        };
        settings.insert(key.to_owned(), value);
    }
    serde_json::Value::Object(settings).to_string()
}
