//! Reads for the service, from the pool of reading connections.

pub(in crate::store) mod evaluation;
pub(in crate::store) mod leaderboard;
pub(in crate::store) mod log;
pub(in crate::store) mod sweep;
pub(in crate::store) mod trial;

use sqlx::Error;

use super::database::Row;
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
    rows: &[Row],
    limit: u32,
    item: impl Fn(&Row) -> Result<T, Error>,
) -> Result<Page<T>, Error> {
    let limit = page_limit(limit) as usize;
    let items = rows.iter().take(limit).map(item).collect::<Result<_, _>>()?;
    Ok(Page { items, more: rows.len() > limit })
}
