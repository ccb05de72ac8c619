//! Deleting a sweep with everything that belongs to it.

use deptune_sweep::id::SweepId;
use deptune_sweep::record::WallMillis;

use super::refused;
use super::sweep::changed;
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;

/// In this order no row refers to one that is gone. Trials and their outcomes refer to each other;
/// the trials' reference is checked at the transaction's end.
const ROWS: [&str; 11] = [
    "delete from evaluation_classes where sweep = $1",
    "delete from evaluation_metrics where sweep = $1",
    "delete from evaluations where sweep = $1",
    "delete from stale_reports where sweep = $1",
    "delete from attempts where sweep = $1",
    "delete from outcomes where sweep = $1",
    "delete from trials where sweep = $1",
    "delete from log where sweep = $1",
    "delete from requests where sweep = $1",
    "delete from sweep_files where sweep = $1",
    "delete from sweeps where id = $1",
];

pub(super) async fn sweep(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "the deletion of a sweep";
    let result = statement(
        "insert into deleted_sweeps (id, request_id, name, deleted, last_cursor)
         select id, request_id, name, $2, (select coalesce(max(cursor), 0) from log)
         from sweeps where id = $1",
    )
    .bind(int(sweep.0))
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)?;
    for rows in ROWS {
        statement(rows).bind(int(sweep.0)).execute(connection).await.map_err(refused(WHAT))?;
    }
    Ok(())
}
