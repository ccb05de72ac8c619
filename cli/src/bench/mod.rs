//! Benchmarks of the coordinator: real processes, real gRPC, no training.
//!
//! ```text
//!   deptune bench dispatch (driver) ──spawns──► coordinator (one process)
//!            │                                      ▲ gRPC
//!            └──spawns──► worker, worker, … ────────┘
//! ```

pub(crate) mod coordinator;
pub(crate) mod dispatch;
pub(crate) mod floor;
pub(crate) mod growth;
pub(crate) mod machine;
pub(crate) mod rig;
pub(crate) mod work;
pub(crate) mod worker;

use std::io;

use crate::output::error::Error;

/// Where a benchmark's coordinator keeps its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Store {
    /// A SQLite file, synced with every commit
    Sqlite,
    /// The Postgres database that DATABASE_URL names, which the benchmark fills
    Postgres,
    /// Nowhere: what everything but the database costs
    Memory,
}

impl Store {
    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Store::Sqlite => "sqlite",
            Store::Postgres => "postgres",
            Store::Memory => "memory",
        }
    }
}

/// For `map_err`: which part of a benchmark failed.
pub(crate) fn broken<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
    task: &'static str,
) -> impl FnOnce(E) -> Error {
    move |source| Error::Task { task, source: source.into() }
}

/// A part of a benchmark that said something else than it should.
fn unexpected(task: &'static str, what: impl Into<String>) -> Error {
    broken(task)(io::Error::other(what.into()))
}
