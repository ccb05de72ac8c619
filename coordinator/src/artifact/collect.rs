//! Removing what nothing needs any more: checkpoints from before a restart, files that no sweep
//! came for, what deleted sweeps left.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use deptune_sweep::id::{ArtifactHash, SweepId};
use tokio_util::sync::CancellationToken;

use super::log::Logs;
use super::store::Artifacts;
use crate::store::{CommitError, ReadError, Store};

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
    /// The store is another coordinator's by now, or does not answer.
    #[error("this coordinator may not remove anything")]
    Fenced(#[from] CommitError),
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
                // Somebody may claim it from here on, and name it in the store after that.
                let Some(leaving) = self.artifacts.leaving(&hash) else { continue };
                if predictions.contains(&hash) || self.store.is_artifact_referenced(&hash).await? {
                    continue;
                }
                self.fence().await?;
                if self.artifacts.remove(leaving, Some(before)).await? {
                    collected.files += 1;
                    collected.bytes += size;
                }
            }
        }
        for sweep in self.logs.unused_since(before).await? {
            // A log is only written for an attempt that is in the store already.
            if self.store.spec(SweepId(sweep)).await?.is_none() {
                self.fence().await?;
                self.logs.remove(sweep).await?;
                collected.logs += 1;
            }
        }
        Ok(collected)
    }

    /// Whether the store is still this coordinator's: by an empty commit, which is refused when
    /// another one has taken over. What that one was given it has claimed since; so a file that was
    /// looked at before and is old by now is nobody's.
    async fn fence(&self) -> Result<(), CommitError> {
        self.store.commit(&[]).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::log::LogKey;
    use super::super::{Kind, Logs};
    use super::*;
    use crate::store::{MemoryDatabase, MemoryStore};
    use deptune_sweep::id::{Epoch, TrialId};

    const HOUR: Duration = Duration::from_secs(3600);

    fn collector(home: &Path, database: &MemoryDatabase) -> Collector {
        Collector {
            store: Arc::new(MemoryStore::open(database)),
            artifacts: Artifacts::open(home, None).unwrap(),
            logs: Logs::new(home, 0),
            grace: HOUR,
        }
    }

    async fn file(artifacts: &Artifacts, content: &[u8]) -> ArtifactHash {
        let (hash, size) = (ArtifactHash::of(content), content.len() as u64);
        let mut upload = artifacts.upload(hash.clone(), size, Kind::Data).await.unwrap();
        upload.write(content).await.unwrap();
        upload.finish().await.unwrap();
        hash
    }

    fn age(path: &Path) {
        let file = std::fs::File::open(path).unwrap();
        file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
    }

    #[tokio::test]
    async fn only_what_is_old_goes() {
        let home = tempfile::tempdir().unwrap();
        let collector = collector(home.path(), &MemoryDatabase::default());
        let (old, new) =
            (file(&collector.artifacts, b"old").await, file(&collector.artifacts, b"new").await);
        age(&collector.artifacts.path(&old));
        for sweep in [7, 8, 9] {
            let trial = TrialId { sweep: SweepId(sweep), index: 0 };
            let key = LogKey { trial, epoch: Epoch(1) };
            collector.logs.append(key, 0, b"said").await.unwrap();
        }
        let logs = |sweep: u64| home.path().join(format!("logs/{sweep}"));
        // Of the second the directory is old, of the third the file as well.
        for path in [logs(8), logs(9), logs(9).join("0-1.log")] {
            age(&path);
        }
        let collected = collector.collect().await.unwrap();
        assert_eq!(collected, Collected { files: 1, bytes: 3, logs: 1 });
        assert_eq!(collector.artifacts.size(&old).unwrap(), None);
        assert_eq!(collector.artifacts.size(&new).unwrap(), Some(3));
        assert_eq!([7, 8, 9].map(|sweep| logs(sweep).exists()), [true, true, false]);
    }

    #[tokio::test]
    async fn a_coordinator_that_was_replaced_removes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let database = MemoryDatabase::default();
        let collector = collector(home.path(), &database);
        let old = file(&collector.artifacts, b"old").await;
        age(&collector.artifacts.path(&old));
        let log = home.path().join("logs/9");
        std::fs::create_dir_all(&log).unwrap();
        age(&log);
        let _next = MemoryStore::open(&database);
        assert!(collector.collect().await.is_err());
        assert_eq!(collector.artifacts.size(&old).unwrap(), Some(3));
        std::fs::remove_file(collector.artifacts.path(&old)).unwrap();
        assert!(collector.collect().await.is_err());
        assert!(log.exists());
    }
}
