//! Reads for the service, from the pool of reading connections.

pub(super) mod evaluation;
pub(super) mod leaderboard;
pub(super) mod log;
pub(super) mod sweep;
pub(super) mod trial;

use sqlx::Error;
use sqlx::sqlite::SqliteRow;

use crate::store::{Page, ReadError, page_limit};

fn failed(what: &'static str) -> impl Fn(Error) -> ReadError {
    move |source| ReadError { what, source }
}

/// What to ask for to see whether there is more than a page.
fn one_more(limit: u32) -> i64 {
    i64::from(page_limit(limit)) + 1
}

/// Cuts what [`one_more`] asked for to a page.
fn page<T>(
    rows: &[SqliteRow],
    limit: u32,
    item: impl Fn(&SqliteRow) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    let limit = page_limit(limit) as usize;
    let items = rows.iter().take(limit).map(item).collect::<Result<_, _>>()?;
    Ok(Page { items, more: rows.len() > limit })
}
