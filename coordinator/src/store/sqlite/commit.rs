//! The one place that writes: all of a step's writes in one transaction.

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::Write;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnection;

use super::SqliteStore;
use crate::store::CommitError;
use crate::store::sql::trouble::{refused, uncommitted};
use crate::store::sql::{Connection, write};

pub(super) async fn commit(store: &SqliteStore, writes: &[Write]) -> Result<(), CommitError> {
    let mut writer = store.writer.lock().await;
    // If this future is dropped from here on, the connection goes with it and what it has begun
    // is rolled back.
    let mut connection = match writer.take() {
        Some(connection) => connection,
        None => store.writing.connect().await.map_err(refused("to the database"))?,
    };
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
    connection: &mut SqliteConnection,
    ours: i64,
    writes: &[Write],
) -> Result<(), CommitError> {
    point(Point::BeforeBegin);
    // Immediate: the write lock is ours before the generation is read.
    sqlx::query("begin immediate")
        .execute(&mut *connection)
        .await
        .map_err(refused("a transaction"))?;
    point(Point::AfterBegin);
    let current: i64 = sqlx::query_scalar("select generation from coordinator")
        .fetch_one(&mut *connection)
        .await
        .map_err(refused("after the generation"))?;
    if current != ours {
        return Err(CommitError::Deposed { ours, current });
    }
    for write in writes {
        point(Point::BeforeWrite);
        write::one(&mut Connection::Sqlite(&mut *connection), write).await?;
        point(Point::AfterWrite);
    }
    point(Point::BeforeCommit);
    sqlx::query("commit").execute(connection).await.map_err(uncommitted)?;
    point(Point::AfterCommit);
    Ok(())
}
