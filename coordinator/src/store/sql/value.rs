//! Between the domain's values and those of SQL.

use std::error::Error as StdError;
use std::str::FromStr;

use deptune_sweep::id::WorkerId;
use deptune_sweep::metric::Number;
use deptune_sweep::spec::Goal;
use uuid::Uuid;

use super::database::Row;

/// An unsigned number as both databases hold it. Numbers beyond 2^63 - 1 become that: no index, step,
/// size or seed is that large, and a report that claims one must not make the commit fail.
pub(in crate::store) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The two columns of a measured number.
pub(in crate::store) fn number(value: Number) -> (Option<f64>, &'static str) {
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
pub(in crate::store) fn goal(goal: Goal) -> &'static str {
    match goal {
        Goal::Maximize => "maximize",
        Goal::Minimize => "minimize",
    }
}

/// A column that does not hold what it should.
pub(in crate::store) fn wrong(
    column: &str,
    source: impl Into<Box<dyn StdError + Send + Sync>>,
) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: source.into() }
}

/// Columns of a row by name, as the domain's types.
impl Row {
    /// A number that is not negative.
    pub(in crate::store) fn unsigned(&self, column: &str) -> Result<u64, sqlx::Error> {
        let value: i64 = self.try_get(column)?;
        u64::try_from(value).map_err(|e| wrong(column, e))
    }

    /// The same, if it is not null.
    pub(in crate::store) fn maybe_unsigned(
        &self,
        column: &str,
    ) -> Result<Option<u64>, sqlx::Error> {
        let value: Option<i64> = self.try_get(column)?;
        value.map(|v| u64::try_from(v).map_err(|e| wrong(column, e))).transpose()
    }

    /// A number of 32 bits.
    pub(in crate::store) fn small(&self, column: &str) -> Result<u32, sqlx::Error> {
        let value: i64 = self.try_get(column)?;
        u32::try_from(value).map_err(|e| wrong(column, e))
    }

    /// The same, if it is not null.
    pub(in crate::store) fn maybe_small(&self, column: &str) -> Result<Option<u32>, sqlx::Error> {
        let value: Option<i64> = self.try_get(column)?;
        value.map(|v| u32::try_from(v).map_err(|e| wrong(column, e))).transpose()
    }

    /// A number of 32 bits that may be negative, if it is not null.
    pub(in crate::store) fn maybe_signed(&self, column: &str) -> Result<Option<i32>, sqlx::Error> {
        let value: Option<i64> = self.try_get(column)?;
        value.map(|v| i32::try_from(v).map_err(|e| wrong(column, e))).transpose()
    }

    /// A text with a meaning.
    pub(in crate::store) fn parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<T, sqlx::Error> {
        let text: &str = self.try_get(column)?;
        text.parse().map_err(|e| wrong(column, e))
    }

    /// The same, if it is not null.
    pub(in crate::store) fn maybe_parsed<T: FromStr<Err: StdError + Send + Sync + 'static>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, sqlx::Error> {
        let text: Option<&str> = self.try_get(column)?;
        text.map(|t| t.parse().map_err(|e| wrong(column, e))).transpose()
    }

    /// A worker, if it is not null.
    pub(in crate::store) fn maybe_worker(
        &self,
        column: &str,
    ) -> Result<Option<WorkerId>, sqlx::Error> {
        Ok(self.maybe_parsed::<Uuid>(column)?.map(WorkerId))
    }

    /// A measured number of two columns, if there is one.
    pub(in crate::store) fn maybe_number(
        &self,
        column: &str,
        state: &str,
    ) -> Result<Option<Number>, sqlx::Error> {
        number_of(self.try_get(column)?, self.try_get(state)?).map_err(|e| wrong(column, e))
    }

    /// A measured number of two columns.
    pub(in crate::store) fn number(
        &self,
        column: &str,
        state: &str,
    ) -> Result<Number, sqlx::Error> {
        self.maybe_number(column, state)?.ok_or_else(|| wrong(column, "there is no number"))
    }

    /// A goal.
    pub(in crate::store) fn goal(&self, column: &str) -> Result<Goal, sqlx::Error> {
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
