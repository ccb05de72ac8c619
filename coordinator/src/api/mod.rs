//! What the coordinator does for its callers, in the domain's words. The gRPC handlers only
//! authenticate, convert and map; whatever else speaks to people later does the same.

mod artifact;
mod control;
mod error;
mod page;
mod query;
mod submit;
mod sweep;
mod watch;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::artifact::{Artifacts, Logs, Retention};
use crate::runtime::Handle;
use crate::store::Store;

pub use crate::store::{
    AttemptRow, EvaluationRow, LeaderboardRow, QueryError, QueryRows, SqlValue, SweepFilter,
    SweepSummary, TrialRow,
};
pub(crate) use artifact::LogPiece;
pub use error::{Error, MissingFile};
pub(crate) use query::Turns;
pub(crate) use watch::News;

/// Everything a request may need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) handle: Handle,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) artifacts: Artifacts,
    pub(crate) logs: Logs,
    pub(crate) retention: Retention,
    /// How long an exchange with nothing to report waits for trials.
    pub(crate) patience: Duration,
    /// Milliseconds for which a lease lives without a heartbeat.
    pub(crate) lease_ttl: u64,
    /// Where the results are, for people.
    pub(crate) database: Arc<str>,
    /// Bounds how many answers to people's SQL are in memory.
    pub(crate) turns: Turns,
    /// How long such an answer waits to be read on.
    pub(crate) unread: Duration,
    /// Ends streams when the coordinator does.
    pub(crate) stop: CancellationToken,
    /// The tasks that feed streams, so that the coordinator's end can wait for theirs.
    pub(crate) feeders: TaskTracker,
}

/// Some rows, and the token of the page after them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Paged<T> {
    pub(crate) items: Vec<T>,
    /// Empty after the last page.
    pub(crate) next: String,
}
