//! People's own SQL.

use std::time::{Duration, Instant};

use deptune_coordinator::store::{QueryError, SqlValue};

use crate::bench::Bench;
use crate::sample::{end, first_lease, success, sweep, trial_id, worker};

#[tokio::test]
async fn values_and_columns_come_as_they_are() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    let sql = "select 1 as a, 2.5 as b, 'text' as c, x'00ff' as d, null as e, 1 = 1, \
               cast(x'ff' as text) -- no more; really";
    let answer = store.query(sql, 10).await.unwrap();
    assert_eq!(answer.columns[..5], ["a", "b", "c", "d", "e"]);
    let expected = [
        SqlValue::Integer(1),
        SqlValue::Real(2.5),
        SqlValue::Text("text".to_owned()),
        SqlValue::Blob(vec![0, 255]),
        SqlValue::Null,
        SqlValue::Integer(1),
        SqlValue::Text("\u{fffd}".to_owned()),
    ];
    assert_eq!(answer.rows, [expected]);
    assert!(!answer.truncated);
    // No rows, but columns.
    let answer = store.query("select trial_id, metric from trial_results", 10).await.unwrap();
    assert_eq!(answer.columns, ["trial_id", "metric"]);
    assert!(answer.rows.is_empty());
}

#[tokio::test]
async fn rows_over_the_limit_are_left_out_and_said_so() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    let sql = "with recursive n (x) as (values (1) union all select x + 1 from n where x < 100) \
               select x from n";
    let answer = store.query(sql, 100).await.unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (100, false));
    let answer = store.query(sql, 99).await.unwrap();
    assert_eq!((answer.rows.len(), answer.truncated), (99, true));
    // Bytes count as well.
    let sql = "with recursive n (x) as (values (1) union all select x + 1 from n where x < 100) \
               select zeroblob(10000000) from n";
    let answer = store.query(sql, 100).await.unwrap();
    assert!(answer.truncated && answer.rows.len() < 10);
}

#[tokio::test]
async fn a_row_is_bounded_and_so_is_each_value() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    for sql in [
        "select zeroblob(100000000)",
        "select length(hex(zeroblob(40000000)))",
        "select zeroblob(9000000), zeroblob(9000000), 3, 4, 5, 6, 7, 8",
        "select group_concat(hex(zeroblob(1000000))) from (values (1), (2), (3), (4), (5), (6), \
         (7), (8), (9), (10), (11), (12), (13), (14), (15), (16), (17), (18), (19), (20), (21), \
         (22), (23), (24), (25), (26), (27), (28), (29), (30), (31), (32), (33), (34), (35), (36))",
    ] {
        let error = store.query(sql, 10).await.unwrap_err();
        assert!(matches!(error, QueryError::TooLarge { .. }), "{sql}: {error:?}");
    }
    // One that was refused does not make the next one's values smaller.
    let answer = store.query("select zeroblob(60000000)", 10).await.unwrap();
    assert!(matches!(&answer.rows[0][0], SqlValue::Blob(bytes) if bytes.len() == 60_000_000));
}

#[tokio::test]
async fn nothing_can_be_changed() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    for sql in [
        "delete from sweeps",
        "pragma query_only = off",
        "attach '/tmp/x.db' as x",
        "begin",
        "vacuum into '/tmp/y.db'",
    ] {
        assert!(matches!(store.query(sql, 1).await, Err(QueryError::NotARead { .. })), "{sql}");
    }
    // Past the lexer, stopped by the connection.
    let error = store.query("with x as (select 1) delete from sweeps", 1).await.unwrap_err();
    assert!(matches!(error, QueryError::Refused(_)), "{error:?}");
    let error = store.query("select * from nonsense", 1).await.unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("no such table: nonsense"), "{source}");
    assert_eq!(store.load().await.unwrap().sweeps.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_without_end_is_stopped_and_stops_nobody_else() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    const ENDLESS: &str = "with recursive n (x) as (values (1) union all select x + 1 from n) \
                           select count(*) from n";
    let start = Instant::now();
    let endless = {
        let store = store.clone();
        tokio::spawn(async move { store.query(ENDLESS, 1).await })
    };
    // One that nobody waits for any more: its connection is free again at once.
    let abandoned = tokio::time::timeout(Duration::from_millis(200), store.query(ENDLESS, 1)).await;
    assert!(abandoned.is_err());
    for index in 0..5 {
        let mut writes = first_lease(trial_id(1, index));
        writes.extend(end(success(trial_id(1, index), 1, 60.0)));
        store.commit(&writes).await.unwrap();
        store.query("select count(*) from trial_results", 1).await.unwrap();
    }
    assert!(!endless.is_finished(), "all of that went on beside it");
    let error = endless.await.unwrap().unwrap_err();
    assert!(matches!(error, QueryError::Timeout { seconds: 10 }), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(15));
    store.query("select 1", 1).await.unwrap();
}
