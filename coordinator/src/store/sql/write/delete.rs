//! Deleting a sweep with everything that belongs to it.

use deptune_sweep::id::SweepId;
use deptune_sweep::record::WallMillis;

use super::refused;
use super::sweep::changed;
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;

/// Trials whose rows go in one statement, so that each ends well within the time that a statement
/// may take, however large the sweep is.
const TRIALS: i64 = 500;

/// Rows of trials `$2` to `$3`. In this order no row refers to one that is gone. Trials and their
/// outcomes refer to each other; the trials' reference is checked at the transaction's end.
const OF_TRIALS: [&str; 7] = [
    "delete from evaluation_classes where sweep = $1 and trial_index between $2 and $3",
    "delete from evaluation_metrics where sweep = $1 and trial_index between $2 and $3",
    "delete from evaluations where sweep = $1 and trial_index between $2 and $3",
    "delete from stale_reports where sweep = $1 and trial_index between $2 and $3",
    "delete from attempts where sweep = $1 and trial_index between $2 and $3",
    "delete from outcomes where sweep = $1 and trial_index between $2 and $3",
    "delete from trials where sweep = $1 and trial_index between $2 and $3",
];

/// Some of the log; to be repeated until none is left.
const OF_LOG: &str = "delete from log where cursor in (
    select cursor from log where sweep = $1 order by cursor limit 10000
)";

/// The requests that changed it stay: a name that one of them gives may mean another sweep by the
/// time that it comes again.
const OF_SWEEP: [&str; 3] = [
    "delete from sweep_files where sweep = $1",
    "delete from sweep_spaces where sweep = $1",
    "delete from sweeps where id = $1",
];

pub(super) async fn sweep(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "the deletion of a sweep";
    let result = statement(
        "insert into deleted_sweeps (id, request_id, name, deleted, last_cursor, spec_hash)
         select id, request_id, name, $2, (select coalesce(max(cursor), 0) from log), spec_hash
         from sweeps where id = $1",
    )
    .bind(int(sweep.0))
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)?;
    let last: Option<i64> =
        statement("select max(trial_index) as last from trials where sweep = $1")
            .bind(int(sweep.0))
            .fetch_one(&mut *connection)
            .await
            .and_then(|row| row.try_get("last"))
            .map_err(refused(WHAT))?;
    let mut first = 0;
    while last.is_some_and(|last| first <= last) {
        let end = first.saturating_add(TRIALS - 1);
        for rows in OF_TRIALS {
            statement(rows)
                .bind(int(sweep.0))
                .bind(first)
                .bind(end)
                .execute(connection)
                .await
                .map_err(refused(WHAT))?;
        }
        first = end.saturating_add(1);
    }
    let rest = statement(OF_LOG).bind(int(sweep.0));
    while rest.clone().execute(connection).await.map_err(refused(WHAT))? > 0 {}
    for rows in OF_SWEEP {
        statement(rows).bind(int(sweep.0)).execute(connection).await.map_err(refused(WHAT))?;
    }
    Ok(())
}
