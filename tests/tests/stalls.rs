//! The coordinator is stopped for longer than its leases last, or its database is locked by somebody
//! else, while a sweep runs: every trial ends with its one right result. A coordinator that did not
//! listen does not take that for the silence of its workers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::thread::sleep;
use std::time::Duration;

use deptune_tests::{
    PATIENCE, Process, Project, Store, World, assert_whole, expected_metrics, fake_trainer,
    quickstart, until,
};
use nix::sys::signal::Signal;
use sqlx::Connection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tokio::runtime::Runtime;

/// Two workers.
fn workers(world: &World, orders: &str, slots: &str) -> [Process; 2] {
    let args = ["--slots", slots];
    let start = |name| world.worker_with(orders, name, &fake_trainer(), &[&quickstart()], &args);
    ["one", "two"].map(start)
}

fn project(world: &World, trials: i64) -> Project {
    let seeds: Vec<i64> = (1..=trials).collect();
    world.project("project").with("seeds = [42]", &format!("seeds = {seeds:?}"))
}

/// Attempts that ended without an outcome, also those that were taken up again.
const INTERRUPTED: &str = "select count(*) from log where entry like '%\"kind\":\"requeued\"%'";

#[test]
fn a_coordinator_that_was_stopped_takes_no_worker_for_lost() {
    const TRIALS: i64 = 4;
    const TTL: &str = "6s";
    // Longer, also than workers wait for an answer; shorter than a trial, which takes 20 s.
    const STOPPED: Duration = Duration::from_secs(13);

    let store = Store::Sqlite;
    let world = store.world();
    let coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", TTL]);
    // Two slots stay free, so that whatever were to come back would be given away at once.
    let _workers = workers(&world, "step_ms=200", "3");
    let project = project(&world, TRIALS)
        .with("steps = 6", "steps = 100")
        .with("eval_every = 3", "eval_every = 10");
    let waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    until("all trials run, and are heard of", PATIENCE, || {
        let heard = "select count(*) from attempts where last_step > 0";
        (store.number(&world, heard) == TRIALS).then_some(())
    });
    let holders = "select count(distinct worker) from trials where phase = 'leased'";
    assert_eq!(store.number(&world, holders), 2);

    coordinator.process.signal(Signal::SIGSTOP);
    sleep(STOPPED);
    coordinator.process.signal(Signal::SIGCONT);

    waiting.wait(PATIENCE).code(0);
    assert_eq!(store.number(&world, INTERRUPTED), 0, "workers were taken for lost");
    let first = "select count(*) from attempts where epoch = 1 and ending = 'succeeded'";
    assert_eq!(store.number(&world, first), TRIALS);
    assert_eq!(store.number(&world, "select count(*) from attempts"), TRIALS);
    assert_eq!(store.metrics(&world, 1), expected_metrics(&project, TRIALS));
    assert_whole(|sql| store.number(&world, sql), TRIALS);
}

/// Keeps a coordinator from committing, as somebody does who works on its database, until it is
/// dropped.
struct Lock {
    /// Its transaction ends with it.
    _connection: Box<dyn Send>,
    _runtime: Runtime,
}

impl Lock {
    fn take(store: &Store, world: &World) -> Lock {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connection = runtime.block_on(async {
            Ok::<Box<dyn Send>, sqlx::Error>(match store {
                Store::Sqlite => {
                    let options = SqliteConnectOptions::new()
                        .filename(world.data_dir().join("deptune.db"))
                        .busy_timeout(PATIENCE);
                    let mut connection = SqliteConnection::connect_with(&options).await?;
                    sqlx::query("begin immediate").execute(&mut connection).await?;
                    Box::new(connection)
                }
                Store::Postgres(database) => {
                    let mut connection = PgConnection::connect(&database.url).await?;
                    let lock = "begin; lock table trials in access exclusive mode";
                    sqlx::raw_sql(lock).execute(&mut connection).await?;
                    Box::new(connection)
                }
            })
        });
        Lock { _connection: connection.unwrap(), _runtime: runtime }
    }
}

/// Locks the database amid a sweep of short trials until the coordinator has lost patience, and a
/// bit longer.
fn locked(store: &Store) {
    const TRIALS: i64 = 100;
    // Shorter than its patience.
    const TTL: &str = "3s";
    const LONGER: Duration = Duration::from_secs(2);

    let world = store.world();
    let mut coordinator = world.serve_at("127.0.0.1:0", &["--lease-ttl", TTL]);
    let _workers = workers(&world, "step_ms=20", "2");
    let project = project(&world, TRIALS);
    let waiting = world.start("submit", &["submit", &project.spec(), "--wait"]);
    let outcomes = || store.number(&world, "select count(*) from outcomes");
    until("some trials have ended", PATIENCE, || (outcomes() >= 10).then_some(()));

    let lock = Lock::take(store, &world);
    let before = outcomes();
    assert!(before < TRIALS, "the sweep was over before");
    let mut listing = world.start("list", &["list", "--json"]);
    let mut changing = world.start("change", &["change", "1", "--priority", "7"]);
    coordinator.process.wait_for("commit failed");
    sleep(LONGER);
    let (listed, changed) = (!listing.is_running(), !changing.is_running());
    assert_eq!(outcomes(), before, "something was committed");
    drop(lock);

    // Who asked heard the truth, or that there is no answer, or waited.
    let list = listing.wait(PATIENCE);
    if list.code == Some(0) {
        let succeeded = list.json()["succeeded"].as_i64().unwrap();
        assert!(!listed || succeeded == before, "of {before}: {list}");
        assert!((before..=outcomes()).contains(&succeeded), "of at least {before}: {list}");
    } else {
        list.code(3);
    }
    let change = changing.wait(PATIENCE);
    if change.code == Some(0) {
        assert!(!changed, "it was not stored: {change}");
        assert_eq!(store.number(&world, "select priority from sweeps"), 7, "{change}");
    } else {
        change.code(3);
    }

    waiting.wait(PATIENCE).code(0);
    assert_eq!(store.metrics(&world, 1), expected_metrics(&project, TRIALS));
    assert_whole(|sql| store.number(&world, sql), TRIALS);
}

#[test]
fn a_file_that_is_locked_for_a_while_costs_no_result() {
    locked(&Store::Sqlite);
}

#[test]
fn a_table_that_is_locked_for_a_while_costs_no_result() {
    let Some(store) = Store::postgres() else { return };
    locked(&store);
}
