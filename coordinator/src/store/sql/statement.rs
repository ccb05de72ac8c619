//! A statement with its values, for either database.

use std::borrow::Cow;
use std::fmt::Write as _;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use sqlx::postgres::{PgArguments, PgConnection, Postgres};
use sqlx::query::Query;
use sqlx::sqlite::{Sqlite, SqliteArguments, SqliteConnection};
use sqlx::{AssertSqlSafe, Error, Executor};

use super::database::{Connection, Pool, Row};

/// Begins a statement whose text both databases understand: `$1`, `$2` … stand for its values.
pub(in crate::store) fn statement<'q>(sql: &'static str) -> Statement<'q> {
    Statement { sql, values: Vec::new() }
}

/// See [`statement`].
#[derive(Debug, Clone)]
pub(in crate::store) struct Statement<'q> {
    sql: &'static str,
    values: Vec<Value<'q>>,
}

/// A value, null or not, whose type both databases have.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value<'q> {
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<Cow<'q, str>>),
    Bool(Option<bool>),
}

impl<'q> Statement<'q> {
    /// Gives the next value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'q>>) -> Statement<'q> {
        self.values.push(value.into());
        self
    }

    /// Gives all values at once.
    pub(in crate::store) fn with(mut self, values: Vec<Value<'q>>) -> Statement<'q> {
        self.values = values;
        self
    }

    /// Runs it and returns how many rows it changed.
    pub(in crate::store) async fn execute(
        self,
        connection: &mut Connection<'_>,
    ) -> Result<u64, Error> {
        match connection {
            Connection::Sqlite(connection) => {
                Ok(connection.execute(self.sqlite()).await?.rows_affected())
            }
            Connection::Postgres(connection) => {
                Ok(connection.execute(self.postgres()).await?.rows_affected())
            }
        }
    }

    /// Its rows, as they come.
    pub(in crate::store) fn fetch<'e>(
        self,
        source: impl Into<Source<'e>>,
    ) -> BoxStream<'e, Result<Row, Error>> {
        match source.into() {
            Source::SqlitePool(pool) => pool.fetch(self.sqlite()).map_ok(Row::Sqlite).boxed(),
            Source::Sqlite(connection) => {
                connection.fetch(self.sqlite()).map_ok(Row::Sqlite).boxed()
            }
            Source::PostgresPool(pool) => pool.fetch(self.postgres()).map_ok(Row::Postgres).boxed(),
            Source::Postgres(connection) => {
                connection.fetch(self.postgres()).map_ok(Row::Postgres).boxed()
            }
        }
    }

    /// All of its rows.
    pub(in crate::store) async fn fetch_all(
        self,
        source: impl Into<Source<'_>>,
    ) -> Result<Vec<Row>, Error> {
        self.fetch(source).try_collect().await
    }

    /// The row of a statement that gives at most one.
    pub(in crate::store) async fn fetch_optional(
        self,
        source: impl Into<Source<'_>>,
    ) -> Result<Option<Row>, Error> {
        Ok(self.fetch_all(source).await?.into_iter().next())
    }

    /// The row of a statement that gives one.
    pub(in crate::store) async fn fetch_one(
        self,
        source: impl Into<Source<'_>>,
    ) -> Result<Row, Error> {
        self.fetch_optional(source).await?.ok_or(Error::RowNotFound)
    }

    fn sqlite<'s>(self) -> Query<'s, Sqlite, SqliteArguments> {
        self.values.into_iter().fold(sqlx::query(self.sql), bind_sqlite)
    }

    fn postgres<'s>(self) -> PostgresQuery<'s> {
        self.values.into_iter().fold(sqlx::query(self.sql), |query, value| match value {
            Value::Integer(value) => query.bind(value),
            Value::Real(value) => query.bind(value),
            Value::Text(value) => query.bind(value.map(without_zeros)),
            Value::Bool(value) => query.bind(value),
        })
    }
}

fn bind_sqlite<'s>(
    query: Query<'s, Sqlite, SqliteArguments>,
    value: Value<'_>,
) -> Query<'s, Sqlite, SqliteArguments> {
    match value {
        Value::Integer(value) => query.bind(value),
        Value::Real(value) => query.bind(value),
        Value::Text(value) => query.bind(value),
        Value::Bool(value) => query.bind(value),
    }
}

/// A statement for any number of rows, of which each changes one or none.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct Many {
    /// For one row, each of whose values is given.
    pub(in crate::store) one: &'static str,
    /// For all rows at once: each value is an array with one element per row. For Postgres.
    pub(in crate::store) all: &'static str,
}

impl Many {
    /// Runs it for all rows, and returns how many of them it changed.
    pub(in crate::store) async fn execute(
        self,
        connection: &mut Connection<'_>,
        rows: Vec<Vec<Value<'_>>>,
    ) -> Result<u64, Error> {
        match connection {
            Connection::Sqlite(connection) => joined(connection, self.one, rows).await,
            Connection::Postgres(connection) => at_once(connection, self.all, rows).await,
        }
    }
}

/// Rows whose statements SQLite is given in one text: each text of another length is prepared, and
/// kept, by itself.
const JOINED: usize = 8;

async fn joined(
    connection: &mut SqliteConnection,
    one: &'static str,
    mut rows: Vec<Vec<Value<'_>>>,
) -> Result<u64, Error> {
    let mut changed = 0;
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(JOINED));
        let width = rows.first().map_or(0, Vec::len);
        let sql = repeated(one, rows.len(), width);
        let values = rows.into_iter().flatten();
        let query = values.fold(sqlx::query(AssertSqlSafe(sql)), bind_sqlite);
        changed += connection.execute(query).await?.rows_affected();
        rows = rest;
    }
    Ok(changed)
}

/// A statement `count` times, each time with the next `width` values.
fn repeated(one: &str, count: usize, width: usize) -> String {
    let one = Numbered::of(one);
    let mut sql = String::with_capacity(one.length() * count);
    for n in 0..count {
        one.write(n * width, &mut sql);
        sql.push(';');
    }
    sql
}

/// A statement whose values come after `taken` others.
pub(in crate::store) fn renumbered(sql: &str, taken: usize) -> String {
    let sql = Numbered::of(sql);
    let mut text = String::with_capacity(sql.length());
    sql.write(taken, &mut text);
    text
}

/// A statement's text with the numbers of its values apart.
struct Numbered<'s> {
    first: &'s str,
    /// Each value's number, and the text up to the next.
    values: Vec<(usize, &'s str)>,
}

impl Numbered<'_> {
    fn of(sql: &str) -> Numbered<'_> {
        let mut parts = sql.split('$');
        let first = parts.next().unwrap_or_default();
        let number = |part: &'_ str| part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        let values = parts
            .map(|part| {
                let (number, text) = part.split_at(number(part));
                (number.parse().unwrap_or_default(), text)
            })
            .collect();
        Numbered { first, values }
    }

    /// About as long as its text becomes.
    fn length(&self) -> usize {
        let texts: usize = self.values.iter().map(|(_, text)| text.len() + 4).sum();
        self.first.len() + texts + 1
    }

    fn write(&self, taken: usize, text: &mut String) {
        text.push_str(self.first);
        for (number, after) in &self.values {
            // Writing to a text cannot fail.
            let _ = write!(text, "${}{after}", number + taken);
        }
    }
}

async fn at_once(
    connection: &mut PgConnection,
    sql: &'static str,
    rows: Vec<Vec<Value<'_>>>,
) -> Result<u64, Error> {
    let query = bind_columns(sqlx::query(sql), rows)?;
    Ok(connection.execute(query).await?.rows_affected())
}

/// Runs a statement that takes the values of several statements for many rows, one after the
/// other, and gives one number.
pub(in crate::store) async fn counted_at_once(
    connection: &mut PgConnection,
    sql: String,
    parts: Vec<Vec<Vec<Value<'_>>>>,
) -> Result<u64, Error> {
    let mut query = sqlx::query(AssertSqlSafe(sql));
    for rows in parts {
        query = bind_columns(query, rows)?;
    }
    let count: i64 = sqlx::Row::try_get(&connection.fetch_one(query).await?, 0)?;
    Ok(count.try_into().unwrap_or_default())
}

type PostgresQuery<'q> = Query<'q, Postgres, PgArguments>;

/// Gives each value of the rows as an array.
fn bind_columns<'q>(
    query: PostgresQuery<'q>,
    rows: Vec<Vec<Value<'_>>>,
) -> Result<PostgresQuery<'q>, Error> {
    let width = rows.first().map_or(0, Vec::len);
    let mut columns: Vec<Column> = Vec::with_capacity(width);
    for row in rows {
        for (at, value) in row.into_iter().enumerate() {
            match columns.get_mut(at) {
                Some(column) => column.push(value)?,
                None => columns.push(Column::begin(value)),
            }
        }
    }
    Ok(columns.into_iter().fold(query, |query, column| match column {
        Column::Integer(values) => query.bind(values),
        Column::Real(values) => query.bind(values),
        Column::Text(values) => query.bind(values),
        Column::Bool(values) => query.bind(values),
    }))
}

/// The values of many rows for one place of a statement.
enum Column {
    Integer(Vec<Option<i64>>),
    Real(Vec<Option<f64>>),
    Text(Vec<Option<String>>),
    Bool(Vec<Option<bool>>),
}

impl Column {
    fn begin(value: Value<'_>) -> Column {
        match value {
            Value::Integer(value) => Column::Integer(vec![value]),
            Value::Real(value) => Column::Real(vec![value]),
            Value::Text(value) => Column::Text(vec![owned(value)]),
            Value::Bool(value) => Column::Bool(vec![value]),
        }
    }

    fn push(&mut self, value: Value<'_>) -> Result<(), Error> {
        match (self, value) {
            (Column::Integer(values), Value::Integer(value)) => values.push(value),
            (Column::Real(values), Value::Real(value)) => values.push(value),
            (Column::Text(values), Value::Text(value)) => values.push(owned(value)),
            (Column::Bool(values), Value::Bool(value)) => values.push(value),
            _ => return Err(Error::Encode("rows of one statement differ in their types".into())),
        }
        Ok(())
    }
}

fn owned(text: Option<Cow<'_, str>>) -> Option<String> {
    text.map(|text| without_zeros(text).into_owned())
}

/// Postgres has no text with a character 0, and a message that holds one must not make every
/// commit fail for ever.
fn without_zeros(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}

/// What a statement is run on.
pub(in crate::store) enum Source<'e> {
    SqlitePool(&'e sqlx::SqlitePool),
    PostgresPool(&'e sqlx::PgPool),
    Sqlite(&'e mut sqlx::SqliteConnection),
    Postgres(&'e mut sqlx::PgConnection),
}

impl<'e> From<&'e Pool> for Source<'e> {
    fn from(pool: &'e Pool) -> Source<'e> {
        match pool {
            Pool::Sqlite(pool) => Source::SqlitePool(pool),
            Pool::Postgres(pool) => Source::PostgresPool(pool),
        }
    }
}

impl<'e> From<&'e mut Connection<'_>> for Source<'e> {
    fn from(connection: &'e mut Connection<'_>) -> Source<'e> {
        match connection {
            Connection::Sqlite(connection) => Source::Sqlite(connection),
            Connection::Postgres(connection) => Source::Postgres(connection),
        }
    }
}

macro_rules! values {
    ($($type:ty => $variant:ident($value:ident: $map:expr)),+ $(,)?) => {$(
        impl<'q> From<$type> for Value<'q> {
            fn from($value: $type) -> Value<'q> {
                Value::$variant(Some($map))
            }
        }

        impl<'q> From<Option<$type>> for Value<'q> {
            fn from(value: Option<$type>) -> Value<'q> {
                Value::$variant(value.map(|$value| $map))
            }
        }
    )+};
}

values!(
    i64 => Integer(value: value),
    u32 => Integer(value: i64::from(value)),
    f64 => Real(value: value),
    bool => Bool(value: value),
    String => Text(value: value.into()),
    &'q str => Text(value: value.into()),
    &'q String => Text(value: value.into()),
);

impl<'q> From<&'q Option<String>> for Value<'q> {
    fn from(value: &'q Option<String>) -> Value<'q> {
        value.as_ref().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_repeated_with_other_values() {
        let sql = repeated("update t set a = $2, b = $10 where a <= $2 and c = $1", 2, 10);
        assert_eq!(
            sql,
            "update t set a = $2, b = $10 where a <= $2 and c = $1;\
             update t set a = $12, b = $20 where a <= $12 and c = $11;"
        );
    }

    #[test]
    fn the_character_zero_is_replaced() {
        assert_eq!(without_zeros("a\0b".into()), "a\u{fffd}b");
        assert!(matches!(without_zeros("ab".into()), Cow::Borrowed("ab")));
    }
}
