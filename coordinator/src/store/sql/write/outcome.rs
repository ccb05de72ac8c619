//! The write that may happen once per trial.

use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::OutcomeRecord;

use super::{fence, json, refused};
use crate::store::CommitError;
use crate::store::derived::selected;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::statement;
use crate::store::sql::value::{int, number};

/// Only when the trial has ended, with this outcome, under this epoch, and has no outcome yet.
pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &OutcomeRecord,
) -> Result<(), CommitError> {
    const WHAT: &str = "its outcome";
    let result = record.result.as_ref();
    let metric = result.map(|r| number(r.metric));
    let constant = result.map(|r| number(r.constant_metric));
    let (test, test_constant) = match result.and_then(|r| r.test.as_ref().map(|t| (r, t))) {
        Some((r, t)) => (
            selected(&t.metrics, &r.metric_name).map(number),
            selected(&t.constant, &r.metric_name).map(number),
        ),
        None => (None, None),
    };
    let text = result.map(|r| json(r, WHAT)).transpose()?;
    let inserted = statement(
        "insert into outcomes (
             sweep, trial_index, epoch, outcome, failure_class, message, worker, at, adapter,
             metric_name, metric, metric_state, best_step, constant_metric, constant_state,
             test_metric, test_metric_state, test_constant, test_constant_state, steps,
             trainable_parameters, train_seconds, result
         )
         select
             sweep, trial_index, epoch, outcome, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
             $16, $17, $18, $19, $20, $21, $22, $23
         from trials
         where sweep = $1 and trial_index = $2 and epoch = $3 and outcome = $4
         on conflict do nothing",
    )
    .bind(int(record.id.sweep.0))
    .bind(int(record.id.index))
    .bind(record.epoch.0)
    .bind(record.outcome.as_str())
    .bind(record.class.map(FailureClass::as_str))
    .bind(&record.message)
    .bind(record.worker.map(|w| w.to_string()))
    .bind(record.at)
    .bind(record.adapter.as_ref().map(|hash| hash.as_str()))
    .bind(result.map(|r| r.metric_name.as_str()))
    .bind(metric.and_then(|(value, _)| value))
    .bind(metric.map(|(_, state)| state))
    .bind(result.map(|r| int(r.best_step)))
    .bind(constant.and_then(|(value, _)| value))
    .bind(constant.map(|(_, state)| state))
    .bind(test.and_then(|(value, _)| value))
    .bind(test.map(|(_, state)| state))
    .bind(test_constant.and_then(|(value, _)| value))
    .bind(test_constant.map(|(_, state)| state))
    .bind(result.map(|r| int(r.steps)))
    .bind(result.map(|r| int(r.trainable_parameters)))
    .bind(result.map(|r| r.train_seconds))
    .bind(text)
    .execute(connection)
    .await
    .map_err(refused(WHAT))?;
    fence(inserted, record.id, record.epoch, WHAT)
}
