//! People's own SQL.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::Error;
use super::{Api, QueryRows};

/// Rows of an answer when no limit is given, and at most.
const ROWS: (u32, u32) = (10_000, 1_000_000);
/// Answers at the same time, each of up to 64 MiB.
const AT_ONCE: usize = 2;
/// How long a statement waits for those before it.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whose statement is next. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Semaphore>);

/// Held for as long as an answer is in memory.
pub(crate) type Turn = OwnedSemaphorePermit;

impl Turns {
    pub(crate) fn new() -> Turns {
        Turns(Arc::new(Semaphore::new(AT_ONCE)))
    }

    async fn next(&self, patience: Duration) -> Result<Turn, Error> {
        match timeout(patience, self.0.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(Error::TooManyQueries),
        }
    }
}

impl Api {
    /// Runs one read-only SQL statement. Others wait until the turn is dropped.
    pub(crate) async fn query(&self, sql: &str, limit: u32) -> Result<(QueryRows, Turn), Error> {
        let (default, most) = ROWS;
        let limit = if limit == 0 { default } else { limit.min(most) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let turn = self.turns.next(PATIENCE).await?;
        let rows = self.store.query(sql, limit).await.map_err(Error::Query)?;
        Ok((rows, turn))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_third_statement_waits_for_one_of_the_two_before_it() {
        let (turns, short) = (Turns::new(), Duration::from_millis(10));
        let [first, _second] =
            [turns.next(PATIENCE).await.unwrap(), turns.next(PATIENCE).await.unwrap()];
        assert!(matches!(turns.next(short).await, Err(Error::TooManyQueries)));
        let other = turns.clone();
        let third = tokio::spawn(async move { other.next(PATIENCE).await });
        drop(first);
        let _third = third.await.unwrap().unwrap();
    }
}
