//! Commits under bad circumstances.

use std::process::Command;
use std::time::{Duration, Instant};

use deptune_coordinator::store::{CommitError, SqliteStore, Store};
use deptune_sweep::id::SweepId;
use deptune_sweep::record::LogEntry;
use deptune_sweep::scheduler::Write;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::bench::{Bench, identity};
use crate::sample::{first_lease, logged, sweep, trial_id, worker};

#[tokio::test]
async fn a_lock_from_outside_is_waited_for_and_then_named() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1)]).await.unwrap();
    let options = SqliteConnectOptions::new().filename(bench.path());
    let mut outside = options.connect().await.unwrap();
    sqlx::query("begin immediate").execute(&mut outside).await.unwrap();
    let start = Instant::now();
    let error = store.commit(&[sweep(1)]).await.unwrap_err();
    assert!(matches!(error, CommitError::Busy(_)), "{error:?}");
    let waited = start.elapsed();
    assert!(waited > Duration::from_secs(4) && waited < Duration::from_secs(15), "{waited:?}");
    // Reads go on meanwhile.
    assert!(store.load().await.unwrap().sweeps.is_empty());
    sqlx::query("rollback").execute(&mut outside).await.unwrap();
    outside.close().await.unwrap();
    store.commit(&[sweep(1)]).await.unwrap();
}

#[tokio::test]
async fn an_abandoned_commit_is_whole_or_not_at_all() {
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    for index in 0..12 {
        let writes = first_lease(trial_id(1, index));
        // Polled a few times, more each round, then dropped.
        let commit = store.commit(&writes);
        let patience = Duration::from_micros(150 * index);
        let result = tokio::time::timeout(patience, commit).await;
        // A commit after it waits until the abandoned one is over.
        store.commit(&[worker(2)]).await.unwrap();
        let row = store.trials(SweepId(1), index.checked_sub(1), 1).await.unwrap();
        let there = row.items.first().is_some_and(|t| t.id.index == index);
        let attempts = store.attempts(trial_id(1, index)).await.unwrap().len();
        assert_eq!(attempts, usize::from(there));
        assert!(there || result.is_err(), "an acknowledged commit is there");
        if !there {
            store.commit(&writes).await.unwrap();
        }
    }
    assert_eq!(store.load().await.unwrap().trials.len(), 12);
}

/// Runs [`on_a_full_disk`] in a file system of its own.
#[test]
fn a_full_disk_is_named_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$0\" || exit 99; exec \"$1\" --ignored \
                  --exact sqlite::trouble::on_a_full_disk --nocapture";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().unwrap())
        .env("DEPTUNE_TEST_SMALL_DISK", directory.path())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        Ok(output) if String::from_utf8_lossy(&output.stdout).contains("running 1 test") => {
            panic!("{output:#?}")
        }
        other => {
            eprintln!("SKIPPED: no file system can be mounted for this test: {other:?}");
            return;
        }
    };
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:#?}");
}

#[tokio::test]
#[ignore = "needs a small file system of its own; run by a_full_disk_is_named_and_loses_nothing"]
async fn on_a_full_disk() {
    let Some(directory) = std::env::var_os("DEPTUNE_TEST_SMALL_DISK") else { return };
    let path = std::path::Path::new(&directory).join("deptune.db");
    let store = SqliteStore::open(&path, &identity()).await.unwrap();
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    let mut cursor = 0;
    let mut entry = || {
        cursor += 1;
        let message = "x".repeat(20_000);
        let class = deptune_sweep::outcome::FailureClass::Crashed;
        let end = deptune_sweep::record::AttemptEnd::Failed;
        let epoch = deptune_sweep::id::Epoch(1);
        let what = LogEntry::Requeued { epoch, end, class, message };
        (cursor, Write::Log(logged(cursor, 1, None, what)))
    };
    let (acknowledged, error) = loop {
        let (cursor, write) = entry();
        match store.commit(&[write]).await {
            Ok(()) => assert!(cursor < 200, "1 MiB cannot hold this"),
            Err(error) => break (cursor - 1, error),
        }
    };
    assert!(matches!(error, CommitError::Full(_)), "{error:?}");
    // Again the same, not something stranger; and all that was acknowledged is there.
    let (_, write) = entry();
    assert!(matches!(store.commit(&[write]).await, Err(CommitError::Full(_))));
    assert_eq!(store.load().await.unwrap().last_cursor, acknowledged);
}
