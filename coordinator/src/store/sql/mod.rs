//! What the stores in SQL databases share: every write, every read, and the load, in SQL that both
//! SQLite and Postgres understand. How a database is opened, how a transaction is fenced and ended,
//! and how a person's own SQL is bounded is each store's own.

mod database;
pub(super) mod load;
pub(super) mod read;
mod statement;
pub(super) mod trouble;
mod value;
pub(super) mod write;

pub(super) use database::{Connection, Pool};
