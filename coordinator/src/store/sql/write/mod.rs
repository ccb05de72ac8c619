//! One function per kind of write. Each checks that it changed the row that it meant.

mod attempt;
mod delete;
mod evaluation;
mod joint;
mod manner;
mod many;
mod outcome;
mod plan;
mod sweep;
mod trial;
mod worker;

pub(in crate::store) use manner::{Failure, Manner};
use many::{Untold, many};

use deptune_sweep::id::{Epoch, TrialId};
use deptune_sweep::record::LogRecord;
use deptune_sweep::scheduler::Write;

use super::database::Connection;
use super::statement::{Value, statement};
use super::trouble::refused;
use super::value::int;
use crate::store::CommitError;

/// Carries out one write within the transaction that `connection` is in.
async fn one(connection: &mut Connection<'_>, write: &Write) -> Result<(), CommitError> {
    match write {
        Write::Sweep(record) => sweep::insert(connection, record).await,
        Write::NextIndex { sweep, next_index } => {
            sweep::next_index(connection, *sweep, *next_index).await
        }
        Write::SweepStatus { sweep, status, finished } => {
            sweep::status(connection, *sweep, *status, *finished).await
        }
        Write::SweepTotal { sweep, total } => sweep::total(connection, *sweep, *total).await,
        Write::Space { record, varied } => sweep::space(connection, record, varied).await,
        Write::Controls { sweep, controls } => sweep::controls(connection, *sweep, *controls).await,
        Write::Used { sweep, used } => sweep::used(connection, *sweep, *used).await,
        Write::Request(record) => sweep::request(connection, record).await,
        Write::DeleteSweep { sweep, at } => delete::sweep(connection, *sweep, *at).await,
        Write::NewTrial { record, configuration, settings } => {
            trial::insert(connection, record, *configuration, settings).await
        }
        Write::Trial(record) => trial::update(connection, record).await,
        Write::AttemptStarted(record) => attempt::start(connection, record).await,
        Write::AttemptProgress { lease, last_step } => {
            attempt::progress(connection, *lease, *last_step).await
        }
        Write::AttemptEnded { lease, end, class, message, last_step, at } => {
            attempt::end(connection, *lease, *end, *class, message, *last_step, *at).await
        }
        Write::Outcome(record) => outcome::insert(connection, record).await,
        Write::Evaluation { lease, at, evaluation } => {
            evaluation::put(connection, *lease, *at, evaluation).await
        }
        Write::PackLimit { limit, at } => worker::pack_limit(connection, limit, *at).await,
        Write::PackMemory { memory, at } => worker::pack_memory(connection, memory, *at).await,
        Write::Worker(record) => worker::put(connection, record).await,
        Write::WorkerLeft { worker, at } => worker::left(connection, *worker, *at).await,
        Write::StaleReport { lease, worker, report, at } => {
            attempt::stale(connection, *lease, *worker, report, *at).await
        }
        Write::Log(record) => log(connection, record).await,
    }
}

/// A write about a trial that changed nothing was fenced off.
fn fence(
    changed: u64,
    trial: TrialId,
    epoch: Epoch,
    what: &'static str,
) -> Result<(), CommitError> {
    if changed == 0 {
        return Err(CommitError::Fenced { trial, epoch, what });
    }
    Ok(())
}

/// A value as JSON text.
fn json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String, CommitError> {
    serde_json::to_string(value)
        .map_err(|e| CommitError::Other { what, source: sqlx::Error::Encode(Box::new(e)) })
}

const LOG: &str =
    "insert into log (cursor, sweep, trial_index, at, entry) values ($1, $2, $3, $4, $5)";

/// The same for many.
const LOG_MANY: &str = "
    insert into log (cursor, sweep, trial_index, at, entry)
    select * from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[])";

const LOG_ENTRY: &str = "a log entry";

fn log_values(record: &LogRecord) -> Result<Vec<Value<'_>>, CommitError> {
    Ok(vec![
        int(record.cursor).into(),
        int(record.sweep.0).into(),
        record.trial.map(|id| int(id.index)).into(),
        record.at.into(),
        json(&record.what, LOG_ENTRY)?.into(),
    ])
}

async fn log(connection: &mut Connection<'_>, record: &LogRecord) -> Result<(), CommitError> {
    let values = log_values(record)?;
    statement(LOG).with(values).execute(connection).await.map_err(refused(LOG_ENTRY))?;
    Ok(())
}
