//! The store: where every acknowledged fact lives.
//!
//! The owner loop is the only writer: [`Store::commit`] takes the writes of one or many scheduler
//! steps and makes them durable in one transaction, or none of them. Everything else reads.
//! A commit is fenced twice: by the *generation* of the coordinator (a coordinator whose store was
//! opened by another one since cannot write), and by the *epoch* of each trial (a stale lease
//! cannot change a trial or record an outcome), both checked by the store itself.

mod derived;
mod error;
mod identity;
mod memory;
mod postgres;
mod row;
mod sql;
mod sqlite;
mod student;

pub use error::{CommitError, LeadError, LoadError, OpenError, QueryError, ReadError};
pub use identity::Identity;
pub use memory::{MemoryDatabase, MemoryStore};
pub use postgres::{Address, Campaign, Leader, PostgresDatabase, PostgresStore};
pub use row::{
    AttemptRow, EvaluationKey, EvaluationRow, LeaderboardRow, Page, QueryRows, SqlValue,
    SweepContents, SweepFilter, SweepSummary, TrialPhase, TrialRow,
};
pub use sqlite::SqliteStore;

use std::collections::BTreeSet;
use std::fmt;

use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::record::LogRecord;
use deptune_sweep::scheduler::{Snapshot, Write};
use futures::future::BoxFuture;

/// What a store's operation returns: a boxed future, so that stores can stand behind
/// `Arc<dyn Store>`.
pub type Answer<'a, T, E> = BoxFuture<'a, Result<T, E>>;

/// Rows in one page at most.
pub const MAX_PAGE: u32 = 1000;

/// Bytes of one row that a person's SQL may give; a value may have its column's share of them.
const MAX_ROW: usize = 64 << 20;

/// Bytes that a value may have in a row of so many columns.
fn value_limit(columns: usize) -> usize {
    MAX_ROW / columns.max(1)
}

/// The limit that a caller's limit means.
fn page_limit(limit: u32) -> u32 {
    if limit == 0 { MAX_PAGE } else { limit.min(MAX_PAGE) }
}

/// A store. All operations may be called concurrently; commits are carried out one at a time.
///
/// Limits of 0 or above [`MAX_PAGE`] mean [`MAX_PAGE`]. Pages are cut by key, never by offset, so
/// that rows added meanwhile neither repeat nor hide others.
pub trait Store: Send + Sync + fmt::Debug {
    /// Makes all writes durable in one transaction, in order. When this returns `Ok`, they survive
    /// a crash and a power loss. On any error but [`CommitError::Unknown`], none of them happened.
    ///
    /// # Errors
    /// See [`CommitError`]. Whatever it is, the scheduler's memory is ahead of the store now and
    /// must be rebuilt from [`Store::load`].
    fn commit<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, (), CommitError>;

    /// Everything that the scheduler is rebuilt from, as of one moment.
    ///
    /// # Errors
    /// When the store cannot be read or holds what this version does not understand.
    fn load(&self) -> Answer<'_, Snapshot, LoadError>;

    /// The sweep that a person means: digits are a number and nothing else, other texts mean the
    /// latest sweep of that name.
    ///
    /// # Errors
    /// When the store cannot be read, as for all reads below.
    fn find_sweep<'a>(&'a self, text: &'a str) -> Answer<'a, Option<SweepId>, ReadError>;

    /// One sweep with its counts.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn sweep(&self, sweep: SweepId) -> Answer<'_, Option<SweepSummary>, ReadError>;

    /// How much there is of a sweep.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn contents(&self, sweep: SweepId) -> Answer<'_, SweepContents, ReadError>;

    /// The spec's text as submitted.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn spec(&self, sweep: SweepId) -> Answer<'_, Option<String>, ReadError>;

    /// Sweeps with their counts, the latest first; those submitted before `before`, if given.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn sweeps<'a>(
        &'a self,
        filter: &'a SweepFilter,
        before: Option<SweepId>,
        limit: u32,
    ) -> Answer<'a, Page<SweepSummary>, ReadError>;

    /// Trials of a sweep that have a row, by index; those after index `after`, if given.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn trials(
        &self,
        sweep: SweepId,
        after: Option<u64>,
        limit: u32,
    ) -> Answer<'_, Page<TrialRow>, ReadError>;

    /// Attempts of a trial, by epoch.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn attempts(&self, trial: TrialId) -> Answer<'_, Vec<AttemptRow>, ReadError>;

    /// Evaluations of a sweep, or of its trial with index `trial`, by trial, step and split; those
    /// after `after`, if given.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn evaluations(
        &self,
        sweep: SweepId,
        trial: Option<u64>,
        after: Option<EvaluationKey>,
        limit: u32,
    ) -> Answer<'_, Page<EvaluationRow>, ReadError>;

    /// Log entries of a sweep with a cursor above `after` (0 = from the start), oldest first.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn log(&self, sweep: SweepId, after: u64, limit: u32)
    -> Answer<'_, Page<LogRecord>, ReadError>;

    /// Configurations of a sweep with at least one success, the best first.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn leaderboard(&self, sweep: SweepId, limit: u32)
    -> Answer<'_, Vec<LeaderboardRow>, ReadError>;

    /// Whether anything needs an artifact: a sweep its data or model files, a trial that has not
    /// ended its latest checkpoint, an outcome its adapter. Predictions are asked for apart.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn is_artifact_referenced<'a>(&'a self, hash: &'a ArtifactHash) -> Answer<'a, bool, ReadError>;

    /// Hashes of all predictions that outcomes name.
    ///
    /// # Errors
    /// See [`Store::find_sweep`].
    fn predictions(&self) -> Answer<'_, BTreeSet<ArtifactHash>, ReadError>;

    /// Runs one read-only SQL statement that a person wrote, and returns at most `limit` rows.
    ///
    /// # Errors
    /// When it is not one read-only statement, is refused by the database, or takes too long.
    fn query<'a>(&'a self, sql: &'a str, limit: usize) -> Answer<'a, QueryRows, QueryError>;
}
