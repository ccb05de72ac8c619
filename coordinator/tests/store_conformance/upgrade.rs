//! A database of an earlier schema is brought up to date, and keeps what it holds.

use std::path::Path;

use deptune_coordinator::store::{SqlValue, Store};
use deptune_sweep::id::SweepId;
use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::bench::Bench;

/// The last migration of the first version.
const FIRST: i64 = 3;

/// Rows as the first version wrote them: one trial that waits with a checkpoint, one that
/// succeeded.
const ROWS: &str = "
insert into workers values ('00000000-0000-0000-0000-000000000001', 'node', '0.1.0', 1, null);
insert into sweeps values
    (1, '00000000-0000-0000-0000-000000000009', 'old', 'hash', 'spec', 'toml', '{}', null, false, 2, 2,
     'running', 5, null, 'accuracy', 'maximize', '');
insert into trials values
    (1, 0, 0, 'default', 'dept', 20, 60, 0.3, 5e-4, 42, 100, 32, 1, 256, 10, 10, 32, 1.0, null,
     'fp32', 1, 'pending', null, null, null, null, 0, 0, false, 50, 'abc'),
    (1, 1, 0, 'default', 'pt', 100, 0, 0.4, null, 43, 100, 32, 1, 256, 10, 10, 32, 1.0, 0.1,
     'fp32', 1, 'ended', null, null, null, 'succeeded', 0, 0, false, null, null);
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

/// The migration that brought what people do to sweeps.
const CONTROL: i64 = 6;

/// Rows as that version wrote them: a request about the sweep, and another sweep that was deleted.
const CONTROL_ROWS: &str = "
insert into requests values ('00000000-0000-0000-0000-00000000000a', 1, 8);
insert into deleted_sweeps values (2, '00000000-0000-0000-0000-00000000000b', 'gone', 9, 3);
";

/// The migrations of a database, in a folder of its own.
fn migrations(kind: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(kind)
}

/// Those with a number up to `last`.
async fn up_to(kind: &str, last: i64) -> Migrator {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(migrations(kind)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let number: i64 = name.split('_').next().unwrap().parse().unwrap();
        if number <= last {
            std::fs::copy(entry.path(), folder.path().join(name)).unwrap();
        }
    }
    Migrator::new(folder.path()).await.unwrap()
}

/// A database as the program with the migrations up to `last` left it: made and filled by the
/// first version, brought up to date by each one since.
async fn left_by(bench: &Bench, last: i64) {
    match bench {
        Bench::Memory(_) => unreachable!("it is not kept"),
        Bench::Sqlite(_) => {
            let options = SqliteConnectOptions::new()
                .filename(bench.path())
                .create_if_missing(true)
                .foreign_keys(false);
            let mut connection = options.connect().await.unwrap();
            up_to("sqlite", FIRST).await.run(&mut connection).await.unwrap();
            sqlx::raw_sql(ROWS).execute(&mut connection).await.unwrap();
            if last >= CONTROL {
                up_to("sqlite", CONTROL).await.run(&mut connection).await.unwrap();
                sqlx::raw_sql(CONTROL_ROWS).execute(&mut connection).await.unwrap();
            }
            up_to("sqlite", last).await.run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
        Bench::Postgres(database) => {
            let mut connection = PgConnection::connect(&database.url).await.unwrap();
            up_to("postgres", FIRST).await.run(&mut connection).await.unwrap();
            let rows = format!("begin; {ROWS} commit;");
            sqlx::raw_sql(sqlx::AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
            if last >= CONTROL {
                up_to("postgres", CONTROL).await.run(&mut connection).await.unwrap();
                sqlx::raw_sql(CONTROL_ROWS).execute(&mut connection).await.unwrap();
            }
            up_to("postgres", last).await.run(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }
}

/// The highest number of a migration.
fn latest(kind: &str) -> i64 {
    let names = std::fs::read_dir(migrations(kind)).unwrap().map(|it| it.unwrap().file_name());
    let number = |name: std::ffi::OsString| -> i64 {
        name.to_str().unwrap().split('_').next().unwrap().parse().unwrap()
    };
    names.map(number).max().unwrap()
}

#[test]
fn both_databases_have_the_same_migrations() {
    let names = |kind| {
        let entries = std::fs::read_dir(migrations(kind)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("sqlite"), names("postgres"));
}

#[tokio::test]
async fn a_file_of_every_earlier_schema_is_kept() {
    for last in FIRST..=latest("sqlite") {
        let bench = Bench::sqlite();
        left_by(&bench, last).await;
        let store = bench.open().await;
        holds_its_rows(&*store).await;
        knows_its_requests(&*store, last >= CONTROL).await;
    }
}

#[tokio::test]
async fn a_postgres_database_of_every_earlier_schema_is_kept() {
    for last in FIRST..=latest("postgres") {
        let Some(bench) = Bench::postgres() else { return };
        left_by(&bench, last).await;
        let store = bench.open().await;
        holds_its_rows(&*store).await;
        knows_its_requests(&*store, last >= CONTROL).await;
    }
}

/// What they asked for was not kept then.
async fn knows_its_requests(store: &dyn Store, there: bool) {
    let sql = "select sweep, at, content, answer from requests";
    let requests = store.query(sql, 10).await.unwrap().rows;
    let sql = "select id, last_cursor, spec_hash from deleted_sweeps";
    let deleted = store.query(sql, 10).await.unwrap().rows;
    if there {
        let number = SqlValue::Integer;
        assert_eq!(requests, [vec![number(1), number(8), SqlValue::Null, SqlValue::Null]]);
        assert_eq!(deleted, [vec![number(2), number(3), SqlValue::Null]]);
    } else {
        assert!(requests.is_empty() && deleted.is_empty());
    }
}

#[tokio::test]
async fn a_first_start_that_was_killed_between_migrations_is_resumed() {
    for last in 0..=latest("sqlite") {
        let bench = Bench::sqlite();
        let options = SqliteConnectOptions::new().filename(bench.path()).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        up_to("sqlite", last).await.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        assert!(bench.open().await.load().await.unwrap().sweeps.is_empty(), "sqlite, {last}");
    }
    for last in 0..=latest("postgres") {
        let Some(bench) = Bench::postgres() else { return };
        let Bench::Postgres(database) = &bench else { unreachable!("it is one") };
        let mut connection = PgConnection::connect(&database.url).await.unwrap();
        up_to("postgres", last).await.run(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        assert!(bench.open().await.load().await.unwrap().sweeps.is_empty(), "postgres, {last}");
    }
}

async fn holds_its_rows(store: &dyn Store) {
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
                   dropout_masks, stopped_early
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
            text("exact"),
            early,
        ]
    };
    assert_eq!(answer.rows, [row(0.3, SqlValue::Null), row(0.4, SqlValue::Integer(0))]);
    let board = store.query("select place, mean, source from leaderboard", 10).await.unwrap();
    assert_eq!(board.rows, [vec![SqlValue::Integer(1), SqlValue::Real(81.5), SqlValue::Null]]);
}
