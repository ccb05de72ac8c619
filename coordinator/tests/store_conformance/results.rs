//! Counts and the leaderboard.

use std::collections::BTreeMap;

use deptune_coordinator::store::{LeaderboardRow, SqlValue};
use deptune_sweep::id::SweepId;
use deptune_sweep::metric::Number;
use deptune_sweep::record::TrialRecord;
use deptune_sweep::scheduler::Write;
use deptune_sweep::spec::Goal;

use crate::bench::Bench;
use crate::sample::{
    TOTAL, cancellation, end, failure, first_lease, leased, spec, success, sweep, sweep_record,
    trial_id, worker,
};

pub(crate) async fn progress_counts_every_trial_once(bench: Bench) {
    let store = bench.open().await;
    let none = {
        store.commit(&[worker(1), sweep(1)]).await.unwrap();
        store.sweep(SweepId(1)).await.unwrap().unwrap()
    };
    assert_eq!((none.trials, none.pending, none.best), (TOTAL, TOTAL, None));
    assert_eq!((none.metric_name.as_str(), none.goal), ("accuracy", Goal::Maximize));
    let mut writes = Vec::new();
    for index in 0..8 {
        writes.extend(first_lease(trial_id(1, index)));
    }
    writes.extend(end(success(trial_id(1, 0), 1, 70.0)));
    writes.extend(end(success(trial_id(1, 1), 1, 80.0)));
    writes.extend(end(success(trial_id(1, 2), 1, 80.0)));
    let mut not_a_number = success(trial_id(1, 3), 1, 0.0);
    not_a_number.result.as_mut().unwrap().metric = Number::NaN;
    writes.extend(end(not_a_number));
    writes.extend(end(failure(trial_id(1, 4), 1)));
    writes.extend(end(cancellation(trial_id(1, 5), 1)));
    let waiting = deptune_sweep::record::Phase::Pending { last_holder: None };
    writes.push(Write::Trial(TrialRecord { phase: waiting, ..leased(trial_id(1, 6), 1) }));
    store.commit(&writes).await.unwrap();
    let sweep = store.sweep(SweepId(1)).await.unwrap().unwrap();
    assert_eq!((sweep.succeeded, sweep.failed, sweep.cancelled, sweep.pruned), (4, 1, 1, 0));
    assert_eq!((sweep.running, sweep.pending), (1, 5));
    assert_eq!(sweep.best, Some((trial_id(1, 1), 80.0)), "of ties the first");
}

/// 97.5 % quantiles of Student's t for 1 and 2 degrees of freedom.
const T975: [f64; 2] = [12.706_204_736, 4.302_652_730];

pub(crate) async fn the_leaderboard_holds_the_right_numbers(bench: Bench) {
    let store = bench.open().await;
    let spec = spec();
    // By index, three seeds to a configuration. Configuration 0 has three successes, 1 the same
    // mean in two, 2 the best one and only once, 3 a metric that is not a number.
    let metrics = [
        Some(70.0),
        Some(71.3),
        Some(75.2),
        Some(72.0),
        None,
        Some(72.0 + 1.0 / 3.0),
        None,
        Some(90.0),
        None,
        Some(99.0),
        Some(f64::NAN),
        Some(99.5),
    ];
    let mut writes = vec![worker(1), sweep(1)];
    let mut by_configuration: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (index, metric) in metrics.into_iter().enumerate() {
        let id = trial_id(1, index as u64);
        writes.extend(first_lease(id));
        match metric {
            Some(metric) => {
                writes.extend(end(success(id, 1, metric)));
                by_configuration.entry(spec.configuration(id.index)).or_default().push(metric);
            }
            None => writes.extend(end(failure(id, 1))),
        }
    }
    store.commit(&writes).await.unwrap();
    let rows = store.leaderboard(SweepId(1), 0).await.unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows.iter().map(|r| r.place).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let order: Vec<u64> = rows.iter().map(|r| r.configuration).collect();
    assert_eq!(order, [2, 0, 1, 3]);
    for row in &rows {
        check(row, &by_configuration[&row.configuration]);
        let settings = spec.settings(row.configuration * 3).unwrap();
        assert_eq!(row.prompt_lr, settings.prompt_lr);
        assert_eq!(row.lowrank_lr, Some(1e-4));
        assert_eq!((row.prompt_length, row.rank), (4, 3));
        // The learning rates have columns of their own, dropout has not.
        let other: serde_json::Value = serde_json::from_str(&row.other_settings).unwrap();
        assert_eq!(other, serde_json::json!({ "dropout": settings.train.dropout.unwrap() }));
        assert_eq!(row.constant_answer, Some(52.5));
        assert_eq!(row.test_constant_answer, Some(50.25));
        assert_eq!(row.trainable_parameters, 544);
        assert_eq!((row.best_step, row.train_seconds), (50.0, Some(12.5)));
    }
    let two = store.leaderboard(SweepId(1), 2).await.unwrap();
    assert_eq!(two, rows[..2]);
    assert!(store.leaderboard(SweepId(9), 0).await.unwrap().is_empty());
}

/// The textbook's formulas, written down once more.
fn check(row: &LeaderboardRow, metrics: &[f64]) {
    let n = metrics.len() as f64;
    assert_eq!(f64::from(row.seeds), n);
    let mean = metrics.iter().sum::<f64>() / n;
    if !mean.is_finite() {
        assert_eq!((row.mean, row.std, row.ci_low, row.ci_high), (None, None, None, None));
        return;
    }
    near(row.mean, mean);
    near(row.test_mean, mean - 1.5);
    if metrics.len() == 1 {
        assert_eq!((row.std, row.ci_low, row.ci_high, row.test_std), (None, None, None, None));
        return;
    }
    let variance = metrics.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = T975[metrics.len() - 2] * variance.sqrt() / n.sqrt();
    near(row.std, variance.sqrt());
    near(row.test_std, variance.sqrt());
    near(row.ci_low, mean - half);
    near(row.ci_high, mean + half);
}

fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap();
    // The table of quantiles has six digits.
    assert!((found - expected).abs() < 2e-6 * expected.abs().max(1.0), "{found} {expected}");
}

pub(crate) async fn the_leaderboard_can_minimise(bench: Bench) {
    let store = bench.open().await;
    let record = sweep_record(1, "sample", "[objective]\ngoal = \"minimize\"\n");
    let mut writes = vec![worker(1), Write::Sweep(Box::new(record))];
    for (index, metric) in [(0, 3.0), (1, 3.0), (3, 1.0), (6, 2.0), (9, 1.0)] {
        let id = trial_id(1, index);
        writes.extend(first_lease(id));
        writes.extend(end(success(id, 1, metric)));
    }
    store.commit(&writes).await.unwrap();
    let rows = store.leaderboard(SweepId(1), 0).await.unwrap();
    let order: Vec<u64> = rows.iter().map(|r| r.configuration).collect();
    assert_eq!(order, [1, 3, 2, 0], "ties by configuration");
    assert_eq!(rows[3].std, Some(0.0), "equal seeds have no spread");
    assert_eq!((rows[3].ci_low, rows[3].ci_high), (Some(3.0), Some(3.0)));
    let sweep = store.sweep(SweepId(1)).await.unwrap().unwrap();
    assert_eq!((sweep.goal, sweep.best), (Goal::Minimize, Some((trial_id(1, 3), 1.0))));
}

pub(crate) async fn what_a_trial_took_of_its_device_is_in_its_row(bench: Bench) {
    if matches!(bench, Bench::Memory(_)) {
        return;
    }
    let store = bench.open().await;
    let mut writes = vec![worker(1), sweep(1)];
    let gpu = success(trial_id(1, 0), 1, 70.0);
    let mut cpu = success(trial_id(1, 1), 1, 70.0);
    let result = cpu.result.as_mut().unwrap();
    (result.mean_utilization, result.mean_power_watts) = (None, None);
    for outcome in [gpu, cpu] {
        writes.extend(first_lease(outcome.id));
        writes.extend(end(outcome));
    }
    store.commit(&writes).await.unwrap();
    let sql = "select peak_memory_bytes, mean_utilization, mean_power_watts from trial_results
               order by trial_index";
    let memory = SqlValue::Integer(300 << 20);
    assert_eq!(
        store.query(sql, 10).await.unwrap().rows,
        [
            vec![memory.clone(), SqlValue::Real(0.75), SqlValue::Real(412.5)],
            vec![memory, SqlValue::Null, SqlValue::Null],
        ]
    );
    // What no device does is stored by nobody.
    for (utilization, watts) in [(1.5, 400.0), (-0.5, 400.0), (0.5, -1.0), (0.5, 1e7)] {
        let mut wrong = success(trial_id(1, 2), 1, 70.0);
        let result = wrong.result.as_mut().unwrap();
        result.mean_utilization = Some(utilization);
        result.mean_power_watts = Some(watts);
        let mut writes = first_lease(wrong.id);
        writes.extend(end(wrong));
        assert!(store.commit(&writes).await.is_err(), "{utilization}, {watts}");
    }
}
