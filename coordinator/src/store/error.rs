//! What can go wrong with a store, by what a caller does about it.

use std::path::PathBuf;

use deptune_sweep::id::{Epoch, SweepId, TrialId};
use deptune_sweep::record::SubmissionError;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another coordinator has it.
    #[error(
        "{path} is in use by the coordinator {holder}; use that one (point clients at its \
         address), or stop it first, or choose another database"
    )]
    InUse {
        /// The database.
        path: PathBuf,
        /// Process, host and address of the other one, in words.
        holder: String,
    },
    /// The file lies on a network file system, where SQLite's locks and shared memory do not hold.
    #[error(
        "{path} lies on {kind}, where SQLite can lose data; put the database on a local disk of \
         the coordinator's machine"
    )]
    NetworkDisk {
        /// The database.
        path: PathBuf,
        /// The file system, e.g. `NFS`.
        kind: &'static str,
    },
    /// The file was written by a later version of deptune.
    #[error(
        "{database} was written by a later version of deptune (schema {found}, this one knows \
         {known}); use that version"
    )]
    Newer {
        /// The database.
        database: String,
        /// Its schema version.
        found: i64,
        /// The latest schema version of this build.
        known: i64,
    },
    /// The file is a database of something else.
    #[error("{database} is a database, but not one of deptune's; choose another one")]
    Foreign {
        /// The database.
        database: String,
    },
    /// The file is not a database, or is damaged.
    #[error("{path} is not a database or is damaged ({detail}); restore it from a backup")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file system refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The schema could not be brought up to date.
    #[error("cannot bring the schema of {database} up to date")]
    Migrate {
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
    /// The address of the database cannot be used.
    #[error("the address of the database is not usable: {why}")]
    Address {
        /// Why not; without the address, which may hold a password.
        why: String,
    },
    /// The database refused, or cannot be reached.
    #[error("cannot {what} {database}")]
    Sql {
        /// What was tried.
        what: &'static str,
        /// The database.
        database: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
}

/// Why a coordinator does not know who leads.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} in {database}")]
pub struct LeadError {
    /// What was tried.
    pub what: &'static str,
    /// The database.
    pub database: String,
    /// Why not.
    #[source]
    pub source: sqlx::Error,
}

/// Why a commit did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A write about a trial came from a lease that is no longer the trial's, or the trial has its
    /// outcome already. Nothing was written.
    #[error("trial {trial} has moved on: epoch {epoch} may not write {what}")]
    Fenced {
        /// The trial.
        trial: TrialId,
        /// Epoch of the refused write.
        epoch: Epoch,
        /// What was to be written.
        what: &'static str,
    },
    /// Another coordinator has opened the store since. Nothing was written, and this coordinator
    /// must end.
    #[error("another coordinator has taken over the store (generation {current}, ours {ours})")]
    Deposed {
        /// Generation of this coordinator.
        ours: i64,
        /// Generation in the store.
        current: i64,
    },
    /// A submission cannot be read, so the sweep cannot be stored. Nothing was written.
    #[error("the submission of sweep {sweep} cannot be read")]
    Submission {
        /// The sweep.
        sweep: SweepId,
        /// Why.
        #[source]
        source: SubmissionError,
    },
    /// Something outside holds the database's write lock. Nothing was written; trying again may
    /// help.
    #[error("the database is locked by another process")]
    Busy(#[source] sqlx::Error),
    /// The disk is full. Nothing was written.
    #[error("the disk is full")]
    Full(#[source] sqlx::Error),
    /// The commit itself failed, so that only reading the store tells whether it happened.
    #[error("it is unknown whether the commit took place")]
    Unknown(#[source] sqlx::Error),
    /// A write was refused. Nothing was written.
    #[error("cannot write {what}")]
    Other {
        /// What was to be written.
        what: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// A write contradicts what the store holds. Nothing was written.
    #[error("cannot write {what}: {why}")]
    Inconsistent {
        /// What was to be written.
        what: &'static str,
        /// What it contradicts.
        why: String,
    },
}

/// Why the store could not be loaded.
#[derive(Debug, thiserror::Error)]
#[error("cannot load {what} from the store")]
pub struct LoadError {
    /// What was read.
    pub what: &'static str,
    /// Why not.
    #[source]
    pub source: sqlx::Error,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {what} from the store")]
pub struct ReadError {
    /// What was read.
    pub what: &'static str,
    /// Why not.
    #[source]
    pub source: sqlx::Error,
}

/// Why a person's SQL was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// There is no statement in it.
    #[error("there is no SQL statement in the text")]
    Empty,
    /// It is no read.
    #[error(
        "only reading statements are run (SELECT, WITH, VALUES, EXPLAIN); this one begins with \
         {found}"
    )]
    NotARead {
        /// The first word.
        found: String,
    },
    /// There is a second statement.
    #[error("one statement at a time: there is another one after the first semicolon")]
    SecondStatement,
    /// It has parameters, and nobody gives them values.
    #[error("the SQL has parameters (?, :name, @name or $name); write the values instead")]
    Parameter,
    /// A comment, string or quoted name does not end.
    #[error("the SQL ends within {what}")]
    Unterminated {
        /// What does not end.
        what: &'static str,
    },
    /// A value is too large to be answered.
    #[error(
        "a value has more than {limit} bytes, which is all that it may have in a row of as many \
         columns; ask for less, as in substr(VALUE, 1, 1000)"
    )]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It took too long.
    #[error("the statement was stopped after {seconds} seconds")]
    Timeout {
        /// The limit.
        seconds: u64,
    },
    /// The database refused it; the source says why.
    #[error("the database refused the statement")]
    Refused(#[source] sqlx::Error),
    /// The store could not be read.
    #[error("cannot run the statement")]
    Unavailable(#[source] sqlx::Error),
    /// This store has no SQL.
    #[error("this store keeps everything in memory and has no SQL")]
    NoSql,
}
