//! The one place that writes: all of a step's writes in one transaction.

use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::Write;
use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions, Row};

use super::SqliteStore;
use crate::store::CommitError;
use crate::store::sql::Connection;
use crate::store::sql::trouble::{refused, uncommitted};
use crate::store::sql::write::{Failure, Manner};

/// Immediate: the write lock is ours before the generation is read.
const BEGIN: &str = "begin immediate; select generation from coordinator";

pub(super) async fn commit(store: &SqliteStore, writes: &[Write]) -> Result<(), CommitError> {
    let mut writer = store.writer.lock().await;
    // If this future is dropped from here on, the connection goes with it and what it has begun
    // is rolled back.
    let mut connection = match writer.take() {
        Some(connection) => connection,
        None => store.writing.connect().await.map_err(refused("to the database"))?,
    };
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
async fn is_reusable(connection: &mut SqliteConnection, result: &Result<(), Failure>) -> bool {
    match result {
        Ok(()) => true,
        Err(Failure::Told(CommitError::Unknown(_))) => false,
        Err(_) => sqlx::query("rollback").execute(connection).await.is_ok(),
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    ours: i64,
    writes: &[Write],
    manner: Manner,
) -> Result<(), Failure> {
    point(Point::BeforeBegin);
    let row = sqlx::query(BEGIN)
        .fetch_one(&mut *connection)
        .await
        .map_err(refused("a transaction and the generation"))?;
    point(Point::AfterBegin);
    let current: i64 = row.try_get(0).map_err(refused("the generation"))?;
    if current != ours {
        return Err(CommitError::Deposed { ours, current }.into());
    }
    manner.carry_out(&mut Connection::Sqlite(&mut *connection), writes).await?;
    point(Point::BeforeCommit);
    sqlx::query("commit").execute(connection).await.map_err(uncommitted)?;
    point(Point::AfterCommit);
    Ok(())
}
