//! Writes about workers.

use deptune_sweep::id::WorkerId;
use deptune_sweep::record::{WallMillis, WorkerRecord};
use sqlx::sqlite::SqliteConnection;

use super::refused;
use crate::store::CommitError;

pub(super) async fn put(
    connection: &mut SqliteConnection,
    record: &WorkerRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "a worker";
    let id = record.id.to_string();
    sqlx::query(
        "insert into workers (id, name, version, registered, left_at)
         values ($1, $2, $3, $4, $5)
         on conflict (id) do update set
             name = excluded.name, version = excluded.version, registered = excluded.registered,
             left_at = excluded.left_at",
    )
    .bind(&id)
    .bind(&record.name)
    .bind(&record.version)
    .bind(record.registered)
    .bind(record.left)
    .execute(&mut *connection)
    .await
    .map_err(refused(WHAT))?;
    sqlx::query("delete from worker_slots where worker = $1")
        .bind(&id)
        .execute(&mut *connection)
        .await
        .map_err(refused(WHAT))?;
    for (position, slot) in (0_i64..).zip(&record.slots) {
        sqlx::query(
            "insert into worker_slots (worker, position, slot, kind, threads, device)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&id)
        .bind(position)
        .bind(slot.slot)
        .bind(&slot.kind)
        .bind(slot.threads)
        .bind(&slot.device)
        .execute(&mut *connection)
        .await
        .map_err(refused(WHAT))?;
    }
    Ok(())
}

pub(super) async fn left(
    connection: &mut SqliteConnection,
    worker: WorkerId,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "a worker's departure";
    let result = sqlx::query("update workers set left_at = $2 where id = $1")
        .bind(worker.to_string())
        .bind(at)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    if result.rows_affected() == 0 {
        let why = format!("worker {worker} is not there");
        return Err(CommitError::Inconsistent { what: WHAT, why });
    }
    Ok(())
}
