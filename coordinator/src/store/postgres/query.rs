//! People's own SQL: one statement, read-only, bounded in time and memory.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Connection, Either, Error, Executor, Row, SqlSafeStr};
use sqlx::{Statement, TypeInfo, ValueRef};
use tokio::sync::Semaphore;

use super::{Address, numeric, open};
use crate::store::sql::trouble::{Trouble, trouble};
use crate::store::{QueryError, QueryRows, SqlValue};

/// How long a statement may run.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Statements at the same time.
const AT_ONCE: usize = 2;
/// Bytes of values in one answer; more counts as over the limit of rows.
const MAX_BYTES: usize = 64 << 20;
/// First words of statements that read.
const READS: [&str; 6] = ["select", "with", "values", "explain", "table", "show"];
/// Microseconds from 1970-01-01 to 2000-01-01, where Postgres's times begin.
const EPOCH: i64 = 946_684_800_000_000;

/// Each statement has a connection of its own, closed after it: one that was given up half-way,
/// or changed its session, disturbs no other.
#[derive(Debug)]
pub(super) struct Queries {
    options: PgConnectOptions,
    room: Semaphore,
}

impl Queries {
    pub(super) fn new(address: &Address) -> Queries {
        let limit = format!("{}ms", TIME_LIMIT.as_millis());
        Queries { options: open::bounded(address, &limit), room: Semaphore::new(AT_ONCE) }
    }

    /// Runs `sql` and returns at most `limit` rows.
    pub(super) async fn run(&self, sql: &str, limit: usize) -> Result<QueryRows, QueryError> {
        check(sql)?;
        // The semaphore is never closed.
        let _room = self.room.acquire().await;
        let mut connection =
            PgConnection::connect_with(&self.options).await.map_err(QueryError::Unavailable)?;
        let begun = connection.execute("begin read only").await;
        begun.map_err(QueryError::Unavailable)?;
        fetch(&mut connection, sql, limit).await
    }
}

/// Checks that the statement begins like one that reads. That it is one, and only one, the
/// database sees to: it prepares one statement at a time, in a transaction that cannot write.
fn check(sql: &str) -> Result<(), QueryError> {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            let unterminated = QueryError::Unterminated { what: "a comment" };
            rest = comment.split_once("*/").map(|(_, after)| after).ok_or(unterminated)?;
        } else {
            break;
        }
    }
    if rest.is_empty() {
        return Err(QueryError::Empty);
    }
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    let word = rest.get(..end.max(1)).unwrap_or("?");
    if READS.iter().any(|read| read.eq_ignore_ascii_case(word)) && !sql.contains('\0') {
        return Ok(());
    }
    Err(QueryError::NotARead { found: word.chars().take(32).collect() })
}

async fn fetch(
    connection: &mut PgConnection,
    sql: &str,
    limit: usize,
) -> Result<QueryRows, QueryError> {
    let refused = |source| match trouble(&source) {
        Trouble::Interrupted => QueryError::Timeout { seconds: TIME_LIMIT.as_secs() },
        _ => QueryError::Refused(source),
    };
    // Safe: in a transaction that cannot write.
    let statement =
        connection.prepare(AssertSqlSafe(sql.to_owned()).into_sql_str()).await.map_err(refused)?;
    let parameters = match statement.parameters() {
        Some(Either::Left(types)) => types.len(),
        Some(Either::Right(count)) => count,
        None => 0,
    };
    if parameters > 0 {
        return Err(QueryError::Parameter);
    }
    let columns = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    let mut answer = QueryRows { columns, ..QueryRows::default() };
    let mut bytes = 0;
    let mut rows = statement.query().persistent(false).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(refused)? {
        if answer.rows.len() >= limit || bytes > MAX_BYTES {
            answer.truncated = true;
            break;
        }
        let values = values(&row).map_err(QueryError::Refused)?;
        bytes += values.iter().map(SqlValue::size).sum::<usize>();
        answer.rows.push(values);
    }
    Ok(answer)
}

fn values(row: &PgRow) -> Result<Vec<SqlValue>, Error> {
    (0..row.len()).map(|at| value(row, at)).collect()
}

fn value(row: &PgRow, at: usize) -> Result<SqlValue, Error> {
    let raw = row.try_get_raw(at)?;
    if raw.is_null() {
        return Ok(SqlValue::Null);
    }
    let kind = raw.type_info().name().to_owned();
    Ok(match kind.as_str() {
        "BOOL" => SqlValue::Integer(row.try_get::<bool, _>(at)?.into()),
        "INT2" => SqlValue::Integer(row.try_get::<i16, _>(at)?.into()),
        "INT4" => SqlValue::Integer(row.try_get::<i32, _>(at)?.into()),
        "INT8" => SqlValue::Integer(row.try_get(at)?),
        "FLOAT4" => SqlValue::Real(row.try_get::<f32, _>(at)?.into()),
        "FLOAT8" => SqlValue::Real(row.try_get(at)?),
        "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => SqlValue::Text(row.try_get(at)?),
        "BYTEA" => SqlValue::Blob(row.try_get(at)?),
        "TIMESTAMPTZ" | "TIMESTAMP" => time(raw.as_bytes().map_err(Error::Decode)?, row, at)?,
        "NUMERIC" => numeric::value(raw.as_bytes().map_err(Error::Decode)?)
            .ok_or_else(|| unreadable(row, at, &kind))?,
        _ => return Err(unreadable(row, at, &kind)),
    })
}

fn time(bytes: &[u8], row: &PgRow, at: usize) -> Result<SqlValue, Error> {
    let microseconds: Option<[u8; 8]> = bytes.try_into().ok();
    let time = microseconds
        .and_then(|bytes| i64::from_be_bytes(bytes).checked_add(EPOCH))
        .and_then(|since| jiff::Timestamp::from_microsecond(since).ok());
    match time {
        Some(time) => Ok(SqlValue::Text(time.to_string())),
        None => Err(unreadable(row, at, "TIMESTAMP")),
    }
}

fn unreadable(row: &PgRow, at: usize, kind: &str) -> Error {
    let column = row.columns().get(at).map_or("?", Column::name);
    let why = format!("its type {kind} is not shown here; cast it: {column}::text");
    Error::ColumnDecode { index: column.to_owned(), source: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_begins_like_a_read_reaches_the_database() {
        for sql in ["select 1", " -- a\n/* b; */ WITH x as (select 1) select 1", ";values (1)"] {
            assert!(check(sql).is_ok(), "{sql}");
        }
        for sql in ["commit", "set x = 1", "delete from trials", "selection", "(select 1)", "é"] {
            assert!(matches!(check(sql), Err(QueryError::NotARead { .. })), "{sql}");
        }
        for sql in ["", " ;", "-- nothing"] {
            assert!(matches!(check(sql), Err(QueryError::Empty)), "{sql}");
        }
        assert!(matches!(check("/* x"), Err(QueryError::Unterminated { .. })));
    }
}
