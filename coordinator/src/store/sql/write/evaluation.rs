//! Writes about evaluations.

use deptune_sweep::child::Evaluation;
use deptune_sweep::record::WallMillis;
use deptune_sweep::scheduler::LeaseKey;

use super::{fence, refused};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::{Value, statement};
use crate::store::sql::value::{int, number};

pub(super) const WHAT: &str = "an evaluation";

pub(super) const PUT: &str = "
    insert into evaluations (
        sweep, trial_index, step, split, epoch, loss, loss_state, train_loss,
        train_loss_state, rows, seconds, at
    )
    select sweep, trial_index, $4, $5, epoch, $6, $7, $8, $9, $10, $11, $12
    from trials
    where sweep = $1 and trial_index = $2 and epoch = $3 and phase <> 'ended'
    on conflict (sweep, trial_index, step, split) do update set
        epoch = excluded.epoch, loss = excluded.loss, loss_state = excluded.loss_state,
        train_loss = excluded.train_loss, train_loss_state = excluded.train_loss_state,
        rows = excluded.rows, seconds = excluded.seconds, at = excluded.at";

/// The same for many.
pub(super) const PUT_MANY: &str = "
    insert into evaluations (
        sweep, trial_index, step, split, epoch, loss, loss_state, train_loss,
        train_loss_state, rows, seconds, at
    )
    select t.sweep, t.trial_index, n.step, n.split, t.epoch, n.loss, n.loss_state, n.train_loss,
        n.train_loss_state, n.rows, n.seconds, n.at
    from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::float8[],
        $7::text[], $8::float8[], $9::text[], $10::bigint[], $11::float8[], $12::bigint[]
    ) as n (
        sweep, trial_index, epoch, step, split, loss, loss_state, train_loss,
        train_loss_state, rows, seconds, at
    )
    join trials t on t.sweep = n.sweep and t.trial_index = n.trial_index and t.epoch = n.epoch
        and t.phase <> 'ended'
    on conflict (sweep, trial_index, step, split) do update set
        epoch = excluded.epoch, loss = excluded.loss, loss_state = excluded.loss_state,
        train_loss = excluded.train_loss, train_loss_state = excluded.train_loss_state,
        rows = excluded.rows, seconds = excluded.seconds, at = excluded.at";

/// Parts of an evaluation that is made again.
pub(super) const CLEAR: [&str; 2] = [
    "delete from evaluation_metrics
     where sweep = $1 and trial_index = $2 and step = $3 and split = $4",
    "delete from evaluation_classes
     where sweep = $1 and trial_index = $2 and step = $3 and split = $4",
];

/// The same for many.
pub(super) const CLEAR_MANY: [&str; 2] = [
    "delete from evaluation_metrics m
     using unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
         as n (sweep, trial_index, step, split)
     where m.sweep = n.sweep and m.trial_index = n.trial_index and m.step = n.step
         and m.split = n.split",
    "delete from evaluation_classes c
     using unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[])
         as n (sweep, trial_index, step, split)
     where c.sweep = n.sweep and c.trial_index = n.trial_index and c.step = n.step
         and c.split = n.split",
];

pub(super) const CLASS: &str = "
    insert into evaluation_classes (
        sweep, trial_index, step, split, position, label, precision, recall, f1, support
    ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// The same for many.
pub(super) const CLASS_MANY: &str = "
    insert into evaluation_classes (
        sweep, trial_index, step, split, position, label, precision, recall, f1, support
    )
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::text[],
        $7::float8[], $8::float8[], $9::float8[], $10::bigint[]
    )";

pub(super) const METRIC: &str = "
    insert into evaluation_metrics (
        sweep, trial_index, step, split, source, position, name, value, value_state
    ) values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// The same for many.
pub(super) const METRIC_MANY: &str = "
    insert into evaluation_metrics (
        sweep, trial_index, step, split, source, position, name, value, value_state
    )
    select * from unnest(
        $1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bigint[],
        $7::text[], $8::float8[], $9::text[]
    )";

pub(super) fn values(lease: LeaseKey, at: WallMillis, evaluation: &Evaluation) -> Vec<Value<'_>> {
    let (loss, loss_state) = number(evaluation.loss);
    let train_loss = evaluation.train_loss.map(number);
    vec![
        int(lease.trial.sweep.0).into(),
        int(lease.trial.index).into(),
        lease.epoch.0.into(),
        int(evaluation.step).into(),
        (&evaluation.split).into(),
        loss.into(),
        loss_state.into(),
        train_loss.and_then(|(value, _)| value).into(),
        train_loss.map(|(_, state)| state).into(),
        int(evaluation.rows).into(),
        evaluation.seconds.into(),
        at.into(),
    ]
}

/// What names an evaluation.
pub(super) fn key(lease: LeaseKey, evaluation: &Evaluation) -> Vec<Value<'_>> {
    vec![
        int(lease.trial.sweep.0).into(),
        int(lease.trial.index).into(),
        int(evaluation.step).into(),
        (&evaluation.split).into(),
    ]
}

/// The rows of its classes.
pub(super) fn classes(
    lease: LeaseKey,
    evaluation: &Evaluation,
) -> impl Iterator<Item = Vec<Value<'_>>> {
    (0_i64..).zip(&evaluation.per_class).map(move |(position, class)| {
        let mut values = key(lease, evaluation);
        values.extend([
            Value::from(position),
            (&class.label).into(),
            class.precision.into(),
            class.recall.into(),
            class.f1.into(),
            int(class.support).into(),
        ]);
        values
    })
}

/// The rows of its metrics.
pub(super) fn metrics(
    lease: LeaseKey,
    evaluation: &Evaluation,
) -> impl Iterator<Item = Vec<Value<'_>>> {
    let sources = [("trial", &evaluation.metrics), ("constant", &evaluation.constant)];
    sources.into_iter().flat_map(move |(source, metrics)| {
        (0_i64..).zip(metrics).map(move |(position, (name, metric))| {
            let (value, state) = number(*metric);
            let mut values = key(lease, evaluation);
            values.extend([
                Value::from(source),
                position.into(),
                name.into(),
                value.into(),
                state.into(),
            ]);
            values
        })
    })
}

/// Inserts or replaces; only under the trial's current epoch, and before its outcome.
pub(super) async fn put(
    connection: &mut Connection<'_>,
    lease: LeaseKey,
    at: WallMillis,
    evaluation: &Evaluation,
) -> Result<(), CommitError> {
    let put = statement(PUT).with(values(lease, at, evaluation));
    let result = put.execute(connection).await.map_err(refused(WHAT))?;
    fence(result, lease.trial, lease.epoch, WHAT)?;
    for clear in CLEAR {
        let clear = statement(clear).with(key(lease, evaluation));
        clear.execute(connection).await.map_err(refused(WHAT))?;
    }
    for class in classes(lease, evaluation) {
        statement(CLASS).with(class).execute(connection).await.map_err(refused(WHAT))?;
    }
    for metric in metrics(lease, evaluation) {
        statement(METRIC).with(metric).execute(connection).await.map_err(refused(WHAT))?;
    }
    Ok(())
}
