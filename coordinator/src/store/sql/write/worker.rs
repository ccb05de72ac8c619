//! Writes about workers.

use std::collections::BTreeSet;

use deptune_sweep::id::WorkerId;
use deptune_sweep::record::{PackLimit, PackMemory, WallMillis, WorkerRecord};

use super::refused;
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;

pub(super) async fn put(
    connection: &mut Connection<'_>,
    record: &WorkerRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "a worker";
    let id = record.id.to_string();
    statement(
        "insert into workers (id, name, version, registered, left_at, draining)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (id) do update set
             name = excluded.name, version = excluded.version, registered = excluded.registered,
             left_at = excluded.left_at, draining = excluded.draining",
    )
    .bind(&id)
    .bind(&record.name)
    .bind(&record.version)
    .bind(record.registered)
    .bind(record.left)
    .bind(record.draining)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    statement("delete from worker_slots where worker = $1")
        .bind(&id)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    statement("delete from worker_labels where worker = $1")
        .bind(&id)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    let labels: BTreeSet<&String> = record.labels.iter().collect();
    for label in labels {
        statement("insert into worker_labels (worker, label) values ($1, $2)")
            .bind(&id)
            .bind(label)
            .execute(connection)
            .await
            .map_err(refused(WHAT))?;
    }
    for (position, slot) in (0_i64..).zip(&record.slots) {
        statement(
            "insert into worker_slots (worker, position, slot, kind, threads, device, max_pack, memory)
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(&id)
        .bind(position)
        .bind(slot.slot)
        .bind(slot.kind.as_str())
        .bind(slot.threads)
        .bind(&slot.device)
        .bind(slot.max_pack)
        .bind(slot.memory.map(int))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    }
    Ok(())
}

pub(super) async fn left(
    connection: &mut Connection<'_>,
    worker: WorkerId,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "a worker's departure";
    let result = statement("update workers set left_at = $2 where id = $1")
        .bind(worker.to_string())
        .bind(at)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    if result == 0 {
        let why = format!("worker {worker} is not there");
        return Err(CommitError::Inconsistent { what: WHAT, why });
    }
    Ok(())
}

pub(super) async fn pack_limit(
    connection: &mut Connection<'_>,
    limit: &PackLimit,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "the size of packs";
    statement(
        "insert into pack_limits (shape, device, members, at) values ($1, $2, $3, $4)
         on conflict (shape, device) do update set members = excluded.members, at = excluded.at",
    )
    .bind(limit.shape.as_str())
    .bind(&limit.device)
    .bind(limit.members)
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    Ok(())
}

pub(super) async fn pack_memory(
    connection: &mut Connection<'_>,
    memory: &PackMemory,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "the memory of packs";
    statement(
        "insert into packs_measured
             (shape, device, members, bytes, estimated, sweep, trial_index, at)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (shape, device, members) do update set
             bytes = excluded.bytes, estimated = excluded.estimated,
             sweep = excluded.sweep, trial_index = excluded.trial_index, at = excluded.at",
    )
    .bind(memory.shape.as_str())
    .bind(&memory.device)
    .bind(memory.members)
    .bind(int(memory.bytes))
    .bind(int(memory.estimated))
    .bind(int(memory.trial.sweep.0))
    .bind(int(memory.trial.index))
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    Ok(())
}
