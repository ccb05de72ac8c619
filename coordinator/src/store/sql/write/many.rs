//! Carrying out many writes at once: each statement of its own is a trip over the network to
//! Postgres, or from thread to thread to SQLite.

use std::collections::BTreeMap;

use deptune_sweep::crash::{Point, point};
use deptune_sweep::id::SweepId;
use deptune_sweep::scheduler::Write;

use super::plan::{Kind, plan};
use super::{LOG, LOG_MANY, attempt, evaluation, joint, log_values, outcome, sweep, trial};
use crate::store::CommitError;
use crate::store::sql::database::Connection;
use crate::store::sql::statement::{Many, Value};
use crate::store::sql::value::int;

/// Writes that are planned together at most.
const WINDOW: usize = 8192;
/// Rows of one statement at most, so that each ends well within the time that it may take.
const ROWS: usize = 1024;

/// Why writes were not carried out together. One by one they tell which of them was refused, or
/// succeed after all.
#[derive(Debug)]
pub(in crate::store) enum Untold {
    /// A statement changed another number of rows than it was about.
    Rows {
        /// Rows that it was about.
        expected: u64,
        /// Rows that it changed.
        changed: u64,
    },
    /// A write that can only be made alone was refused.
    Alone(CommitError),
    /// A statement was refused.
    Refused(sqlx::Error),
}

impl From<sqlx::Error> for Untold {
    fn from(error: sqlx::Error) -> Untold {
        Untold::Refused(error)
    }
}

impl From<CommitError> for Untold {
    fn from(error: CommitError) -> Untold {
        Untold::Alone(error)
    }
}

/// Carries out the writes within the transaction that `connection` is in.
pub(in crate::store) async fn many(
    connection: &mut Connection<'_>,
    writes: &[Write],
) -> Result<(), Untold> {
    for window in writes.chunks(WINDOW) {
        let batches = plan(window);
        let mut rest = batches.as_slice();
        while let [batch, after @ ..] = rest {
            // A trip to SQLite's thread is short, and its rows are joined anyway.
            if let Connection::Postgres(connection) = connection {
                let (now, later) = rest.split_at(joint::fitting(rest));
                if now.len() > 1 {
                    point(Point::BeforeWrite);
                    joint::carry_out(connection, now).await?;
                    point(Point::AfterWrite);
                    rest = later;
                    continue;
                }
            }
            for writes in batch.writes.chunks(ROWS) {
                point(Point::BeforeWrite);
                carry_out(connection, batch.kind, writes).await?;
                point(Point::AfterWrite);
            }
            rest = after;
        }
    }
    Ok(())
}

async fn carry_out(
    connection: &mut Connection<'_>,
    kind: Kind,
    writes: &[&Write],
) -> Result<(), Untold> {
    if let Some(sql) = sql_of(kind) {
        return all(connection, sql, values(kind, writes)?).await;
    }
    if kind == Kind::Evaluation {
        return evaluations(connection, writes).await;
    }
    for write in writes {
        super::one(connection, write).await?;
    }
    Ok(())
}

/// The statement of a kind that takes one per row.
pub(super) fn sql_of(kind: Kind) -> Option<Many> {
    let (one, all) = match kind {
        Kind::NewTrial => (trial::INSERT, trial::INSERT_MANY),
        Kind::Trial => (trial::UPDATE, trial::UPDATE_MANY),
        Kind::AttemptStarted => (attempt::START, attempt::START_MANY),
        Kind::AttemptProgress => (attempt::PROGRESS, attempt::PROGRESS_MANY),
        Kind::AttemptEnded => (attempt::END, attempt::END_MANY),
        Kind::Outcome => (outcome::INSERT, outcome::INSERT_MANY),
        Kind::StaleReport => (attempt::STALE, attempt::STALE_MANY),
        Kind::Log => (LOG, LOG_MANY),
        Kind::NextIndex => (sweep::NEXT_INDEX, sweep::NEXT_INDEX_MANY),
        Kind::Used => (sweep::USED, sweep::USED_MANY),
        Kind::Evaluation | Kind::Alone => return None,
    };
    Some(Many { one, all })
}

/// The values of each row of a kind's statement.
pub(super) fn values<'w>(kind: Kind, writes: &[&'w Write]) -> Result<Vec<Vec<Value<'w>>>, Untold> {
    match kind {
        Kind::NextIndex | Kind::Used => last_values(writes),
        _ => Ok(rows(writes)?),
    }
}

/// The values of each write's row.
fn rows<'w>(writes: &[&'w Write]) -> Result<Vec<Vec<Value<'w>>>, CommitError> {
    let values = |write: &&'w Write| {
        Ok(match *write {
            Write::NewTrial { record, configuration, settings } => {
                trial::insert_values(record, *configuration, settings)
            }
            Write::Trial(record) => trial::update_values(record),
            Write::AttemptStarted(record) => attempt::start_values(record),
            Write::AttemptProgress { lease, last_step } => {
                attempt::progress_values(*lease, *last_step)
            }
            Write::AttemptEnded { lease, end, class, message, last_step, at } => {
                attempt::end_values(*lease, *end, *class, message, *last_step, *at)
            }
            Write::Outcome(record) => outcome::values(record)?,
            Write::StaleReport { lease, worker, report, at } => {
                attempt::stale_values(*lease, *worker, report, *at)
            }
            Write::Log(record) => log_values(record)?,
            _ => Vec::new(),
        })
    };
    writes.iter().map(values).collect()
}

/// The last value of each sweep, which must not be less than those before it.
fn last_values(writes: &[&Write]) -> Result<Vec<Vec<Value<'static>>>, Untold> {
    let mut last: BTreeMap<SweepId, u64> = BTreeMap::new();
    for write in writes {
        let (sweep, value) = match write {
            Write::NextIndex { sweep, next_index } => (*sweep, *next_index),
            Write::Used { sweep, used } => (*sweep, *used),
            _ => continue,
        };
        if last.insert(sweep, value).is_some_and(|before| before > value) {
            return Err(Untold::Rows { expected: 1, changed: 0 });
        }
    }
    Ok(last.into_iter().map(|(id, value)| vec![int(id.0).into(), int(value).into()]).collect())
}

/// Runs a statement that must change one row for each of its own.
async fn all(
    connection: &mut Connection<'_>,
    sql: Many,
    rows: Vec<Vec<Value<'_>>>,
) -> Result<(), Untold> {
    let expected = rows.len() as u64;
    let changed = sql.execute(connection, rows).await?;
    if changed == expected { Ok(()) } else { Err(Untold::Rows { expected, changed }) }
}

async fn evaluations(connection: &mut Connection<'_>, writes: &[&Write]) -> Result<(), Untold> {
    let evaluations = || {
        writes.iter().filter_map(|write| match write {
            Write::Evaluation { lease, at, evaluation } => Some((*lease, *at, evaluation)),
            _ => None,
        })
    };
    let values = evaluations().map(|(lease, at, one)| evaluation::values(lease, at, one));
    let put = Many { one: evaluation::PUT, all: evaluation::PUT_MANY };
    all(connection, put, values.collect()).await?;
    for (one, all) in evaluation::CLEAR.into_iter().zip(evaluation::CLEAR_MANY) {
        let keys = evaluations().map(|(lease, _, one)| evaluation::key(lease, one));
        Many { one, all }.execute(connection, keys.collect()).await?;
    }
    let classes = evaluations().flat_map(|(lease, _, one)| evaluation::classes(lease, one));
    let class = Many { one: evaluation::CLASS, all: evaluation::CLASS_MANY };
    in_parts(connection, class, classes.collect()).await?;
    let metrics = evaluations().flat_map(|(lease, _, one)| evaluation::metrics(lease, one));
    let metric = Many { one: evaluation::METRIC, all: evaluation::METRIC_MANY };
    in_parts(connection, metric, metrics.collect()).await
}

/// The same for rows of which there may be any number.
async fn in_parts(
    connection: &mut Connection<'_>,
    sql: Many,
    mut rows: Vec<Vec<Value<'_>>>,
) -> Result<(), Untold> {
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS));
        all(connection, sql, rows).await?;
        rows = rest;
    }
    Ok(())
}
