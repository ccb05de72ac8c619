//! One name for what the two databases have each: pools, connections, rows.

use sqlx::postgres::{PgConnection, PgPool, PgRow, Postgres};
use sqlx::sqlite::{Sqlite, SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Decode, Error, Transaction, Type};

/// Connections that read.
#[derive(Debug)]
pub(in crate::store) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Begins a transaction that reads everything as of one moment.
    pub(in crate::store) async fn begin(&self) -> Result<Reading, Error> {
        Ok(match self {
            Pool::Sqlite(pool) => Reading::Sqlite(pool.begin().await?),
            Pool::Postgres(pool) => Reading::Postgres(
                pool.begin_with("begin isolation level repeatable read, read only").await?,
            ),
        })
    }
}

/// A transaction that reads.
pub(in crate::store) enum Reading {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

impl Reading {
    /// Its connection.
    pub(in crate::store) fn connection(&mut self) -> Connection<'_> {
        match self {
            Reading::Sqlite(reading) => Connection::Sqlite(reading),
            Reading::Postgres(reading) => Connection::Postgres(reading),
        }
    }
}

/// A connection, borrowed from whoever has it.
pub(in crate::store) enum Connection<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A row.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, of a type that both databases have.
    pub(in crate::store) fn try_get<'r, T>(&'r self, column: &str) -> Result<T, Error>
    where
        T: Decode<'r, Sqlite> + Type<Sqlite> + Decode<'r, Postgres> + Type<Postgres>,
    {
        match self {
            Row::Sqlite(row) => sqlx::Row::try_get(row, column),
            Row::Postgres(row) => sqlx::Row::try_get(row, column),
        }
    }
}
