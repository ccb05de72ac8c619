//! People's own SQL: one statement, read-only, bounded in time and memory.

use std::time::Duration;

use futures::TryStreamExt;
use sqlx::postgres::{PgColumn, PgConnectOptions, PgConnection, PgRow, PgStatement};
use sqlx::{AssertSqlSafe, Column, Connection, Either, Error, Executor, Row, SqlSafeStr};
use sqlx::{Statement, TypeInfo, ValueRef};
use tokio::sync::Semaphore;

use super::{Address, numeric, open};
use crate::store::sql::trouble::{Trouble, trouble};
use crate::store::{QueryError, QueryRows, SqlValue, value_limit};

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
    let word = first_word(sql)?;
    if READS.iter().any(|read| read.eq_ignore_ascii_case(word)) && !sql.contains('\0') {
        return Ok(());
    }
    Err(QueryError::NotARead { found: word.chars().take(32).collect() })
}

/// The first word of a statement, behind comments.
fn first_word(sql: &str) -> Result<&str, QueryError> {
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
    Ok(rest.get(..end.max(1)).unwrap_or("?"))
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
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    let unreadable = statement.columns().iter().find(|c| !is_readable(c.type_info().name()));
    if let Some(column) = unreadable {
        return Err(QueryError::Refused(unreadable_type(column)));
    }
    let largest = value_limit(columns.len());
    let statement = match bounded(connection, sql, statement.columns(), largest).await {
        Some(bounded) => bounded.map_err(refused)?,
        None => statement,
    };
    let mut answer = QueryRows { columns, ..QueryRows::default() };
    let mut bytes = 0;
    let mut rows = statement.query().persistent(false).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(refused)? {
        if answer.rows.len() >= limit || bytes > MAX_BYTES {
            answer.truncated = true;
            break;
        }
        let mut values = values(&row).map_err(QueryError::Refused)?;
        if values.len() > answer.columns.len() && values.pop() == Some(SqlValue::Integer(1)) {
            return Err(QueryError::TooLarge { limit: largest });
        }
        bytes += values.iter().map(SqlValue::size).sum::<usize>();
        answer.rows.push(values);
    }
    Ok(answer)
}

/// The person's statement within one that leaves larger values out and says in a last column
/// whether there are any, so that they do not come here at all. `None` for what cannot be put into
/// another statement, and for what gives no columns.
async fn bounded(
    connection: &mut PgConnection,
    sql: &str,
    columns: &[PgColumn],
    limit: usize,
) -> Option<Result<PgStatement, Error>> {
    let word = first_word(sql).unwrap_or_default();
    if columns.is_empty() || ["explain", "show"].iter().any(|w| w.eq_ignore_ascii_case(word)) {
        return None;
    }
    let (mut names, mut given, mut larger) = (Vec::new(), Vec::new(), Vec::new());
    for (column, at) in columns.iter().zip(1..) {
        let name = format!("c{at}");
        let value = match column.type_info().name() {
            "BYTEA" => Some(name.clone()),
            "TEXT" | "VARCHAR" | "CHAR" | "NAME" | "UNKNOWN" => Some(format!("{name}::text")),
            _ => None,
        };
        match value {
            None => given.push(name.clone()),
            Some(value) => {
                given.push(format!("case when octet_length({value}) <= {limit} then {value} end"));
                larger.push(format!("coalesce(octet_length({value}) > {limit}, false)"));
            }
        }
        names.push(name);
    }
    larger.push("false".to_owned());
    let (names, given, larger) = (names.join(", "), given.join(", "), larger.join(" or "));
    // The database has taken the text for one statement by itself. What may follow that is a
    // semicolon, and comments.
    let whole = sql.trim_end_matches(|c: char| c.is_ascii_whitespace() || c == ';');
    let before_comment = sql.rsplit_once(';').map(|(before, _)| before);
    let mut failure = None;
    for inner in std::iter::once(whole).chain(before_comment) {
        let text = format!(
            "select {given}, {larger} from (
{inner}
) as answer ({names})"
        );
        match connection.prepare(AssertSqlSafe(text).into_sql_str()).await {
            Ok(statement) => return Some(Ok(statement)),
            Err(error) => failure = failure.or(Some(error)),
        }
        // A failure ends the transaction; nothing was done in it.
        for again in ["rollback", "begin read only"] {
            if let Err(error) = connection.execute(again).await {
                return Some(Err(error));
            }
        }
    }
    failure.map(Err)
}

/// Whether values of this type are shown.
fn is_readable(kind: &str) -> bool {
    matches!(
        kind,
        "BOOL"
            | "INT2"
            | "INT4"
            | "INT8"
            | "FLOAT4"
            | "FLOAT8"
            | "NUMERIC"
            | "BYTEA"
            | "TEXT"
            | "VARCHAR"
            | "CHAR"
            | "NAME"
            | "UNKNOWN"
            | "TIMESTAMPTZ"
            | "TIMESTAMP"
    )
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

/// Of a column whose values are never shown.
fn unreadable_type(column: &PgColumn) -> Error {
    let (name, kind) = (column.name(), column.type_info().name());
    let why = format!("its type {kind} is not shown here; cast it: {name}::text");
    Error::ColumnDecode { index: name.to_owned(), source: why.into() }
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
