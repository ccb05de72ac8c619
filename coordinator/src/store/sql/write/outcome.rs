//! The write that may happen once per trial.

use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::OutcomeRecord;

use super::{fence, json, refused};
use crate::store::CommitError;
use crate::store::derived::selected;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::{Value, statement};
use crate::store::sql::value::{int, number};

const WHAT: &str = "its outcome";

pub(super) const INSERT: &str = "insert into outcomes (
             sweep, trial_index, epoch, outcome, failure_class, message, worker, at, adapter,
             metric_name, metric, metric_state, best_step, constant_metric, constant_state,
             test_metric, test_metric_state, test_constant, test_constant_state, steps,
             trainable_parameters, train_seconds, result, peak_memory_bytes, mean_utilization,
             mean_power_watts
         )
         select
             sweep, trial_index, epoch, outcome, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
             $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26
         from trials
         where sweep = $1 and trial_index = $2 and epoch = $3 and outcome = $4
         on conflict do nothing";

/// The same for many.
pub(super) const INSERT_MANY: &str = "
    insert into outcomes (
        sweep, trial_index, epoch, outcome, failure_class, message, worker, at, adapter,
        metric_name, metric, metric_state, best_step, constant_metric, constant_state,
        test_metric, test_metric_state, test_constant, test_constant_state, steps,
        trainable_parameters, train_seconds, result, peak_memory_bytes, mean_utilization,
        mean_power_watts
    )
    select
        t.sweep, t.trial_index, t.epoch, t.outcome,
        n.failure_class, n.message, n.worker, n.at, n.adapter, n.metric_name, n.metric,
        n.metric_state, n.best_step, n.constant_metric, n.constant_state, n.test_metric,
        n.test_metric_state, n.test_constant, n.test_constant_state, n.steps,
        n.trainable_parameters, n.train_seconds, n.result, n.peak_memory_bytes,
        n.mean_utilization, n.mean_power_watts
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::text[],
        $7::text[], $8::bigint[], $9::text[], $10::text[], $11::float8[], $12::text[],
        $13::bigint[], $14::float8[], $15::text[], $16::float8[], $17::text[], $18::float8[],
        $19::text[], $20::bigint[], $21::bigint[], $22::float8[], $23::text[],
        $24::bigint[], $25::float8[], $26::float8[]
    ) as n (
        sweep, trial_index, epoch, outcome, failure_class, message, worker, at, adapter,
        metric_name, metric, metric_state, best_step, constant_metric, constant_state,
        test_metric, test_metric_state, test_constant, test_constant_state, steps,
        trainable_parameters, train_seconds, result, peak_memory_bytes, mean_utilization,
        mean_power_watts
    )
    join trials t on t.sweep = n.sweep and t.trial_index = n.trial_index and t.epoch = n.epoch
        and t.outcome = n.outcome
    on conflict do nothing";

pub(super) fn values(record: &OutcomeRecord) -> Result<Vec<Value<'_>>, CommitError> {
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
    Ok(vec![
        int(record.id.sweep.0).into(),
        int(record.id.index).into(),
        record.epoch.0.into(),
        record.outcome.as_str().into(),
        record.class.map(FailureClass::as_str).into(),
        (&record.message).into(),
        record.worker.map(|w| w.to_string()).into(),
        record.at.into(),
        record.adapter.as_ref().map(|hash| hash.as_str()).into(),
        result.map(|r| r.metric_name.as_str()).into(),
        metric.and_then(|(value, _)| value).into(),
        metric.map(|(_, state)| state).into(),
        result.map(|r| int(r.best_step)).into(),
        constant.and_then(|(value, _)| value).into(),
        constant.map(|(_, state)| state).into(),
        test.and_then(|(value, _)| value).into(),
        test.map(|(_, state)| state).into(),
        test_constant.and_then(|(value, _)| value).into(),
        test_constant.map(|(_, state)| state).into(),
        result.map(|r| int(r.steps)).into(),
        result.map(|r| int(r.trainable_parameters)).into(),
        result.map(|r| r.train_seconds).into(),
        text.into(),
        result.and_then(|r| r.peak_memory_bytes).map(int).into(),
        result.and_then(|r| r.mean_utilization).into(),
        result.and_then(|r| r.mean_power_watts).into(),
    ])
}

/// Only when the trial has ended, with this outcome, under this epoch, and has no outcome yet.
pub(super) async fn insert(
    connection: &mut Connection<'_>,
    record: &OutcomeRecord,
) -> Result<(), CommitError> {
    let inserted =
        statement(INSERT).with(values(record)?).execute(connection).await.map_err(refused(WHAT))?;
    fence(inserted, record.id, record.epoch, WHAT)
}
