//! People's own SQL: one statement, read-only, bounded in time and memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo, ValueRef};

use super::lexer;
use crate::store::sql::trouble::{Trouble, trouble};
use crate::store::{MAX_ROW, QueryError, QueryRows, SqlValue, value_limit};

/// How long a statement may run.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of values in one answer; more counts as over the limit of rows.
const MAX_BYTES: usize = 64 << 20;

/// Virtual machine instructions between two looks at the clock: some tens of microseconds.
const OPS_PER_LOOK: i32 = 10_000;

/// Runs `sql` and returns at most `limit` rows.
pub(super) async fn run(
    pool: &SqlitePool,
    sql: &str,
    limit: usize,
) -> Result<QueryRows, QueryError> {
    lexer::check(sql)?;
    let mut connection = pool.acquire().await.map_err(QueryError::Unavailable)?;
    // Ends the statement when time is up, and when nobody waits for it any more.
    let abandoned = Abandoned::default();
    let flag = abandoned.0.clone();
    let deadline = Instant::now() + TIME_LIMIT;
    connection
        .lock_handle()
        .await
        .map_err(QueryError::Unavailable)?
        .set_progress_handler(OPS_PER_LOOK, move || {
            !flag.load(Ordering::Relaxed) && Instant::now() < deadline
        });
    let result = fetch(&mut connection, sql, limit).await;
    connection.lock_handle().await.map_err(QueryError::Unavailable)?.remove_progress_handler();
    result
}

/// Sets its flag when it is dropped.
#[derive(Default)]
struct Abandoned(Arc<AtomicBool>);

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn fetch(
    connection: &mut SqliteConnection,
    sql: &str,
    limit: usize,
) -> Result<QueryRows, QueryError> {
    let mut largest = MAX_ROW;
    bound_values(connection, largest).await?;
    // Safe: the lexer let one reading statement through, on a connection that cannot write.
    let statement = connection
        .prepare(AssertSqlSafe(sql.to_owned()).into_sql_str())
        .await
        .map_err(refused(largest))?;
    let columns: Vec<String> = statement.columns().iter().map(|c| c.name().to_owned()).collect();
    largest = value_limit(columns.len());
    bound_values(connection, largest).await?;
    let mut answer = QueryRows { columns, ..QueryRows::default() };
    let mut bytes = 0;
    let mut rows = statement.query().persistent(false).fetch(connection);
    while let Some(row) = rows.try_next().await.map_err(refused(largest))? {
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

/// What the database's refusal means, where values may have `limit` bytes.
fn refused(limit: usize) -> impl Fn(sqlx::Error) -> QueryError {
    move |source| match trouble(&source) {
        Trouble::Interrupted => QueryError::Timeout { seconds: TIME_LIMIT.as_secs() },
        Trouble::TooLarge => QueryError::TooLarge { limit },
        _ => QueryError::Refused(source),
    }
}

/// Bounds every value that statements of this connection make, read or give from here on.
#[expect(unsafe_code, reason = "SQLite's limits have no other interface")]
async fn bound_values(connection: &mut SqliteConnection, bytes: usize) -> Result<(), QueryError> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
    let mut handle = connection.lock_handle().await.map_err(QueryError::Unavailable)?;
    // SAFETY: the handle is open and ours alone while it is locked.
    unsafe {
        libsqlite3_sys::sqlite3_limit(
            handle.as_raw_handle().as_ptr(),
            libsqlite3_sys::SQLITE_LIMIT_LENGTH,
            bytes,
        );
    }
    Ok(())
}

fn values(row: &SqliteRow) -> Result<Vec<SqlValue>, sqlx::Error> {
    (0..row.len())
        .map(|at| {
            let raw = row.try_get_raw(at)?;
            if raw.is_null() {
                return Ok(SqlValue::Null);
            }
            Ok(match raw.type_info().name() {
                "INTEGER" => SqlValue::Integer(row.try_get_unchecked(at)?),
                "REAL" => SqlValue::Real(row.try_get_unchecked(at)?),
                "TEXT" => {
                    // A file may hold text that is not UTF-8; show what can be shown.
                    let bytes: Vec<u8> = row.try_get_unchecked(at)?;
                    SqlValue::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
                _ => SqlValue::Blob(row.try_get_unchecked(at)?),
            })
        })
        .collect()
}
