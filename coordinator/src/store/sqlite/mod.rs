//! The store in one SQLite file.
//!
//! One connection writes; reads go through a small pool, so that in write-ahead mode neither waits
//! for the other. People's own SQL has a pool of its own and cannot starve the service's reads.
//! Every commit is synced to disk (`synchronous = full`) before it is reported.

mod commit;
mod disk;
mod lexer;
mod lock;
mod open;
mod query;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::record::LogRecord;
use deptune_sweep::scheduler::{Snapshot, Write};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use crate::store::sql::{Pool, load, read};
use crate::store::{
    Answer, AttemptRow, CommitError, EvaluationKey, EvaluationRow, LeaderboardRow, LoadError, Page,
    QueryError, QueryRows, ReadError, Store, SweepContents, SweepFilter, SweepSummary, TrialRow,
};

/// See the [module](crate::store::sqlite).
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    /// The generation under which this store was opened. Commits are refused under any other.
    generation: i64,
    /// How the writing connection is opened (again).
    writing: SqliteConnectOptions,
    /// The writing connection. Taken out for each commit and put back after it: when a commit is
    /// abandoned half-way or its outcome is unknown, the connection is gone, its transaction is
    /// rolled back, and the next commit opens another.
    writer: Mutex<Option<SqliteConnection>>,
    /// For the service's reads.
    reads: Pool,
    /// For people's SQL.
    queries: SqlitePool,
    /// Keeps other coordinators away for as long as this store lives.
    _lock: lock::Lock,
}

impl SqliteStore {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The generation of this opening: 1 for the first one of the file.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.generation
    }
}

impl Store for SqliteStore {
    fn commit<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, (), CommitError> {
        Box::pin(commit::commit(self, writes))
    }

    fn load(&self) -> Answer<'_, Snapshot, LoadError> {
        Box::pin(load::load(&self.reads))
    }

    fn find_sweep<'a>(&'a self, text: &'a str) -> Answer<'a, Option<SweepId>, ReadError> {
        Box::pin(read::sweep::find(&self.reads, text))
    }

    fn sweep(&self, sweep: SweepId) -> Answer<'_, Option<SweepSummary>, ReadError> {
        Box::pin(read::sweep::one(&self.reads, sweep))
    }

    fn contents(&self, sweep: SweepId) -> Answer<'_, SweepContents, ReadError> {
        Box::pin(read::sweep::contents(&self.reads, sweep))
    }

    fn spec(&self, sweep: SweepId) -> Answer<'_, Option<String>, ReadError> {
        Box::pin(read::sweep::spec(&self.reads, sweep))
    }

    fn sweeps<'a>(
        &'a self,
        filter: &'a SweepFilter,
        before: Option<SweepId>,
        limit: u32,
    ) -> Answer<'a, Page<SweepSummary>, ReadError> {
        Box::pin(read::sweep::list(&self.reads, filter, before, limit))
    }

    fn trials(
        &self,
        sweep: SweepId,
        after: Option<u64>,
        limit: u32,
    ) -> Answer<'_, Page<TrialRow>, ReadError> {
        Box::pin(read::trial::list(&self.reads, sweep, after, limit))
    }

    fn attempts(&self, trial: TrialId) -> Answer<'_, Vec<AttemptRow>, ReadError> {
        Box::pin(read::trial::attempts(&self.reads, trial))
    }

    fn evaluations(
        &self,
        sweep: SweepId,
        trial: Option<u64>,
        after: Option<EvaluationKey>,
        limit: u32,
    ) -> Answer<'_, Page<EvaluationRow>, ReadError> {
        Box::pin(read::evaluation::list(&self.reads, sweep, trial, after, limit))
    }

    fn log(
        &self,
        sweep: SweepId,
        after: u64,
        limit: u32,
    ) -> Answer<'_, Page<LogRecord>, ReadError> {
        Box::pin(read::log::list(&self.reads, sweep, after, limit))
    }

    fn leaderboard(
        &self,
        sweep: SweepId,
        limit: u32,
    ) -> Answer<'_, Vec<LeaderboardRow>, ReadError> {
        Box::pin(read::leaderboard::list(&self.reads, sweep, limit))
    }

    fn is_artifact_referenced<'a>(&'a self, hash: &'a ArtifactHash) -> Answer<'a, bool, ReadError> {
        Box::pin(read::sweep::is_artifact_referenced(&self.reads, hash))
    }

    fn predictions(&self) -> Answer<'_, BTreeSet<ArtifactHash>, ReadError> {
        Box::pin(read::sweep::predictions(&self.reads))
    }

    fn query<'a>(&'a self, sql: &'a str, limit: usize) -> Answer<'a, QueryRows, QueryError> {
        Box::pin(query::run(&self.queries, sql, limit))
    }
}
