//! Evaluations with their metrics.

use deptune_sweep::child::{ClassReport, Evaluation};
use deptune_sweep::id::{SweepId, TrialId};
use sqlx::Error;

use super::{failed, one_more, page};
use crate::store::sql::database::{Connection, Pool, Row};
use crate::store::sql::statement::statement;
use crate::store::sql::value::int;
use crate::store::{EvaluationKey, EvaluationRow, Page, ReadError};

pub(in crate::store) async fn list(
    pool: &Pool,
    sweep: SweepId,
    trial: Option<u64>,
    after: Option<EvaluationKey>,
    limit: u32,
) -> Result<Page<EvaluationRow>, ReadError> {
    let failed = failed("evaluations");
    // One transaction, so that an evaluation and its metrics belong together.
    let mut reading = pool.begin().await.map_err(&failed)?;
    let (first, last) = trial.map_or((0, i64::MAX), |index| (int(index), int(index)));
    let (trial, step, split) = match &after {
        Some(key) => (int(key.trial), int(key.step), key.split.as_str()),
        None => (-1, -1, ""),
    };
    let rows = statement(
        "select
             sweep, trial_index, step, split, loss, loss_state, train_loss, train_loss_state,
             rows, seconds
         from evaluations
         where sweep = $1 and trial_index between $2 and $3
             and (trial_index, step, split) > ($4, $5, $6)
         order by trial_index, step, split
         limit $7",
    )
    .bind(int(sweep.0))
    .bind(first)
    .bind(last)
    .bind(trial)
    .bind(step)
    .bind(split)
    .bind(one_more(limit))
    .fetch_all(&mut reading.connection())
    .await
    .map_err(&failed)?;
    let mut page = page(&rows, limit, evaluation).map_err(&failed)?;
    fill_metrics(&mut reading.connection(), sweep, &mut page.items).await.map_err(&failed)?;
    fill_classes(&mut reading.connection(), sweep, &mut page.items).await.map_err(&failed)?;
    Ok(page)
}

fn evaluation(row: &Row) -> Result<EvaluationRow, Error> {
    Ok(EvaluationRow {
        trial: TrialId {
            sweep: SweepId(row.unsigned("sweep")?),
            index: row.unsigned("trial_index")?,
        },
        evaluation: Evaluation {
            step: row.unsigned("step")?,
            split: row.try_get("split")?,
            loss: row.number("loss", "loss_state")?,
            train_loss: row.maybe_number("train_loss", "train_loss_state")?,
            metrics: Vec::new(),
            constant: Vec::new(),
            rows: row.unsigned("rows")?,
            seconds: row.try_get("seconds")?,
            per_class: Vec::new(),
        },
    })
}

/// Reads the metrics of a page, whose evaluations follow each other in the store as well.
async fn fill_metrics(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    items: &mut [EvaluationRow],
) -> Result<(), Error> {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(()) };
    let (first, last) = (first.key(), last.key());
    let rows = statement(
        "select trial_index, step, split, source, name, value, value_state
         from evaluation_metrics
         where sweep = $1 and trial_index between $2 and $5
             and (trial_index, step, split) >= ($2, $3, $4)
             and (trial_index, step, split) <= ($5, $6, $7)
         order by trial_index, step, split, source, position",
    )
    .bind(int(sweep.0))
    .bind(int(first.trial))
    .bind(int(first.step))
    .bind(&first.split)
    .bind(int(last.trial))
    .bind(int(last.step))
    .bind(&last.split)
    .fetch_all(connection)
    .await?;
    let mut items = items.iter_mut();
    let mut current: Option<(EvaluationKey, &mut Evaluation)> = None;
    for row in &rows {
        let key = EvaluationKey {
            trial: row.unsigned("trial_index")?,
            step: row.unsigned("step")?,
            split: row.try_get("split")?,
        };
        while current.as_ref().is_none_or(|(reached, _)| *reached < key) {
            let Some(item) = items.next() else { return Ok(()) };
            current = Some((item.key(), &mut item.evaluation));
        }
        let Some((_, evaluation)) = current.as_mut().filter(|(reached, _)| *reached == key) else {
            continue;
        };
        let metric = (row.try_get("name")?, row.number("value", "value_state")?);
        match row.try_get("source")? {
            "constant" => evaluation.constant.push(metric),
            _ => evaluation.metrics.push(metric),
        }
    }
    Ok(())
}

/// Reads the class reports of a page.
async fn fill_classes(
    connection: &mut Connection<'_>,
    sweep: SweepId,
    items: &mut [EvaluationRow],
) -> Result<(), Error> {
    let (Some(first), Some(last)) = (items.first(), items.last()) else { return Ok(()) };
    let (first, last) = (first.key(), last.key());
    let rows = statement(
        "select trial_index, step, split, label, precision, recall, f1, support
         from evaluation_classes
         where sweep = $1 and trial_index between $2 and $5
             and (trial_index, step, split) >= ($2, $3, $4)
             and (trial_index, step, split) <= ($5, $6, $7)
         order by trial_index, step, split, position",
    )
    .bind(int(sweep.0))
    .bind(int(first.trial))
    .bind(int(first.step))
    .bind(&first.split)
    .bind(int(last.trial))
    .bind(int(last.step))
    .bind(&last.split)
    .fetch_all(connection)
    .await?;
    for row in &rows {
        let key = EvaluationKey {
            trial: row.unsigned("trial_index")?,
            step: row.unsigned("step")?,
            split: row.try_get("split")?,
        };
        let Ok(at) = items.binary_search_by(|item| item.key().cmp(&key)) else { continue };
        let Some(item) = items.get_mut(at) else { continue };
        item.evaluation.per_class.push(ClassReport {
            label: row.try_get("label")?,
            precision: row.try_get("precision")?,
            recall: row.try_get("recall")?,
            f1: row.try_get("f1")?,
            support: row.unsigned("support")?,
        });
    }
    Ok(())
}
