//! Writes about sweeps.

use deptune_sweep::id::{ArtifactHash, SweepId};
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::points::Points;
use deptune_sweep::record::{Controls, RequestRecord, SpaceRecord, SweepRecord, WallMillis};

use super::refused;
use crate::store::CommitError;
use crate::store::derived::varied_settings;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::{goal, int};

pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &SweepRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "a sweep";
    let submission = &record.submission;
    let spec = submission
        .parse()
        .map_err(|source| CommitError::Submission { sweep: record.id, source })?;
    statement(
        "insert into sweeps (
             id, request_id, name, spec_hash, spec, format, model_config, model_dir,
             model_uploaded, total, next_index, status, submitted, finished, metric_name, goal,
             varied_settings, model_repo, model_commit, paused, priority, weight, max_parallel,
             budget_ms, used_ms
         ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                   $19, $20, $21, $22, $23, $24, $25)",
    )
    .bind(int(record.id.0))
    .bind(record.request_id.to_string())
    .bind(&record.name)
    .bind(record.spec_hash.as_str())
    .bind(&submission.spec)
    .bind(&submission.format)
    .bind(&submission.model_config)
    .bind(&submission.model_dir)
    .bind(submission.model_uploaded)
    .bind(int(record.total))
    .bind(int(record.next_index))
    .bind(stored(record.status))
    .bind(record.submitted)
    .bind(record.finished)
    .bind(spec.objective.metric.name())
    .bind(goal(spec.objective.goal))
    .bind(varied_settings(&Points::new(spec).varied()))
    .bind(submission.model_hub.as_ref().map(|model| &model.repo))
    .bind(submission.model_hub.as_ref().map(|model| &model.commit))
    .bind(record.status == SweepStatus::Paused)
    .bind(record.controls.map(|c| i64::from(c.priority)))
    .bind(record.controls.map(|c| c.weight))
    .bind(record.controls.and_then(|c| c.max_parallel))
    .bind(record.controls.and_then(|c| c.budget).map(int))
    .bind(int(record.used))
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;

    for (position, file) in (0_i64..).zip(&submission.model_files) {
        statement(
            "insert into sweep_files (sweep, role, position, name, hash)
             values ($1, 'model', $2, $3, $4)",
        )
        .bind(int(record.id.0))
        .bind(position)
        .bind(&file.name)
        .bind(&file.hash)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    }
    for (position, file) in (0_i64..).zip(&submission.data) {
        statement(
            "insert into sweep_files (sweep, role, position, split, name, hash, size)
             values ($1, 'data', $2, $3, $4, $5, $6)",
        )
        .bind(int(record.id.0))
        .bind(position)
        .bind(&file.split)
        .bind(&file.name)
        .bind(file.hash.as_str())
        .bind(int(file.size))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    }
    Ok(())
}

/// The first index without a row.
pub(super) const NEXT_INDEX: &str =
    "update sweeps set next_index = $2 where id = $1 and next_index <= $2";

/// The same for many sweeps.
pub(super) const NEXT_INDEX_MANY: &str = "
    update sweeps s set next_index = n.next_index
    from unnest($1::bigint[], $2::bigint[]) as n (id, next_index)
    where s.id = n.id and s.next_index <= n.next_index";

/// What a sweep used.
pub(super) const USED: &str = "update sweeps set used_ms = $2 where id = $1 and used_ms <= $2";

/// The same for many.
pub(super) const USED_MANY: &str = "
    update sweeps s set used_ms = n.used_ms
    from unnest($1::bigint[], $2::bigint[]) as n (id, used_ms)
    where s.id = n.id and s.used_ms <= n.used_ms";

pub(super) async fn next_index(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    next_index: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "a sweep's next index";
    let result = statement(NEXT_INDEX)
        .bind(int(sweep.0))
        .bind(int(next_index))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

pub(super) async fn status(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    status: SweepStatus,
    finished: Option<WallMillis>,
) -> Result<(), CommitError> {
    const WHAT: &str = "a sweep's status";
    let result =
        statement("update sweeps set status = $2, finished = $3, paused = $4 where id = $1")
            .bind(int(sweep.0))
            .bind(stored(status))
            .bind(finished)
            .bind(status == SweepStatus::Paused)
            .execute(connection)
            .await
            .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

/// A paused sweep runs, as far as its status goes, and is marked besides.
fn stored(status: SweepStatus) -> &'static str {
    match status {
        SweepStatus::Paused => SweepStatus::Running.as_str(),
        status => status.as_str(),
    }
}

pub(super) async fn total(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    total: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "a sweep's number of trials";
    let result = statement("update sweeps set total = $2 where id = $1 and total <= $2")
        .bind(int(sweep.0))
        .bind(int(total))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

/// Another space of a sweep, and the training settings in which its trials differ now.
pub(super) async fn space(
    connection: &mut Connection<'_>,
    record: &SpaceRecord,
    varied: &[&str],
) -> Result<(), CommitError> {
    const WHAT: &str = "an added space";
    statement(
        "insert into sweep_spaces (sweep, number, text, format, at) values ($1, $2, $3, $4, $5)",
    )
    .bind(int(record.sweep.0))
    .bind(record.number)
    .bind(&record.space.text)
    .bind(record.space.format.as_str())
    .bind(record.at)
    .execute(&mut *connection)
    .await
    .map_err(refused(WHAT))?;
    let result = statement("update sweeps set varied_settings = $2 where id = $1")
        .bind(int(record.sweep.0))
        .bind(varied_settings(varied))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    changed(result, WHAT, record.sweep)
}

pub(super) async fn controls(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    controls: Controls,
) -> Result<(), CommitError> {
    const WHAT: &str = "what a sweep may use";
    let result = statement(
        "update sweeps set priority = $2, weight = $3, max_parallel = $4, budget_ms = $5
         where id = $1",
    )
    .bind(int(sweep.0))
    .bind(i64::from(controls.priority))
    .bind(controls.weight)
    .bind(controls.max_parallel)
    .bind(controls.budget.map(int))
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

pub(super) async fn used(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    used: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "what a sweep used";
    let result = statement(USED)
        .bind(int(sweep.0))
        .bind(int(used))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

pub(super) async fn request(
    connection: &mut Connection<'_>,
    record: &RequestRecord,
) -> Result<(), CommitError> {
    statement("insert into requests (id, sweep, at, content, answer) values ($1, $2, $3, $4, $5)")
        .bind(record.id.to_string())
        .bind(int(record.sweep.0))
        .bind(record.at)
        .bind(record.content.as_ref().map(ArtifactHash::as_str))
        .bind(&record.answer)
        .execute(connection)
        .await
        .map_err(refused("a request"))?;
    Ok(())
}

pub(super) fn changed(rows: u64, what: &'static str, sweep: SweepId) -> Result<(), CommitError> {
    if rows == 0 {
        let why = format!("sweep {sweep} is not there, or further on");
        return Err(CommitError::Inconsistent { what, why });
    }
    Ok(())
}
