//! Between Rust's values and SQLite's.

use std::error::Error as StdError;
use std::str::FromStr;

use deptune_sweep::id::WorkerId;
use deptune_sweep::metric::Number;
use deptune_sweep::spec::Goal;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

/// Primary result codes, <https://sqlite.org/rescode.html>.
pub(super) const SQLITE_BUSY: i32 = 5;
pub(super) const SQLITE_LOCKED: i32 = 6;
pub(super) const SQLITE_INTERRUPT: i32 = 9;
pub(super) const SQLITE_CORRUPT: i32 = 11;
pub(super) const SQLITE_FULL: i32 = 13;
pub(super) const SQLITE_CONSTRAINT: i32 = 19;
pub(super) const SQLITE_NOTADB: i32 = 26;

/// The primary result code of an error that came from SQLite.
pub(super) fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// An unsigned number as SQLite holds it. Numbers beyond 2^63 - 1 become that: no index, step,
/// size or seed is that large, and a report that claims one must not make the commit fail.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The two columns of a measured number.
pub(super) fn number(value: Number) -> (Option<f64>, &'static str) {
    let state = match Number::from(value.get()) {
        Number::Finite(_) => "finite",
        Number::NaN => "nan",
        Number::Infinity => "inf",
        Number::NegInfinity => "-inf",
    };
    (value.finite(), state)
}

/// The number of two columns; `None` when there is none.
fn number_of(value: Option<f64>, state: Option<&str>) -> Result<Option<Number>, String> {
    match (value, state) {
        (None, None) => Ok(None),
        (Some(value), Some("finite")) => Ok(Some(Number::from(value))),
        (None, Some("nan")) => Ok(Some(Number::NaN)),
        (None, Some("inf")) => Ok(Some(Number::Infinity)),
        (None, Some("-inf")) => Ok(Some(Number::NegInfinity)),
        (value, state) => Err(format!("number {value:?} cannot be in state {state:?}")),
    }
}

/// The name of a goal in SQL.
pub(super) fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Maximize => "maximize",
        Goal::Minimize => "minimize",
    }
}

/// A column that does not hold what it should.
pub(super) fn wrong(
    column: &str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}

/// Columns of a row by name, as the domain's types.
pub(super) trait Columns {
    /// A number that is not negative.
    fn unsigned(&self, column: &str) -> Result<u64, sqlx::Error>;
    /// The same, if it is not null.
    fn maybe_unsigned(&self, column: &str) -> Result<Option<u64>, sqlx::Error>;
    /// A number of 32 bits.
    fn small(&self, column: &str) -> Result<u32, sqlx::Error>;
    /// A text with a meaning.
    fn parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error>;
    /// The same, if it is not null.
    fn maybe_parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error>;
    /// A worker, if it is not null.
    fn maybe_worker(&self, column: &str) -> Result<Option<WorkerId>, sqlx::Error>;
    /// A measured number of two columns, if there is one.
    fn maybe_number(&self, column: &str, state: &str) -> Result<Option<Number>, sqlx::Error>;
    /// A measured number of two columns.
    fn number(&self, column: &str, state: &str) -> Result<Number, sqlx::Error>;
    /// A goal.
    fn goal(&self, column: &str) -> Result<Goal, sqlx::Error>;
}

impl Columns for SqliteRow {
    fn unsigned(&self, column: &str) -> Result<u64, sqlx::Error> {
        let value: i64 = self.try_get(column)?;
        u64::try_from(value).map_err(|e| wrong(column, e))
    }

    fn maybe_unsigned(&self, column: &str) -> Result<Option<u64>, sqlx::Error> {
        let value: Option<i64> = self.try_get(column)?;
        value.map(|v| u64::try_from(v).map_err(|e| wrong(column, e))).transpose()
    }

    fn small(&self, column: &str) -> Result<u32, sqlx::Error> {
        let value: i64 = self.try_get(column)?;
        u32::try_from(value).map_err(|e| wrong(column, e))
    }

    fn parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error> {
        let text: &str = self.try_get(column)?;
        text.parse().map_err(|e| wrong(column, e))
    }

    fn maybe_parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(|t| t.parse().map_err(|e| wrong(column, e))).transpose()
    }

    fn maybe_worker(&self, column: &str) -> Result<Option<WorkerId>, sqlx::Error> {
        Ok(self.maybe_parsed::<Uuid>(column)?.map(WorkerId))
    }

    fn maybe_number(&self, column: &str, state: &str) -> Result<Option<Number>, sqlx::Error> {
        number_of(self.try_get(column)?, self.try_get(state)?).map_err(|e| wrong(column, e))
    }

    fn number(&self, column: &str, state: &str) -> Result<Number, sqlx::Error> {
        self.maybe_number(column, state)?.ok_or_else(|| wrong(column, "there is no number"))
    }

    fn goal(&self, column: &str) -> Result<Goal, sqlx::Error> {
        match self.try_get(column)? {
            "maximize" => Ok(Goal::Maximize),
            "minimize" => Ok(Goal::Minimize),
            other => Err(wrong(column, format!("'{other}' is no goal"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_state() {
        for value in [0.0, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE] {
            let (stored, state) = number(Number::from(value));
            assert_eq!(number_of(stored, Some(state)), Ok(Some(Number::from(value))));
        }
        assert_eq!(number_of(None, None), Ok(None));
        assert!(number_of(None, Some("finite")).is_err());
        assert!(number_of(Some(1.0), None).is_err());
    }
}
