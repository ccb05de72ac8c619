//! Writes about attempts.

use deptune_sweep::id::WorkerId;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::{AttemptEnd, AttemptRecord, WallMillis};
use deptune_sweep::scheduler::LeaseKey;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;

/// Only the trial's current lease has an attempt that starts. A revived one keeps its start.
pub(super) async fn start(
    connection: &mut Connection<'_>,
    record: &AttemptRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt";
    let result = statement(
        "insert into attempts (
             sweep, trial_index, epoch, worker, slot, first_step, last_step, started
         )
         select sweep, trial_index, epoch, $4, $5, $6, $6, $7
         from trials
         where sweep = $1 and trial_index = $2 and epoch = $3 and phase = 'leased'
         on conflict (sweep, trial_index, epoch) do update set
             worker = excluded.worker, slot = excluded.slot, ended = null, ending = null,
             failure_class = null, message = ''",
    )
    .bind(int(record.id.sweep.0))
    .bind(int(record.id.index))
    .bind(record.epoch.0)
    .bind(record.worker.to_string())
    .bind(record.slot)
    .bind(int(record.first_step))
    .bind(record.started)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, record.id, record.epoch, WHAT)
}

pub(super) async fn progress(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    last_step: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt's progress";
    let result = statement(
        "update attempts set last_step = case when last_step > $4 then last_step else $4 end
         where sweep = $1 and trial_index = $2 and epoch = $3",
    )
    .bind(int(lease.trial.sweep.0))
    .bind(int(lease.trial.index))
    .bind(lease.epoch.0)
    .bind(int(last_step))
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)
}

pub(super) async fn end(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    end: AttemptEnd,
    class: Option<FailureClass>,
    message: &str,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt's end";
    let result = statement(
        "update attempts set ending = $4, failure_class = $5, message = $6, ended = $7
         where sweep = $1 and trial_index = $2 and epoch = $3",
    )
    .bind(int(lease.trial.sweep.0))
    .bind(int(lease.trial.index))
    .bind(lease.epoch.0)
    .bind(end.as_str())
    .bind(class.map(FailureClass::as_str))
    .bind(message)
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)
}

pub(super) async fn stale(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    worker: WorkerId,
    report: &str,
    at: WallMillis,
) -> Result<(), CommitError> {
    statement(
        "insert into stale_reports (sweep, trial_index, epoch, worker, report, at)
         values ($1, $2, $3, $4, $5, $6)",
    )
    .bind(int(lease.trial.sweep.0))
    .bind(int(lease.trial.index))
    .bind(lease.epoch.0)
    .bind(worker.to_string())
    .bind(report)
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused("a stale report"))?;
    Ok(())
}
