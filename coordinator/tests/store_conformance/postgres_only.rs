//! What the store in Postgres must do besides: give the views of SQLite, bound people's SQL, and be
//! led by one coordinator.

use std::cell::Cell;
use std::error::Error as _;
use std::time::{Duration, Instant};

use deptune_coordinator::store::{
    Address, Campaign, CommitError, Identity, OpenError, PostgresDatabase, QueryError, SqlValue,
    Store,
};
use deptune_sweep::id::{ArtifactHash, SweepId};
use deptune_sweep::record::{PackLimit, PackMemory};
use deptune_sweep::scheduler::Write;

use crate::bench::{Bench, identity, lead};
use crate::methods;
use crate::postgres::{PASSWORD, Postgres};
use crate::sample::{
    cancellation, end, evaluated, evaluation, failure, first_lease, success, sweep, trial_id,
    worker,
};

/// Every view, with an order that is the same in both databases.
const VIEWS: [(&str, &str); 7] = [
    ("trial_results", "select * from trial_results order by sweep, trial_index"),
    ("leaderboard", "select * from leaderboard order by sweep, place"),
    (
        "learning_curves",
        "select * from learning_curves order by sweep, trial_index, step, split, metric_name",
    ),
    ("sweep_progress", "select * from sweep_progress order by sweep"),
    ("attempts_history", "select * from attempts_history order by sweep, trial_index, epoch"),
    (
        "class_reports",
        "select * from class_reports order by sweep, trial_index, step, split, label",
    ),
    ("pack_memory", "select * from pack_memory order by shape, device, pack_members"),
];

fn same(a: &SqlValue, b: &SqlValue) -> bool {
    match (a, b) {
        // Square roots by Newton's method there, by the processor here; quantiles of six digits.
        (SqlValue::Real(a), SqlValue::Real(b)) => (a - b).abs() <= 1e-12 * a.abs().max(1.0),
        _ => a == b,
    }
}

#[tokio::test]
async fn the_views_are_those_of_sqlite() {
    let Some(bench) = Bench::postgres() else { return };
    let others = Bench::sqlite();
    let (store, sqlite) = (bench.open().await, others.open().await);
    let mut writes = methods::all();
    writes.push(sweep(2));
    for index in 0..9 {
        let id = trial_id(2, index);
        writes.extend(first_lease(id));
        writes.push(evaluated(id, 1, evaluation(25, "validation", 60.0 + 1.7 * index as f64)));
        writes.push(evaluated(id, 1, evaluation(50, "test", f64::NAN)));
        match index {
            3 => writes.extend(end(failure(id, 1))),
            4 => writes.extend(end(cancellation(id, 1))),
            5 => {}
            7 => writes.extend(end(success(id, 1, f64::INFINITY))),
            _ => writes.extend(end(success(id, 1, 70.0 + 1.1 * index as f64))),
        }
    }
    let (shape, other) = (ArtifactHash::of(b"shape"), ArtifactHash::of(b"other shape"));
    let device = "cpu".to_owned();
    for (shape, members) in [(&shape, 3), (&other, 5)] {
        let limit = PackLimit { shape: shape.clone(), device: device.clone(), members };
        writes.push(Write::PackLimit { limit, at: 8 });
    }
    let trial = trial_id(2, 1);
    let memory = PackMemory { shape, device, members: 4, bytes: 5, estimated: 6, trial };
    writes.push(Write::PackMemory { memory, at: 9 });
    for store in [&store, &sqlite] {
        store.commit(&writes).await.unwrap();
    }
    for (view, sql) in VIEWS {
        let (found, expected) =
            (store.query(sql, 1000).await.unwrap(), sqlite.query(sql, 1000).await.unwrap());
        assert_eq!(found.columns, expected.columns, "{view}");
        let columns = found.columns;
        assert_eq!(found.rows.len(), expected.rows.len(), "{view}");
        assert!(!found.rows.is_empty(), "{view} shows nothing");
        for (found, expected) in found.rows.iter().zip(&expected.rows) {
            for ((found, expected), column) in found.iter().zip(expected).zip(&columns) {
                assert!(same(found, expected), "{view}.{column}: {found:?}, {expected:?}");
            }
        }
    }
    // And there is no other view.
    let sql = "select count(*) from information_schema.views where table_schema = 'public'";
    let count = store.query(sql, 1).await.unwrap().rows;
    assert_eq!(count, [[SqlValue::Integer(VIEWS.len() as i64)]]);
}

#[tokio::test]
async fn a_measured_number_of_any_size_breaks_no_view() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    let mut writes = vec![worker(1), sweep(1)];
    for (index, metric) in [f64::MAX, -f64::MAX, f64::MIN_POSITIVE, 1e200].into_iter().enumerate() {
        let mut outcome = success(trial_id(1, index as u64), 1, metric);
        outcome.result.as_mut().unwrap().train_seconds = f64::MAX;
        writes.extend(first_lease(outcome.id));
        writes.extend(end(outcome));
    }
    store.commit(&writes).await.unwrap();
    let board = store.leaderboard(SweepId(1), 0).await.unwrap();
    assert_eq!((board.len(), board[0].mean), (2, None));
    for (view, sql) in VIEWS {
        assert!(store.query(sql, 10).await.is_ok(), "{view}");
    }
}

#[tokio::test]
async fn values_come_as_they_are() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    let sql = "select 1 as a, 2.5::float8 as b, 'text' as c, '\\x00ff'::bytea as d, null as e, \
               1 = 1 as f, sum(x) as g, avg(x) as h, timestamptz '2023-11-14 22:13:20Z' as i \
               from (values (1::bigint), (2)) as v (x) -- no more; really";
    let answer = store.query(sql, 10).await.unwrap();
    assert_eq!(answer.columns, ["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    let expected = [
        SqlValue::Integer(1),
        SqlValue::Real(2.5),
        SqlValue::Text("text".to_owned()),
        SqlValue::Blob(vec![0, 255]),
        SqlValue::Null,
        SqlValue::Integer(1),
        SqlValue::Integer(3),
        SqlValue::Real(1.5),
        SqlValue::Text("2023-11-14T22:13:20Z".to_owned()),
    ];
    assert_eq!(answer.rows, [expected]);
    let answer = store.query("select * from generate_series(1, 100)", 99).await.unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (99, true));
    let plan = store.query("explain select * from trial_results;", 100).await.unwrap();
    assert_eq!(plan.columns, ["QUERY PLAN"]);
    let error = store.query("select array[1, 2] as list", 1).await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("list::text"), "{error:?}");
}

#[tokio::test]
async fn a_row_is_bounded_and_so_is_each_value() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    for sql in [
        "select repeat('x', 100000000)",
        "select repeat('é', 40000000) as a",
        "select convert_to(repeat('x', 70000000), 'UTF8')",
        "select repeat('x', 9000000), 2, 3, 4, 5, 6, 7, 8; -- eight",
        "with big as (select repeat('x', 100000000) as x) select x from big;",
    ] {
        let error = store.query(sql, 10).await.unwrap_err();
        assert!(matches!(error, QueryError::TooLarge { .. }), "{sql}: {error:?}");
    }
    let answer = store.query("select repeat('x', 60000000)", 10).await.unwrap();
    assert!(matches!(&answer.rows[0][0], SqlValue::Text(text) if text.len() == 60_000_000));
    // What else a statement may look like.
    for (sql, expected) in [
        ("select 1 as a, 2 as a; -- 'done'", 2),
        ("values (1, 'b', null);;", 3),
        ("select 'a; -- b' as \"c d\", 2 /* ; */", 2),
        ("table student_t", 2),
        ("select 1 as a order by a -- ;", 1),
        ("select * from (values (2), (1)) as v (x) order by x limit 1 offset 0", 1),
    ] {
        let answer = store.query(sql, 1).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!((answer.columns.len(), answer.rows[0].len()), (expected, expected), "{sql}");
    }
}

#[tokio::test]
async fn a_persons_sql_changes_nothing_and_ends() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    for sql in ["delete from sweeps", "commit", "set transaction read write", "drop table log"] {
        assert!(matches!(store.query(sql, 1).await, Err(QueryError::NotARead { .. })), "{sql}");
    }
    for sql in [
        "with x as (delete from log returning 1) select * from x",
        "select 1; commit; delete from log",
        "explain analyze delete from log",
        "select set_config('transaction_read_only', 'off', false)",
        "select * from nonsense",
    ] {
        assert!(matches!(store.query(sql, 1).await, Err(QueryError::Refused(_))), "{sql}");
    }
    let error = store.query("select $1", 1).await.unwrap_err();
    assert!(matches!(error, QueryError::Parameter), "{error:?}");
    let start = Instant::now();
    let endless = "select pg_sleep(60)::text";
    let given_up = tokio::time::timeout(Duration::from_millis(200), store.query(endless, 1)).await;
    assert!(given_up.is_err());
    let error = store.query(endless, 1).await.unwrap_err();
    assert!(matches!(error, QueryError::Timeout { seconds: 10 }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(40));
    assert_eq!(store.load().await.unwrap().sweeps.len(), 1);
}

fn other() -> Identity {
    Identity { host: "node-b".to_owned(), address: "127.0.0.1:7312".to_owned(), ..identity() }
}

#[tokio::test]
async fn one_leads_until_it_resigns_or_is_not_heard() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let lease = Duration::from_secs(600);
    let address = || database.url.parse::<Address>().unwrap();
    let (one, two) = tokio::join!(
        PostgresDatabase::open(address(), lease),
        PostgresDatabase::open(address(), lease),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let Campaign::Won(first) = one.campaign(&identity()).await.unwrap() else { panic!("lost") };
    let Campaign::Lost(leader) = two.campaign(&other()).await.unwrap() else { panic!("won") };
    assert_eq!((leader.host.as_str(), leader.address), ("node-a", identity().address));
    assert!(first.renew().await.unwrap());
    first.commit(&[worker(1)]).await.unwrap();

    first.resign().await.unwrap();
    let Campaign::Won(second) = two.campaign(&other()).await.unwrap() else { panic!("lost") };
    assert_eq!((first.generation(), second.generation()), (1, 2));
    // The first cannot write, lead on, or take the lead from the second.
    let refused = first.commit(&[worker(2)]).await;
    assert!(matches!(refused, Err(CommitError::Deposed { ours: 1, current: 2 })), "{refused:?}");
    assert!(!first.renew().await.unwrap());
    first.resign().await.unwrap();
    assert!(matches!(one.campaign(&identity()).await.unwrap(), Campaign::Lost(_)));

    // The second is not heard until its lease is over.
    database.psql("update lease set leads_until = clock_timestamp() - interval '1 second'");
    assert!(matches!(one.campaign(&identity()).await.unwrap(), Campaign::Won(_)));
    assert!(matches!(second.commit(&[]).await, Err(CommitError::Deposed { .. })));
    assert_eq!(first.load().await.unwrap().workers.len(), 1);
}

/// Has every insert of a worker take this long.
fn slow_down(database: &crate::postgres::PostgresDatabase<'_>, seconds: f64) {
    database.psql(&format!(
        "create function wait() returns trigger language plpgsql as
             $$ begin perform pg_sleep({seconds}); return new; end $$;
         create trigger wait before insert on workers for each row execute function wait()"
    ));
}

#[tokio::test]
async fn a_commit_longer_than_the_lease_does_not_depose_the_leader() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let lease = Duration::from_millis(1500);
    let address = || database.url.parse::<Address>().unwrap();
    let one = PostgresDatabase::open(address(), lease).await.unwrap();
    let two = PostgresDatabase::open(address(), lease).await.unwrap();
    let Campaign::Won(leader) = one.campaign(&identity()).await.unwrap() else { panic!("lost") };
    slow_down(&database, 5.0);
    let (started, committing) = (Instant::now(), Cell::new(true));
    let commits = async {
        let committed = leader.commit(&[worker(1)]).await;
        committing.set(false);
        (committed, started.elapsed())
    };
    let renews = async {
        // The trigger's sleep is on, and with it the lock of the coordinator's row.
        let mut last = Duration::ZERO;
        while committing.get() {
            tokio::time::sleep(Duration::from_millis(250)).await;
            let renewed = tokio::time::timeout(lease, leader.renew()).await;
            assert!(renewed.expect("it does not wait for the commit").unwrap(), "it leads on");
            let campaign = two.campaign(&other()).await.unwrap();
            assert!(matches!(campaign, Campaign::Lost(_)), "another one has taken over");
            if committing.get() {
                last = started.elapsed();
            }
        }
        last
    };
    let ((committed, lasted), renewed) = tokio::join!(commits, renews);
    committed.unwrap();
    assert!(lasted > 2 * lease && renewed > 2 * lease, "{lasted:?}, renewed until {renewed:?}");
    leader.commit(&[]).await.unwrap();
}

#[tokio::test]
async fn a_takeover_waits_for_the_last_commit_and_refuses_the_next() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let lease = Duration::from_millis(400);
    let address = || database.url.parse::<Address>().unwrap();
    let one = PostgresDatabase::open(address(), lease).await.unwrap();
    let two = PostgresDatabase::open(address(), lease).await.unwrap();
    let Campaign::Won(leader) = one.campaign(&identity()).await.unwrap() else { panic!("lost") };
    slow_down(&database, 3.0);
    let commits = async { (leader.commit(&[worker(1)]).await, Instant::now()) };
    let takes = async {
        // The leader has begun, and its lease, which it does not renew, is over.
        let sleeping = "select count(*) from pg_stat_activity
                        where datname = current_database() and wait_event = 'PgSleep'";
        while database.psql(sleeping).trim() != "1" {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tokio::time::sleep(2 * lease).await;
        (two.campaign(&other()).await.unwrap(), Instant::now())
    };
    let ((committed, ended), (campaign, taken)) = tokio::join!(commits, takes);
    committed.unwrap();
    let Campaign::Won(second) = campaign else { panic!("nobody leads") };
    // Both instants are taken after the answers: by a little the later answer may come first.
    assert!(taken + Duration::from_millis(500) > ended, "the commit was in nobody's way");
    let refused = leader.commit(&[worker(2)]).await;
    assert!(matches!(refused, Err(CommitError::Deposed { ours: 1, current: 2 })), "{refused:?}");
    assert!(!leader.renew().await.unwrap());
    assert!(second.renew().await.unwrap(), "its lease counts from the end of the wait");
    assert_eq!(second.load().await.unwrap().workers.len(), 1);
}

#[tokio::test]
async fn sessions_that_are_ended_cost_no_acknowledged_commit() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let store = lead(&database).await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    for index in 0..5 {
        server.terminate(&database);
        let writes = first_lease(trial_id(1, index));
        let first = store.commit(&writes).await;
        assert!(first.is_err(), "its session was gone");
        assert!(!matches!(first, Err(CommitError::Unknown(_))), "it had not begun: {first:?}");
        store.commit(&writes).await.unwrap();
        assert_eq!(store.load().await.unwrap().trials.len() as u64, index + 1);
    }
    assert!(store.renew().await.unwrap());
}

/// Statements that changed a table since the last look, by a trigger on each.
struct Count<'d>(&'d crate::postgres::PostgresDatabase<'static>);

impl Count<'_> {
    fn start(&self) {
        self.0.psql(
            "create sequence statements;
             create function count_statement() returns trigger language plpgsql as
                 $$ begin perform nextval('statements'); return null; end $$;
             do $$ declare t text; begin
                 for t in select tablename from pg_tables where schemaname = 'public' loop
                     execute format('create trigger counted after insert or update or delete on %I
                         for each statement execute function count_statement()', t);
                 end loop;
             end $$",
        );
    }

    fn take(&self) -> i64 {
        let count = "select case when is_called then last_value else 0 end from statements";
        let count = self.0.psql(count).parse().unwrap();
        self.0.psql("alter sequence statements restart");
        count
    }
}

#[tokio::test]
async fn a_commit_of_many_trials_takes_as_many_statements_as_one_of_few() {
    let Some(bench) = Bench::postgres() else { return };
    let Bench::Postgres(database) = &bench else { unreachable!("it is one") };
    let store = bench.open().await;
    let count = Count(database);
    count.start();
    store.commit(&[worker(1), sweep(1), sweep(2)]).await.unwrap();
    count.take();
    let mut taken = Vec::new();
    for (number, trials) in [(1, 2), (2, 12)] {
        let ids = || (0..trials).map(|index| trial_id(number, index));
        let mut leases = Vec::new();
        let mut results = Vec::new();
        for id in ids() {
            leases.extend(first_lease(id));
            for step in [25, 50, 75] {
                results.push(evaluated(id, 1, evaluation(step, "validation", 60.0)));
            }
            results.extend(end(success(id, 1, 70.0)));
        }
        store.commit(&leases).await.unwrap();
        let of_leases = count.take();
        store.commit(&results).await.unwrap();
        taken.push((of_leases, count.take()));
    }
    assert_eq!(taken[0], taken[1], "statements for 2 trials and for 12");
    // New trials, next indexes, attempts; evaluations with their parts, attempts, trials, outcomes.
    // What inserts or updates counts twice.
    assert!(taken[1].0 <= 4 && taken[1].1 <= 9, "{taken:?}");
    let found = store.evaluations(SweepId(2), None, None, 0).await.unwrap().items;
    assert_eq!(found.len(), 36);
    assert!(found.iter().all(|row| row.evaluation.metrics.len() == 2));
    assert!(found.iter().all(|row| row.evaluation.per_class.len() == 2));
}

#[tokio::test]
async fn a_new_database_finds_rows_by_their_keys() {
    let Some(bench) = Bench::postgres() else { return };
    let Bench::Postgres(database) = &bench else { unreachable!("it is one") };
    let store = bench.open().await;
    let sweeps: Vec<Write> = (1..=25).map(sweep).collect();
    store.commit(&[vec![worker(1)], sweeps].concat()).await.unwrap();
    for id in (0..300).map(|n| trial_id(1 + n / 12, n % 12)) {
        store.commit(&first_lease(id)).await.unwrap();
        store.commit(&end(success(id, 1, 70.0))).await.unwrap();
    }
    // What a session has counted is seen once it has been idle for a while.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    store.commit(&[worker(2)]).await.unwrap();
    let read = database.psql(
        "select coalesce(sum(seq_tup_read), 0) from pg_stat_user_tables
         where relname in ('trials', 'attempts', 'outcomes')",
    );
    // Each of 600 commits that read a table whole would have read 150 rows on average.
    assert!(read.parse::<i64>().unwrap() < 10_000, "{read} rows were read in passing");
}

#[tokio::test]
async fn a_sweep_that_grows_is_not_read_to_find_one_of_its_trials() {
    let Some(bench) = Bench::postgres() else { return };
    let Bench::Postgres(database) = &bench else { unreachable!("it is one") };
    let store = bench.open().await;
    let total = Write::SweepTotal { sweep: SweepId(1), total: 1200 };
    store.commit(&[worker(1), sweep(1), total]).await.unwrap();
    for chunk in (0..1200).map(|n| trial_id(1, n)).collect::<Vec<_>>().chunks(4) {
        let leases: Vec<Write> = chunk.iter().flat_map(|&id| first_lease(id)).collect();
        store.commit(&leases).await.unwrap();
        let ends: Vec<Write> = chunk.iter().flat_map(|&id| end(success(id, 1, 70.0))).collect();
        store.commit(&ends).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    store.commit(&[worker(2)]).await.unwrap();
    let read = database.psql(
        "select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes
         where indexrelname in ('trials_by_state', 'trials_by_configuration', 'outcomes_by_metric')",
    );
    // Read whole for every trial, the sweep would give several times 1200 · 600 rows.
    assert!(read.parse::<i64>().unwrap() < 50_000, "{read} rows were read in passing");
}

#[tokio::test]
async fn writes_that_cannot_be_made_together_are_made_one_by_one() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    let mut writes = vec![worker(1), sweep(1)];
    for index in 0..3 {
        writes.extend(first_lease(trial_id(1, index)));
    }
    store.commit(&writes).await.unwrap();
    // One of many is of an earlier epoch: it is named, and none of them happened.
    let stale = crate::sample::leased(trial_id(1, 1), 0);
    let moved = |index| crate::sample::leased(trial_id(1, index), 2);
    let writes = [Write::Trial(moved(0)), Write::Trial(stale), Write::Trial(moved(2))];
    match store.commit(&writes).await {
        Err(CommitError::Fenced { trial, .. }) => assert_eq!(trial, trial_id(1, 1)),
        other => panic!("{other:?}"),
    }
    let loaded = store.load().await.unwrap();
    assert!(loaded.trials.iter().all(|trial| trial.epoch.0 == 1));
    store.commit(&[Write::Trial(moved(0)), Write::Trial(moved(2))]).await.unwrap();
}

#[tokio::test]
async fn a_message_with_a_zero_is_kept() {
    let Some(bench) = Bench::postgres() else { return };
    let store = bench.open().await;
    let mut outcome = failure(trial_id(1, 0), 1);
    outcome.message = "before\0after".to_owned();
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(outcome.id));
    writes.extend(end(outcome));
    store.commit(&writes).await.unwrap();
    let rows = store.trials(SweepId(1), None, 0).await.unwrap().items;
    assert_eq!(rows[0].message, "before\u{fffd}after");
}

#[tokio::test]
async fn what_is_not_ours_or_newer_is_refused() {
    let Some(server) = Postgres::shared() else { return };
    let open = async |database: &crate::postgres::PostgresDatabase<'_>| {
        let address = database.url.parse::<Address>().unwrap();
        PostgresDatabase::open(address, Duration::ZERO).await.unwrap_err()
    };
    let database = server.database();
    database.psql("create table recipes (name text)");
    assert!(matches!(open(&database).await, OpenError::Foreign { .. }));
    assert_eq!(
        database
            .psql("select string_agg(tablename, ',') from pg_tables where schemaname = 'public'"),
        "recipes"
    );

    let database = server.database();
    drop(lead(&database).await);
    database.psql(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'of the future', true, '', 0)",
    );
    let error = open(&database).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error:?}");
}

#[tokio::test]
async fn no_error_shows_the_password() {
    let Some(server) = Postgres::shared() else { return };
    let database = server.database();
    let wrong = [
        database.url.replace(PASSWORD, &format!("{PASSWORD}-not")),
        format!("{}-missing", database.url),
        format!("postgres://deptune:{PASSWORD}@127.0.0.1:1/x"),
    ];
    for url in wrong {
        let address: Address = url.parse().unwrap();
        let error = PostgresDatabase::open(address, Duration::ZERO).await.unwrap_err();
        let mut said = format!("{error} {error:?}");
        let mut cause = error.source();
        while let Some(error) = cause {
            said.push_str(&format!(" {error} {error:?}"));
            cause = error.source();
        }
        assert!(said.contains("connect"), "{said}");
        assert!(!said.contains(PASSWORD), "the password is in: {said}");
    }
}
