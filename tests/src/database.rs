//! The result database, read from outside like any SQLite client would.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo, ValueRef};

/// A read-only connection of our own, beside the coordinator's or after its end.
#[derive(Debug)]
pub struct Database {
    runtime: tokio::runtime::Runtime,
    connection: SqliteConnection,
}

impl Database {
    /// Opens the file.
    #[track_caller]
    pub fn open(path: &Path) -> Database {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .read_only(true)
            .busy_timeout(Duration::from_secs(10));
        let connection = runtime
            .block_on(SqliteConnection::connect_with(&options))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Database { runtime, connection }
    }

    /// The rows of a statement, each value as text: `NULL` for null, numbers with all their
    /// digits.
    #[track_caller]
    pub fn rows(&mut self, sql: &str) -> Vec<Vec<String>> {
        let query = sqlx::query(AssertSqlSafe(sql.to_owned()));
        let rows = self
            .runtime
            .block_on(query.fetch_all(&mut self.connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter().map(texts).collect()
    }

    /// The one number that a statement gives.
    #[track_caller]
    pub fn number(&mut self, sql: &str) -> i64 {
        let query = sqlx::query_scalar(AssertSqlSafe(sql.to_owned()));
        self.runtime
            .block_on(query.fetch_one(&mut self.connection))
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Fails the test unless the file is whole and its tables agree with each other: no page
    /// damaged, no foreign key without its row, no trial that ended without its one outcome.
    #[track_caller]
    pub fn assert_sound(&mut self) {
        assert_eq!(self.rows("pragma integrity_check"), [["ok"]]);
        assert!(self.rows("pragma foreign_key_check").is_empty());
        let broken = self.rows(
            "select t.sweep, t.trial_index, t.phase, t.outcome, o.outcome from trials t
             left join outcomes o on o.sweep = t.sweep and o.trial_index = t.trial_index
             where t.outcome is not o.outcome or (t.phase = 'ended') <> (o.outcome is not null)",
        );
        assert!(broken.is_empty(), "trials and outcomes disagree: {broken:?}");
        let late = self.rows(
            "select a.sweep, a.trial_index, a.epoch, o.epoch from attempts a
             join outcomes o on o.sweep = a.sweep and o.trial_index = a.trial_index
             where a.epoch > o.epoch or a.started > o.at",
        );
        assert!(late.is_empty(), "attempts started after the outcome: {late:?}");
    }
}

fn texts(row: &SqliteRow) -> Vec<String> {
    (0..row.columns().len())
        .map(|at| {
            let value = row.try_get_raw(at).unwrap();
            if value.is_null() {
                return "NULL".to_owned();
            }
            match value.type_info().name() {
                "INTEGER" => row.get::<i64, _>(at).to_string(),
                // The shortest text that reads back as the same bits.
                "REAL" => format!("{:?}", row.get::<f64, _>(at)),
                "TEXT" => row.get::<String, _>(at),
                other => panic!("column {} is a {other}", row.column(at).name()),
            }
        })
        .collect()
}
