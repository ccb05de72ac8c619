//! Writes about evaluations.

use deptune_sweep::child::Evaluation;
use deptune_sweep::metric::Number;
use deptune_sweep::record::WallMillis;
use deptune_sweep::scheduler::LeaseKey;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::{int, number};

const WHAT: &str = "an evaluation";

/// Inserts or replaces; only under the trial's current epoch, and before its outcome.
pub(super) async fn put(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    at: WallMillis,
    evaluation: &Evaluation,
) -> Result<(), CommitError> {
    let (loss, loss_state) = number(evaluation.loss);
    let train_loss = evaluation.train_loss.map(number);
    let result = statement(
        "insert into evaluations (
             sweep, trial_index, step, split, epoch, loss, loss_state, train_loss,
             train_loss_state, rows, seconds, at
         )
         select sweep, trial_index, $4, $5, epoch, $6, $7, $8, $9, $10, $11, $12
         from trials
         where sweep = $1 and trial_index = $2 and epoch = $3 and phase <> 'ended'
         on conflict (sweep, trial_index, step, split) do update set
             epoch = excluded.epoch, loss = excluded.loss, loss_state = excluded.loss_state,
             train_loss = excluded.train_loss, train_loss_state = excluded.train_loss_state,
             rows = excluded.rows, seconds = excluded.seconds, at = excluded.at",
    )
    .bind(int(lease.trial.sweep.0))
    .bind(int(lease.trial.index))
    .bind(lease.epoch.0)
    .bind(int(evaluation.step))
    .bind(&evaluation.split)
    .bind(loss)
    .bind(loss_state)
    .bind(train_loss.and_then(|(value, _)| value))
    .bind(train_loss.map(|(_, state)| state))
    .bind(int(evaluation.rows))
    .bind(evaluation.seconds)
    .bind(at)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)?;

    for delete in [
        "delete from evaluation_metrics
         where sweep = $1 and trial_index = $2 and step = $3 and split = $4",
        "delete from evaluation_classes
         where sweep = $1 and trial_index = $2 and step = $3 and split = $4",
    ] {
        statement(delete)
            .bind(int(lease.trial.sweep.0))
            .bind(int(lease.trial.index))
            .bind(int(evaluation.step))
            .bind(&evaluation.split)
            .execute(connection)
            .await
            .map_err(refused(WHAT))?;
    }
    classes(connection, lease, evaluation).await?;
    metrics(connection, lease, evaluation, "trial", &evaluation.metrics).await?;
    metrics(connection, lease, evaluation, "constant", &evaluation.constant).await
}

async fn classes(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    evaluation: &Evaluation,
) -> Result<(), CommitError> {
    for (position, class) in (0_i64..).zip(&evaluation.per_class) {
        statement(
            "insert into evaluation_classes (
                 sweep, trial_index, step, split, position, label, precision, recall, f1, support
             ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(int(lease.trial.sweep.0))
        .bind(int(lease.trial.index))
        .bind(int(evaluation.step))
        .bind(&evaluation.split)
        .bind(position)
        .bind(&class.label)
        .bind(class.precision)
        .bind(class.recall)
        .bind(class.f1)
        .bind(int(class.support))
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    }
    Ok(())
}

async fn metrics(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    evaluation: &Evaluation,
    source: &'static str,
    metrics: &[(String, Number)],
) -> Result<(), CommitError> {
    for (position, (name, metric)) in (0_i64..).zip(metrics) {
        let (value, state) = number(*metric);
        statement(
            "insert into evaluation_metrics (
                 sweep, trial_index, step, split, source, position, name, value, value_state
             ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(int(lease.trial.sweep.0))
        .bind(int(lease.trial.index))
        .bind(int(evaluation.step))
        .bind(&evaluation.split)
        .bind(source)
        .bind(position)
        .bind(name)
        .bind(value)
        .bind(state)
        .execute(connection)
        .await
        .map_err(refused(WHAT))?;
    }
    Ok(())
}
