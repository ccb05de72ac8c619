//! The one place that writes, and the load that waits for what it wrote.

use std::sync::atomic::Ordering;

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::{Snapshot, Write};
use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::open::connected;
use crate::store::sql::trouble::{refused, uncommitted};
use crate::store::sql::write::{Failure, Manner};
use crate::store::sql::{Connection, load as rows};
use crate::store::{CommitError, LoadError};

/// Locks the row of the leader until the transaction's end. What this takes from the lock of an
/// update is that an earlier transaction of ours, whose connection was lost, is over before.
const GENERATION: &str = "select generation from coordinator where id = 1 for update";

/// The same at the beginning of a transaction, in one trip over the network. Read committed: the
/// row is read as it is once its lock is ours.
const BEGIN: &str = "
    begin isolation level read committed, read write;
    select generation from coordinator where id = 1 for update";

/// Commits before which the tables' statistics are brought up to date. Sessions keep the plans of
/// their statements, and those of a table that was empty read all trials of a sweep to find one,
/// until the database counts its rows itself, which may take minutes.
const COUNTED: [u64; 6] = [4, 16, 64, 256, 1024, 4096];

/// Plans that use them are made anew. A table that is being cleaned up is passed over.
const STATISTICS: &str =
    "analyze (skip_locked) trials, attempts, outcomes, evaluations, evaluation_metrics";

pub(super) async fn commit(store: &PostgresStore, writes: &[Write]) -> Result<(), CommitError> {
    let mut writer = store.writer.lock().await;
    // If this future is dropped from here on, the connection goes with it and what it has begun
    // is rolled back.
    let mut connection =
        connected(&mut writer, &store.writing).await.map_err(refused("to the database"))?;
    let commits = store.commits.fetch_add(1, Ordering::Relaxed) + 1;
    if COUNTED.contains(&commits)
        && let Err(error) = sqlx::query(STATISTICS).execute(&mut connection).await
    {
        // Nothing depends on it but speed; a lost connection is noticed next.
        tracing::warn!(%error, "the statistics of the tables cannot be brought up to date");
    }
    let mut result = transact(&mut connection, store.generation, writes, Manner::Together).await;
    let mut reusable = is_reusable(&mut connection, &result).await;
    if let Err(why) = &result
        && reusable
        && why.is_of_one_write()
    {
        tracing::debug!(?why, "writes that were refused together are tried one by one");
        result = transact(&mut connection, store.generation, writes, Manner::OneByOne).await;
        reusable = is_reusable(&mut connection, &result).await;
    }
    if reusable {
        *writer = Some(connection);
    }
    result.map_err(CommitError::from)
}

/// Ends what a failed transaction has begun; whether the connection is good for another one.
async fn is_reusable(connection: &mut PgConnection, result: &Result<(), Failure>) -> bool {
    match result {
        Ok(()) => true,
        Err(Failure::Told(CommitError::Unknown(_))) => false,
        Err(_) => sqlx::query("rollback").execute(connection).await.is_ok(),
    }
}

async fn transact(
    connection: &mut PgConnection,
    ours: i64,
    writes: &[Write],
    manner: Manner,
) -> Result<(), Failure> {
    point(Point::BeforeBegin);
    let row = sqlx::raw_sql(BEGIN)
        .fetch_one(&mut *connection)
        .await
        .map_err(refused("a transaction and the generation"))?;
    point(Point::AfterBegin);
    let current: i64 = row.try_get(0).map_err(refused("the generation"))?;
    if current != ours {
        return Err(CommitError::Deposed { ours, current }.into());
    }
    manner.carry_out(&mut Connection::Postgres(&mut *connection), writes).await?;
    point(Point::BeforeCommit);
    sqlx::raw_sql("commit").execute(connection).await.map_err(uncommitted)?;
    point(Point::AfterCommit);
    Ok(())
}

/// Loads everything, once no commit of ours is under way any more. One whose connection was lost
/// while it committed may still take place a moment later; it holds the leader's row until then.
pub(super) async fn load(store: &PostgresStore) -> Result<Snapshot, LoadError> {
    const WHAT: &str = "the generation";
    let failed = |source| LoadError { what: WHAT, source };
    let mut writer = store.writer.lock().await;
    let mut connection = connected(&mut writer, &store.writing).await.map_err(failed)?;
    sqlx::query(GENERATION).execute(&mut connection).await.map_err(failed)?;
    *writer = Some(connection);
    drop(writer);
    rows::load(&store.reads).await
}
