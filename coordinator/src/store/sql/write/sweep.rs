//! Writes about sweeps.

use deptune_sweep::id::SweepId;
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::record::{SweepRecord, WallMillis};

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
             varied_settings, model_repo, model_commit
         ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                   $19)",
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
    .bind(record.status.as_str())
    .bind(record.submitted)
    .bind(record.finished)
    .bind(spec.objective.metric.name())
    .bind(goal(spec.objective.goal))
    .bind(varied_settings(&spec))
    .bind(submission.model_hub.as_ref().map(|model| &model.repo))
    .bind(submission.model_hub.as_ref().map(|model| &model.commit))
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

pub(super) async fn next_index(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    next_index: u64,
) -> Result<(), CommitError> {
    const WHAT: &str = "a sweep's next index";
    let result = statement("update sweeps set next_index = $2 where id = $1 and next_index <= $2")
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
    let result = statement("update sweeps set status = $2, finished = $3 where id = $1")
        .bind(int(sweep.0))
        .bind(status.as_str())
        .bind(finished)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    changed(result, WHAT, sweep)
}

fn changed(rows: u64, what: &'static str, sweep: SweepId) -> Result<(), CommitError> {
    if rows == 0 {
        let why = format!("sweep {sweep} is not there, or further on");
        return Err(CommitError::Inconsistent { what, why });
    }
    Ok(())
}
