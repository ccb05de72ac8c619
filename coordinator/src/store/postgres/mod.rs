//! The store in a Postgres database, which several coordinators may share: one leads, the others
//! stand by.
//!
//! A [`PostgresDatabase`] is opened by each of them; [`PostgresDatabase::campaign`] makes one a
//! leader and gives it the [`PostgresStore`]. It leads for as long as it renews its lease, on the
//! database's clock; every commit locks the row of the leader and checks its generation, so that a
//! leader that was stopped and woke up too late cannot write.

mod address;
mod commit;
mod lead;
mod numeric;
mod open;
mod query;

pub use address::Address;
pub use lead::{Campaign, Leader};

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::record::LogRecord;
use deptune_sweep::scheduler::{Snapshot, Write};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::Mutex;

use crate::store::sql::{Pool, read};
use crate::store::{
    Answer, AttemptRow, CommitError, EvaluationKey, EvaluationRow, LeaderboardRow, LoadError, Page,
    QueryError, QueryRows, ReadError, Store, SweepContents, SweepFilter, SweepSummary, TrialRow,
};

/// A database that a coordinator may come to lead.
#[derive(Debug)]
pub struct PostgresDatabase {
    address: Address,
    /// For how long a leader that is not heard leads on.
    lease: Duration,
    /// The connection that campaigns; opened again when it is lost.
    campaigner: Mutex<Option<PgConnection>>,
}

/// See the [module](crate::store::postgres).
#[derive(Debug)]
pub struct PostgresStore {
    address: Address,
    /// The generation under which this store leads. Commits are refused under any other.
    generation: i64,
    lease: Duration,
    /// How the writing connection is opened (again).
    writing: PgConnectOptions,
    /// The writing connection. Taken out for each commit and put back after it: when a commit is
    /// abandoned half-way or its outcome is unknown, the connection is gone, and the next commit
    /// opens another.
    writer: Mutex<Option<PgConnection>>,
    /// Commits tried.
    commits: AtomicU64,
    /// The connection that renews the lease, which must not wait behind a commit: neither for this
    /// connection nor for a row.
    keeper: Mutex<Option<PgConnection>>,
    /// For the service's reads.
    reads: Pool,
    /// For people's SQL.
    queries: query::Queries,
}

impl PostgresStore {
    /// The database, without its password.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The generation of this leader: 1 for the first one of the database.
    #[must_use]
    pub fn generation(&self) -> i64 {
        self.generation
    }
}

impl Store for PostgresStore {
    fn commit<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, (), CommitError> {
        Box::pin(commit::commit(self, writes))
    }

    fn load(&self) -> Answer<'_, Snapshot, LoadError> {
        Box::pin(commit::load(self))
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
        Box::pin(self.queries.run(sql, limit))
    }
}
