//! The one place that writes, and the load that waits for what it wrote.

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::{Snapshot, Write};
use sqlx::postgres::PgConnection;

use super::PostgresStore;
use super::open::connected;
use crate::store::sql::trouble::{refused, uncommitted};
use crate::store::sql::{Connection, load as rows, write};
use crate::store::{CommitError, LoadError};

/// Locks the row of the leader until the transaction's end. What this takes from the lock of an
/// update is that an earlier transaction of ours, whose connection was lost, is over before.
const GENERATION: &str = "select generation from coordinator where id = 1 for update";

pub(super) async fn commit(store: &PostgresStore, writes: &[Write]) -> Result<(), CommitError> {
    let mut writer = store.writer.lock().await;
    // If this future is dropped from here on, the connection goes with it and what it has begun
    // is rolled back.
    let mut connection =
        connected(&mut writer, &store.writing).await.map_err(refused("to the database"))?;
    let result = transact(&mut connection, store.generation, writes).await;
    let reusable = match &result {
        Ok(()) => true,
        Err(CommitError::Unknown(_)) => false,
        Err(_) => sqlx::query("rollback").execute(&mut connection).await.is_ok(),
    };
    if reusable {
        *writer = Some(connection);
    }
    result
}

async fn transact(
    connection: &mut PgConnection,
    ours: i64,
    writes: &[Write],
) -> Result<(), CommitError> {
    point(Point::BeforeBegin);
    // Read committed: the row is read as it is once its lock is ours.
    sqlx::query("begin isolation level read committed, read write")
        .execute(&mut *connection)
        .await
        .map_err(refused("a transaction"))?;
    point(Point::AfterBegin);
    let current: i64 = sqlx::query_scalar(GENERATION)
        .fetch_one(&mut *connection)
        .await
        .map_err(refused("after the generation"))?;
    if current != ours {
        return Err(CommitError::Deposed { ours, current });
    }
    for write in writes {
        point(Point::BeforeWrite);
        write::one(&mut Connection::Postgres(&mut *connection), write).await?;
        point(Point::AfterWrite);
    }
    point(Point::BeforeCommit);
    sqlx::query("commit").execute(connection).await.map_err(uncommitted)?;
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
