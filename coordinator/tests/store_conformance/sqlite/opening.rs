//! Which files are opened, and which are refused with what words.

use std::path::Path;

use deptune_coordinator::store::{Identity, OpenError, SqliteStore, Store};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

use crate::bench::{Bench, identity};
use crate::sample::{sweep, worker};

async fn refused(path: &Path) -> OpenError {
    SqliteStore::open(path, &identity()).await.unwrap_err()
}

async fn plain(path: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    options.connect().await.unwrap()
}

#[tokio::test]
async fn a_second_coordinator_is_told_who_has_the_file() {
    let bench = Bench::sqlite();
    let store = SqliteStore::open(&bench.path(), &identity()).await.unwrap();
    assert_eq!(store.generation(), 1);
    let other =
        Identity { pid: 1, host: "node-b".to_owned(), address: "http://10.0.0.2:1".to_owned() };
    let error = SqliteStore::open(&bench.path(), &other).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));
    let text = error.to_string();
    let pid = format!("process id {} on node-a at http://127.0.0.1:7311", std::process::id());
    assert!(text.contains(&pid), "{text}");
    assert!(text.contains("stop it first"), "{text}");

    // Another name of the same file is the same file.
    let link = bench.path().with_file_name("link.db");
    std::os::unix::fs::symlink(bench.path(), &link).unwrap();
    let error = SqliteStore::open(&link, &other).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }));

    // The first one still works, and when it is gone the next one takes over.
    store.commit(&[worker(1)]).await.unwrap();
    drop(store);
    let store = SqliteStore::open(&bench.path(), &other).await.unwrap();
    assert_eq!(store.generation(), 2);
}

#[tokio::test]
async fn a_file_of_a_later_version_is_refused() {
    let bench = Bench::sqlite();
    drop(bench.open().await);
    let mut connection = plain(&bench.path()).await;
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
         values (9999, 'from the future', true, x'00', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let error = refused(&bench.path()).await;
    assert!(matches!(error, OpenError::Newer { found: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("later version of deptune"));
}

#[tokio::test]
async fn a_database_of_something_else_is_left_alone() {
    let bench = Bench::sqlite();
    let mut connection = plain(&bench.path()).await;
    sqlx::query("create table recipes (name text)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let before = std::fs::read(bench.path()).unwrap();
    assert!(matches!(refused(&bench.path()).await, OpenError::Foreign { .. }));
    assert_eq!(std::fs::read(bench.path()).unwrap(), before);
}

#[tokio::test]
async fn damage_is_found_at_the_start() {
    let bench = Bench::sqlite();
    std::fs::write(bench.path(), "this is a shopping list, not a database; ".repeat(100)).unwrap();
    assert!(matches!(refused(&bench.path()).await, OpenError::Corrupt { .. }));

    // A real one, with a page in the middle overwritten.
    let bench = Bench::sqlite();
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    drop(store);
    let mut connection = plain(&bench.path()).await;
    sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut content = std::fs::read(bench.path()).unwrap();
    assert!(content.len() > 10 * 4096);
    let middle = content.len() / 2 / 4096 * 4096;
    content[middle..middle + 4096].fill(0x5a);
    std::fs::write(bench.path(), content).unwrap();
    let error = refused(&bench.path()).await;
    assert!(matches!(error, OpenError::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains("restore it from a backup"), "{error}");
}

#[tokio::test]
async fn paths_that_cannot_be_are_named() {
    let bench = Bench::sqlite();
    let directory = bench.path().parent().unwrap().to_owned();
    let error = refused(&directory.join("missing").join("deptune.db")).await;
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert!(error.to_string().contains("missing"), "{error}");
    let error = refused(&directory).await;
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    // An empty file is a new database.
    std::fs::write(bench.path(), "").unwrap();
    bench.open().await.commit(&[sweep(1)]).await.unwrap();
}
