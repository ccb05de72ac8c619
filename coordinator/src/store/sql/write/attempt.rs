//! Writes about attempts.

use deptune_sweep::id::WorkerId;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::{AttemptEnd, AttemptRecord, WallMillis};
use deptune_sweep::scheduler::LeaseKey;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::{Value, statement};
use crate::store::sql::value::int;

pub(super) const START: &str = "insert into attempts (
             sweep, trial_index, epoch, worker, slot, first_step, last_step, started, members
         )
         select sweep, trial_index, epoch, $4, $5, $6, $6, $7, $8
         from trials
         where sweep = $1 and trial_index = $2 and epoch = $3 and phase = 'leased'
         on conflict (sweep, trial_index, epoch) do update set
             worker = excluded.worker, slot = excluded.slot, ended = null, ending = null,
             failure_class = null, message = ''";

/// The same for many.
pub(super) const START_MANY: &str = "
    insert into attempts (
        sweep, trial_index, epoch, worker, slot, first_step, last_step, started, members
    )
    select
        t.sweep, t.trial_index, t.epoch, n.worker, n.slot, n.first_step, n.first_step, n.started,
        n.members
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[],
        $7::bigint[], $8::bigint[]
    ) as n (
        sweep, trial_index, epoch, worker, slot, first_step, started, members
    )
    join trials t on t.sweep = n.sweep and t.trial_index = n.trial_index and t.epoch = n.epoch
        and t.phase = 'leased'
    on conflict (sweep, trial_index, epoch) do update set
        worker = excluded.worker, slot = excluded.slot, ended = null, ending = null,
        failure_class = null, message = ''";

pub(super) fn start_values(record: &AttemptRecord) -> Vec<Value<'_>> {
    vec![
        int(record.id.sweep.0).into(),
        int(record.id.index).into(),
        record.epoch.0.into(),
        record.worker.to_string().into(),
        record.slot.into(),
        int(record.first_step).into(),
        record.started.into(),
        record.members.into(),
    ]
}

/// Only the trial's current lease has an attempt that starts. A revived one keeps its start.
pub(super) async fn start(
    connection: &mut Connection<'_>,
    record: &AttemptRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt";
    let result = statement(START)
        .with(start_values(record))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    fence(result, record.id, record.epoch, WHAT)
}

pub(super) const PROGRESS: &str =
    "update attempts set last_step = case when last_step > $4 then last_step else $4 end
         where sweep = $1 and trial_index = $2 and epoch = $3";

/// The same for many.
pub(super) const PROGRESS_MANY: &str = "
    update attempts a set last_step = greatest(a.last_step, n.last_step)
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]
    ) as n (
        sweep, trial_index, epoch, last_step
    )
    where a.sweep = n.sweep and a.trial_index = n.trial_index and a.epoch = n.epoch";

pub(super) fn progress_values(lease: LeaseKey, last_step: u64) -> Vec<Value<'static>> {
    vec![
        int(lease.trial.sweep.0).into(),
        int(lease.trial.index).into(),
        lease.epoch.0.into(),
        int(last_step).into(),
    ]
}

pub(super) async fn progress(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    last_step: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt's progress";
    let result = statement(PROGRESS)
        .with(progress_values(lease, last_step))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)
}

pub(super) const END: &str = "update attempts set
             ending = $4, failure_class = $5, message = $6, ended = $7,
             last_step = case when last_step > $8 then last_step else $8 end
         where sweep = $1 and trial_index = $2 and epoch = $3";

/// The same for many.
pub(super) const END_MANY: &str = "
    update attempts a set
        ending = n.ending, failure_class = n.failure_class, message = n.message, ended = n.ended,
        last_step = greatest(a.last_step, n.last_step)
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
        $7::bigint[], $8::bigint[]
    ) as n (
        sweep, trial_index, epoch, ending, failure_class, message, ended, last_step
    )
    where a.sweep = n.sweep and a.trial_index = n.trial_index and a.epoch = n.epoch";

pub(super) fn end_values(
    lease: LeaseKey,
    end: AttemptEnd,
    class: Option<FailureClass>,
    message: &str,
    last_step: u64,
    at: WallMillis,
) -> Vec<Value<'_>> {
    vec![
        int(lease.trial.sweep.0).into(),
        int(lease.trial.index).into(),
        lease.epoch.0.into(),
        end.as_str().into(),
        class.map(FailureClass::as_str).into(),
        message.into(),
        at.into(),
        int(last_step).into(),
    ]
}

pub(super) async fn end(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    end: AttemptEnd,
    class: Option<FailureClass>,
    message: &str,
    last_step: u64,
    at: WallMillis,
) -> Result<(), CommitError> {
    const WHAT: &str = "an attempt's end";
    let result = statement(END)
        .with(end_values(lease, end, class, message, last_step, at))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)
}

pub(super) const STALE: &str =
    "insert into stale_reports (sweep, trial_index, epoch, worker, report, at)
         values ($1, $2, $3, $4, $5, $6)";

/// The same for many.
pub(super) const STALE_MANY: &str = "
    insert into stale_reports (sweep, trial_index, epoch, worker, report, at)
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[]
    )";

pub(super) fn stale_values(
    lease: LeaseKey,
    worker: WorkerId,
    report: &str,
    at: WallMillis,
) -> Vec<Value<'_>> {
    vec![
        int(lease.trial.sweep.0).into(),
        int(lease.trial.index).into(),
        lease.epoch.0.into(),
        worker.to_string().into(),
        report.into(),
        at.into(),
    ]
}

pub(super) async fn stale(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    worker: WorkerId,
    report: &str,
    at: WallMillis,
) -> Result<(), CommitError> {
    statement(STALE)
        .with(stale_values(lease, worker, report, at))
        .execute(connection)
        .await
        .map_err(refused("a stale report"))?;
    Ok(())
}
