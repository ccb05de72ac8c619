//! The log.

use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::record::LogRecord;
use sqlx::Error;

use super::{failed, one_more, page};
use crate::store::sql::database::{Pool, Row};
use crate::store::sql::statement::statement;
use crate::store::sql::value::{int, wrong};
use crate::store::{Page, ReadError};

pub(in crate::store) async fn list(
    pool: &Pool,
    sweep: SweepId,
    after: u64,
    limit: u32,
) -> Result<Page<LogRecord>, ReadError> {
    let failed = failed("the log");
    let rows = statement(
        "select cursor, sweep, trial_index, at, entry
         from log
         where sweep = $1 and cursor > $2
         order by cursor
         limit $3",
    )
    .bind(int(sweep.0))
    .bind(int(after))
    .bind(one_more(limit))
    .fetch_all(pool)
    .await
    .map_err(&failed)?;
    page(&rows, limit, entry).map_err(&failed)
}

fn entry(row: &Row) -> Result<LogRecord, Error> {
    let sweep = SweepId(row.unsigned("sweep")?);
    let what: &str = row.try_get("entry")?;
    Ok(LogRecord {
        cursor: row.unsigned("cursor")?,
        sweep,
        trial: row.maybe_unsigned("trial_index")?.map(|index| TrialId { sweep, index }),
        at: row.try_get("at")?,
        what: serde_json::from_str(what).map_err(|source| wrong("entry", source))?,
    })
}
