//! Removing what nothing needs any more: checkpoints from before a restart, files that no sweep
//! came for, what deleted sweeps left.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deptune_sweep::id::{ArtifactHash, SweepId};
use tokio_util::sync::CancellationToken;

use super::log::Logs;
use super::store::Artifacts;
use crate::store::{ReadError, Store};

/// Time between two collections.
const EVERY: Duration = Duration::from_secs(3600);
/// Files looked at in one go, so that others get their turn.
const STRIDE: usize = 256;

/// Why a collection broke off. The next one tries again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CollectError {
    /// The store could not be read.
    #[error("the store could not be read")]
    Read(#[from] ReadError),
    /// The file system refused.
    #[error(transparent)]
    Files(#[from] super::Error),
}

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Artifacts.
    pub(crate) files: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Log directories of sweeps that are not there any more.
    pub(crate) logs: u64,
}

/// Collects now and then.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) artifacts: Artifacts,
    pub(crate) logs: Logs,
    /// Files that somebody sent or asked for within this time stay, whatever the store says: their
    /// sweep may be on its way.
    pub(crate) grace: Duration,
}

impl Collector {
    /// Collects at once and then every hour, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        loop {
            match stop.run_until_cancelled(self.collect()).await {
                None => return,
                Some(Ok(collected)) if collected == Collected::default() => {}
                Some(Ok(Collected { files, bytes, logs })) => {
                    tracing::info!(files, bytes, logs, "removed what nothing needs any more");
                }
                Some(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "cannot look for files that nothing needs any more");
                }
            }
            if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
                return;
            }
        }
    }

    /// Removes what nothing needs any more.
    pub(crate) async fn collect(&self) -> Result<Collected, CollectError> {
        let mut collected = Collected::default();
        let before = SystemTime::now().checked_sub(self.grace).unwrap_or(SystemTime::UNIX_EPOCH);
        let predictions = self.store.predictions().await?;
        for shard in self.artifacts.shards().await? {
            let old: Vec<(ArtifactHash, u64)> = self.artifacts.unused_since(&shard, before).await?;
            for (at, (hash, size)) in old.into_iter().enumerate() {
                if at % STRIDE == 0 {
                    tokio::task::yield_now().await;
                }
                if predictions.contains(&hash) || self.store.is_artifact_referenced(&hash).await? {
                    continue;
                }
                self.artifacts.remove(&hash).await?;
                collected.files += 1;
                collected.bytes += size;
            }
        }
        for sweep in self.logs.sweeps().await? {
            // A log is only written for an attempt that is in the store already.
            if self.store.spec(SweepId(sweep)).await?.is_none() {
                self.logs.remove(sweep).await?;
                collected.logs += 1;
            }
        }
        Ok(collected)
    }
}
