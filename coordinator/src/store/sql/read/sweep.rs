//! Sweeps and their counts.

use std::collections::BTreeSet;

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::{ArtifactHash, SweepId};
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::record::Controls;
use futures::TryStreamExt;
use sqlx::Error;

use super::{failed, one_more, page};
use crate::store::sql::database::{Pool, Row};
use crate::store::sql::statement::statement;
use crate::store::sql::value::{int, wrong};
use crate::store::{Page, ReadError, SweepContents, SweepFilter, SweepSummary};

pub(in crate::store) async fn find(pool: &Pool, text: &str) -> Result<Option<SweepId>, ReadError> {
    let failed = failed("a sweep's id");
    let wanted = match text.parse::<SweepId>() {
        Ok(id) => statement("select id from sweeps where id = $1").bind(int(id.0)),
        Err(_) => {
            statement("select id from sweeps where name = $1 order by id desc limit 1").bind(text)
        }
    };
    let row = wanted.fetch_optional(pool).await.map_err(&failed)?;
    row.map(|row| row.unsigned("id").map(SweepId)).transpose().map_err(&failed)
}

pub(in crate::store) async fn one(
    pool: &Pool,
    sweep: SweepId,
) -> Result<Option<SweepSummary>, ReadError> {
    let failed = failed("a sweep");
    let row = statement(
        "select p.*, s.submitted as submitted_ms, s.finished as finished_ms, s.budget_ms,
             s.used_ms
         from sweep_progress p
         join sweeps s on s.id = p.sweep
         where p.sweep = $1",
    )
    .bind(int(sweep.0))
    .fetch_optional(pool)
    .await
    .map_err(&failed)?;
    row.map(|row| summary(&row)).transpose().map_err(&failed)
}

pub(in crate::store) async fn list(
    pool: &Pool,
    filter: &SweepFilter,
    before: Option<SweepId>,
    limit: u32,
) -> Result<Page<SweepSummary>, ReadError> {
    let failed = failed("sweeps");
    let rows = statement(
        "select p.*, s.submitted as submitted_ms, s.finished as finished_ms, s.budget_ms,
             s.used_ms
         from sweeps s
         join sweep_progress p on p.sweep = s.id
         where s.id < $1 and ($2 is null or p.status = $2) and ($3 is null or s.spec_hash = $3)
         order by s.id desc
         limit $4",
    )
    .bind(before.map_or(i64::MAX, |id| int(id.0)))
    .bind(filter.status.map(SweepStatus::as_str))
    .bind(filter.spec_hash.as_ref().map(ArtifactHash::as_str))
    .bind(one_more(limit))
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    page(&rows, limit, summary).map_err(&failed)
}

fn summary(row: &Row) -> Result<SweepSummary, Error> {
    let best: Option<f64> = row.try_get("best")?;
    let best_trial = row.maybe_parsed("best_trial")?;
    Ok(SweepSummary {
        id: SweepId(row.unsigned("sweep")?),
        name: row.try_get("sweep_name")?,
        status: row.parsed("status")?,
        trials: row.unsigned("trials")?,
        succeeded: row.unsigned("succeeded")?,
        failed: row.unsigned("failed")?,
        cancelled: row.unsigned("cancelled")?,
        pruned: row.unsigned("pruned")?,
        running: row.unsigned("running")?,
        pending: row.unsigned("pending")?,
        metric_name: row.try_get("metric_name")?,
        goal: row.goal("goal")?,
        best: best_trial.zip(best),
        submitted: row.try_get("submitted_ms")?,
        finished: row.try_get("finished_ms")?,
        spec_hash: row.parsed("spec_hash")?,
        controls: Controls {
            priority: row.maybe_signed("priority")?.unwrap_or(0),
            weight: row.small("weight")?,
            max_parallel: row.maybe_small("max_parallel")?,
            budget: row.maybe_unsigned("budget_ms")?,
        },
        used: row.unsigned("used_ms")?,
    })
}

pub(in crate::store) async fn contents(
    pool: &Pool,
    sweep: SweepId,
) -> Result<SweepContents, ReadError> {
    let failed = failed("what there is of a sweep");
    let row = statement(
        "select
             (select count(*) from attempts where sweep = $1) as attempts,
             (select count(*) from evaluations where sweep = $1) as evaluations,
             (select count(*) from log where sweep = $1) as log_entries",
    )
    .bind(int(sweep.0))
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    let read = || {
        Ok(SweepContents {
            attempts: row.unsigned("attempts")?,
            evaluations: row.unsigned("evaluations")?,
            log_entries: row.unsigned("log_entries")?,
        })
    };
    read().map_err(&failed)
}

pub(in crate::store) async fn spec(
    pool: &Pool,
    sweep: SweepId,
) -> Result<Option<String>, ReadError> {
    let failed = failed("a spec");
    let row = statement("select spec from sweeps where id = $1")
        .bind(int(sweep.0))
        .fetch_optional(pool)
        .await
        .map_err(&failed)?;
    row.map(|row| row.try_get("spec")).transpose().map_err(&failed)
}

pub(in crate::store) async fn is_artifact_referenced(
    pool: &Pool,
    hash: &ArtifactHash,
) -> Result<bool, ReadError> {
    let failed = failed("references to an artifact");
    let row = statement(
        "select exists (select 1 from sweep_files where hash = $1)
             or exists (select 1 from trials where checkpoint_hash = $1 and phase <> 'ended')
             or exists (select 1 from outcomes where adapter = $1) as referenced",
    )
    .bind(hash.as_str())
    .fetch_one(pool)
    .await
    .map_err(&failed)?;
    row.try_get("referenced").map_err(&failed)
}

pub(in crate::store) async fn predictions(
    pool: &Pool,
) -> Result<BTreeSet<ArtifactHash>, ReadError> {
    let failed = failed("predictions");
    let mut rows =
        statement("select result from outcomes where result like '%\"predictions\":[{%'")
            .fetch(pool);
    let mut hashes = BTreeSet::new();
    while let Some(row) = rows.try_next().await.map_err(&failed)? {
        let text: String = row.try_get("result").map_err(&failed)?;
        let result: TrialResult =
            serde_json::from_str(&text).map_err(|e| failed(wrong("result", e)))?;
        hashes.extend(result.predictions.into_iter().map(|predictions| predictions.hash));
    }
    Ok(hashes)
}
