//! How many bytes the files take together, and how many they may.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kind::Kind;

/// Counts only where there is a limit. What trials have made is counted and never refused: work
/// that is done is not lost to a quota.
#[derive(Debug, Clone, Default)]
pub(super) struct Quota(Option<Arc<Counted>>);

#[derive(Debug)]
struct Counted {
    most: u64,
    used: AtomicU64,
}

/// Bytes of a file that is on its way in; given back when dropped, unless the file stays.
#[derive(Debug)]
pub(super) struct Reserved {
    quota: Quota,
    bytes: u64,
}

/// More than may be taken: bytes in use, and the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Exceeded {
    pub(super) used: u64,
    pub(super) most: u64,
}

impl Quota {
    /// Counts what lies in `root`, in directories named by two characters.
    pub(super) fn open(root: &Path, most: Option<u64>) -> io::Result<Quota> {
        let Some(most) = most else { return Ok(Quota(None)) };
        let mut used = 0;
        for shard in fs::read_dir(root)? {
            let shard = shard?;
            if shard.file_name().len() != 2 {
                continue;
            }
            for file in fs::read_dir(shard.path())? {
                match file.and_then(|file| file.metadata()) {
                    Ok(found) => used += found.len(),
                    // Another coordinator removed it meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Quota(Some(Arc::new(Counted { most, used: AtomicU64::new(used) }))))
    }

    /// Takes room for a file.
    pub(super) fn reserve(&self, bytes: u64, kind: Kind) -> Result<Reserved, Exceeded> {
        if let Some(counted) = &self.0 {
            let bound = match kind {
                Kind::Data | Kind::Model => counted.most,
                Kind::Checkpoint | Kind::Adapter | Kind::Predictions => u64::MAX,
            };
            let more = |used: u64| Some(used.saturating_add(bytes)).filter(|sum| *sum <= bound);
            counted
                .used
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                .map_err(|used| Exceeded { used, most: counted.most })?;
        }
        Ok(Reserved { quota: self.clone(), bytes })
    }

    /// A file has gone.
    pub(super) fn give_back(&self, bytes: u64) {
        if let Some(counted) = &self.0 {
            let less = |used: u64| Some(used.saturating_sub(bytes));
            let _ = counted.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

impl Reserved {
    /// The file stays.
    pub(super) fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.quota.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::Artifacts;
    use super::super::{Error, Kind};
    use deptune_sweep::id::ArtifactHash;

    async fn put(artifacts: &Artifacts, content: &[u8], kind: Kind) -> Result<bool, Error> {
        let (hash, size) = (ArtifactHash::of(content), content.len() as u64);
        let mut upload = artifacts.upload(hash, size, kind).await?;
        upload.write(content).await?;
        upload.finish().await
    }

    #[tokio::test]
    async fn what_people_send_stays_within_the_quota_and_what_trials_make_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(home.path(), Some(10)).unwrap();
        put(&artifacts, b"sixsix", Kind::Data).await.unwrap();
        let refused = put(&artifacts, b"fivef", Kind::Model).await;
        let Err(Error::Quota { used: 6, limit: 10, wanted: 5 }) = refused else {
            panic!("{refused:?}");
        };
        assert!(put(&artifacts, b"sixsix", Kind::Data).await.unwrap(), "it is here already");
        // An upload that breaks off takes nothing, so that another one finds room.
        drop(artifacts.upload(ArtifactHash::of(b"four"), 4, Kind::Data).await.unwrap());
        drop(artifacts.upload(ArtifactHash::of(b"four"), 4, Kind::Data).await.unwrap());
        put(&artifacts, b"an adapter", Kind::Adapter).await.unwrap();
        // Counted anew by the next coordinator.
        let artifacts = Artifacts::open(home.path(), Some(17)).unwrap();
        assert!(matches!(
            put(&artifacts, b"xx", Kind::Data).await,
            Err(Error::Quota { used: 16, limit: 17, wanted: 2 })
        ));
        let leaving = artifacts.leaving(&ArtifactHash::of(b"an adapter")).unwrap();
        artifacts.remove(leaving, None).await.unwrap();
        put(&artifacts, b"xx", Kind::Data).await.unwrap();
    }
}
