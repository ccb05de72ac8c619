//! Trials and their attempts.

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::{Epoch, SweepId, TrialId};
use sqlx::Error;

use super::{failed, one_more, page};
use crate::store::sql::database::{Pool, Row};
use crate::store::sql::statement::statement;
use crate::store::sql::value::{int, wrong};
use crate::store::{AttemptRow, Page, ReadError, TrialPhase, TrialRow};

pub(in crate::store) async fn list(
    pool: &Pool,
    sweep: SweepId,
    after: Option<u64>,
    limit: u32,
) -> Result<Page<TrialRow>, ReadError> {
    let failed = failed("trials");
    let rows = statement(
        "select
             t.sweep, t.trial_index, t.epoch, t.phase, t.configuration, t.method, t.prompt_length,
             t.rank, nullif(t.prompt_lr, 0) as prompt_lr, t.lowrank_lr, t.learning_rate, t.source,
             t.seed, t.retry_of, t.outcome, o.failure_class,
             coalesce(o.message, '') as message, o.result, o.adapter, w.name as worker,
             (
                 select count(*) from attempts a
                 where a.sweep = t.sweep and a.trial_index = t.trial_index
             ) as attempts
         from trials t
         left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
         left join workers w
             on w.id = coalesce(o.worker, case when t.phase = 'leased' then t.worker end)
         where t.sweep = $1 and t.trial_index > $2
         order by t.trial_index
         limit $3",
    )
    .bind(int(sweep.0))
    .bind(after.map_or(-1, int))
    .bind(one_more(limit))
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    page(&rows, limit, trial).map_err(&failed)
}

fn trial(row: &Row) -> Result<TrialRow, Error> {
    let result: Option<&str> = row.try_get("result")?;
    let result: Option<TrialResult> =
        result.map(serde_json::from_str).transpose().map_err(|source| wrong("result", source))?;
    Ok(TrialRow {
        id: TrialId { sweep: SweepId(row.unsigned("sweep")?), index: row.unsigned("trial_index")? },
        epoch: Epoch(row.small("epoch")?),
        phase: match row.try_get("phase")? {
            "pending" => TrialPhase::Pending,
            "leased" => TrialPhase::Leased,
            "ended" => TrialPhase::Ended,
            other => return Err(wrong("phase", format!("'{other}' is no phase"))),
        },
        configuration: row.unsigned("configuration")?,
        method: row.parsed("method")?,
        prompt_length: row.small("prompt_length")?,
        rank: row.small("rank")?,
        prompt_lr: row.try_get("prompt_lr")?,
        lowrank_lr: row.try_get("lowrank_lr")?,
        learning_rate: row.try_get("learning_rate")?,
        source: row.try_get("source")?,
        seed: row.unsigned("seed")?,
        retry_of: row
            .maybe_unsigned("retry_of")?
            .map(|index| Ok::<_, Error>(TrialId { sweep: SweepId(row.unsigned("sweep")?), index }))
            .transpose()?,
        outcome: row.maybe_parsed("outcome")?,
        class: row.maybe_parsed("failure_class")?,
        message: row.try_get("message")?,
        result,
        adapter: row.maybe_parsed("adapter")?,
        attempts: row.small("attempts")?,
        worker: row.try_get("worker")?,
    })
}

pub(in crate::store) async fn attempts(
    pool: &Pool,
    trial: TrialId,
) -> Result<Vec<AttemptRow>, ReadError> {
    let failed = failed("attempts");
    let rows = statement(
        "select
             a.epoch, w.name as worker, a.slot, a.first_step, a.last_step, a.ending,
             a.failure_class, a.message, a.started, a.ended
         from attempts a
         join workers w on w.id = a.worker
         where a.sweep = $1 and a.trial_index = $2
         order by a.epoch",
    )
    .bind(int(trial.sweep.0))
    .bind(int(trial.index))
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    rows.iter().map(attempt).collect::<Result<_, _>>().map_err(&failed)
}

fn attempt(row: &Row) -> Result<AttemptRow, Error> {
    Ok(AttemptRow {
        epoch: Epoch(row.small("epoch")?),
        worker: row.try_get("worker")?,
        slot: row.small("slot")?,
        first_step: row.unsigned("first_step")?,
        last_step: row.unsigned("last_step")?,
        end: row.maybe_parsed("ending")?,
        class: row.maybe_parsed("failure_class")?,
        message: row.try_get("message")?,
        started: row.try_get("started")?,
        ended: row.try_get("ended")?,
    })
}
