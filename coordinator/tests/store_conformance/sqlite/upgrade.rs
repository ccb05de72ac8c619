//! A database of an earlier schema is brought up to date, and keeps what it holds.

use std::path::Path;

use deptune_coordinator::store::{SqlValue, SqliteStore, Store};
use deptune_sweep::id::SweepId;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::bench::{Bench, identity};

/// The migrations of the first version.
const FIRST: &[&str] = &["0001_tables.sql", "0002_student_t.sql", "0003_views.sql"];

/// Rows as the first version wrote them: one trial that waits with a checkpoint, one that
/// succeeded.
const ROWS: &str = "
insert into workers values ('00000000-0000-0000-0000-000000000001', 'node', '0.1.0', 1, null);
insert into sweeps values
    (1, '00000000-0000-0000-0000-000000000009', 'old', 'hash', 'spec', 'toml', '{}', null, 0, 2, 2,
     'running', 5, null, 'accuracy', 'maximize', '');
insert into trials values
    (1, 0, 0, 'default', 'dept', 20, 60, 0.3, 5e-4, 42, 100, 32, 1, 256, 10, 10, 32, 1.0, null,
     'fp32', 1, 'pending', null, null, null, null, 0, 0, 0, 50, 'abc'),
    (1, 1, 0, 'default', 'pt', 100, 0, 0.4, null, 43, 100, 32, 1, 256, 10, 10, 32, 1.0, 0.1,
     'fp32', 1, 'ended', null, null, null, 'succeeded', 0, 0, 0, null, null);
insert into attempts values
    (1, 1, 1, '00000000-0000-0000-0000-000000000001', 0, 0, 100, 6, 7, 'succeeded', null, '');
insert into outcomes values
    (1, 1, 1, 'succeeded', null, '', '00000000-0000-0000-0000-000000000001', 7, null,
     'accuracy', 81.5, 'finite', 50, 52.5, 'finite', null, null, null, null, 100, 76800, 12.5,
     '{\"metric_name\":\"accuracy\",\"metric\":81.5,\"best_step\":50,\"test\":null,
       \"constant_metric\":52.5,\"steps\":100,\"trainable_parameters\":76800,
       \"train_seconds\":12.5}');
insert into evaluations values
    (1, 1, 50, 'validation', 1, 0.5, 'finite', null, null, 10, 0.1, 6);
insert into evaluation_metrics values
    (1, 1, 50, 'validation', 'trial', 0, 'accuracy', 81.5, 'finite');
";

async fn first_version(path: &Path) {
    let migrations = tempfile::tempdir().unwrap();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations/sqlite");
    for name in FIRST {
        std::fs::copy(all.join(name), migrations.path().join(name)).unwrap();
    }
    let options =
        SqliteConnectOptions::new().filename(path).create_if_missing(true).foreign_keys(false);
    let mut connection = options.connect().await.unwrap();
    let migrator = Migrator::new(migrations.path()).await.unwrap();
    migrator.run(&mut connection).await.unwrap();
    sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn rows_of_the_first_version_are_kept() {
    let bench = Bench::sqlite();
    first_version(&bench.path()).await;
    let store = SqliteStore::open(&bench.path(), &identity()).await.unwrap();
    let trials = store.trials(SweepId(1), None, 0).await.unwrap().items;
    let rates: Vec<_> = trials
        .iter()
        .map(|row| (row.prompt_lr, row.lowrank_lr, row.learning_rate, row.source.clone()))
        .collect();
    assert_eq!(rates, [(Some(0.3), Some(5e-4), None, None), (Some(0.4), None, None, None)]);
    let result = trials[1].result.as_ref().unwrap();
    assert!(!result.stopped_early && result.predictions.is_empty());
    let evaluations = store.evaluations(SweepId(1), None, None, 0).await.unwrap().items;
    assert_eq!(evaluations.len(), 1);
    assert!(evaluations[0].evaluation.per_class.is_empty());

    let sql = "select prompt_lr, optimizer, scheduler, weight_decay, init, warm_start, decoding,
                   stopped_early
               from trial_results order by trial_index";
    let answer = store.query(sql, 10).await.unwrap();
    let text = |text: &str| SqlValue::Text(text.to_owned());
    let row = |rate: f64, early: SqlValue| {
        vec![
            SqlValue::Real(rate),
            text("adamw"),
            text("linear"),
            SqlValue::Real(0.0),
            text("text"),
            text("all"),
            text("greedy"),
            early,
        ]
    };
    assert_eq!(answer.rows, [row(0.3, SqlValue::Null), row(0.4, SqlValue::Integer(0))]);
    let board = store.query("select place, mean, source from leaderboard", 10).await.unwrap();
    assert_eq!(board.rows, [vec![SqlValue::Integer(1), SqlValue::Real(81.5), SqlValue::Null]]);
}
