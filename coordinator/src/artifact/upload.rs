//! Receiving one file.

use std::path::Path;

use deptune_sweep::id::ArtifactHash;
use tokio::fs::{self, File};
use tokio::io::AsyncWriteExt;

use super::CHUNK;
use super::claim::Held;
use super::error::Error;
use super::kind::Kind;
use super::quota::Reserved;
use super::store::Artifacts;

/// A file on its way in. Dropped unfinished, it leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Upload {
    artifacts: Artifacts,
    hash: ArtifactHash,
    size: u64,
    received: u64,
    hasher: blake3::Hasher,
    target: Target,
}

/// Where the bytes go.
#[derive(Debug)]
enum Target {
    New(File, tempfile::TempPath, Reserved),
    /// The file was here before and stays until the end, so that only the sender's claim is checked.
    Here(#[expect(dead_code, reason = "held for its drop")] Held),
}

impl Upload {
    pub(super) async fn begin(
        artifacts: Artifacts,
        hash: ArtifactHash,
        size: u64,
        kind: Kind,
    ) -> Result<Upload, Error> {
        let target = if let Some(held) = artifacts.hold(&hash)? {
            Target::Here(held)
        } else {
            let reserved = artifacts.reserve(size, kind)?;
            let incoming = artifacts.incoming();
            let (file, path) = tempfile::NamedTempFile::new_in(&incoming)
                .map_err(Error::io("create a file in", &incoming))?
                .into_parts();
            Target::New(File::from_std(file), path, reserved)
        };
        let hasher = blake3::Hasher::new();
        Ok(Upload { artifacts, hash, size, received: 0, hasher, target })
    }

    /// Takes the next bytes.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        if chunk.len() > CHUNK {
            return Err(Error::ChunkTooLarge { size: chunk.len(), limit: CHUNK });
        }
        self.received = self.received.saturating_add(chunk.len() as u64);
        if self.received > self.size {
            return Err(Error::SizeMismatch { expected: self.size, found: self.received });
        }
        self.hasher.update(chunk);
        if let Target::New(file, path, _) = &mut self.target {
            file.write_all(chunk).await.map_err(Error::io("write", path.to_path_buf()))?;
        }
        Ok(())
    }

    /// Checks size and hash and makes the file durable under its name. Returns whether it was
    /// here before.
    pub(crate) async fn finish(self) -> Result<bool, Error> {
        if self.received != self.size {
            return Err(Error::SizeMismatch { expected: self.size, found: self.received });
        }
        let found = ArtifactHash::from_digest(self.hasher.finalize().as_bytes());
        if found != self.hash {
            return Err(Error::HashMismatch { expected: self.hash, found });
        }
        let Target::New(mut file, temporary, reserved) = self.target else { return Ok(true) };
        // tokio's file hands writes to another thread: flushed is not yet synced.
        file.flush().await.map_err(Error::io("write", temporary.to_path_buf()))?;
        file.sync_all().await.map_err(Error::io("sync", temporary.to_path_buf()))?;
        let path = self.artifacts.path(&self.hash);
        let parent = path.parent().unwrap_or(&path).to_path_buf();
        fs::create_dir_all(&parent).await.map_err(Error::io("create", &parent))?;
        // Another sender of the same file may have been faster.
        let is_new = !path.exists();
        temporary.persist(&path).map_err(|e| Error::io("name", &path)(e.error))?;
        if is_new {
            reserved.keep();
        }
        sync_directory(&parent).await?;
        // The directory itself may be new.
        sync_directory(parent.parent().unwrap_or(&parent)).await?;
        Ok(false)
    }
}

/// Makes new names within a directory durable.
async fn sync_directory(path: &Path) -> Result<(), Error> {
    let directory = File::open(path).await.map_err(Error::io("open", path))?;
    directory.sync_all().await.map_err(Error::io("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store() -> (tempfile::TempDir, Artifacts) {
        let directory = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(directory.path(), None).unwrap();
        (directory, artifacts)
    }

    fn unfinished(artifacts: &Artifacts) -> usize {
        std::fs::read_dir(artifacts.incoming()).unwrap().count()
    }

    #[tokio::test]
    async fn a_file_is_stored_once_and_read_back() {
        let (_directory, artifacts) = store().await;
        let hash = ArtifactHash::of(b"hello");
        for existed in [false, true] {
            let mut upload = artifacts.upload(hash.clone(), 5, Kind::Data).await.unwrap();
            upload.write(b"hel").await.unwrap();
            upload.write(b"lo").await.unwrap();
            assert_eq!(upload.finish().await.unwrap(), existed);
        }
        assert_eq!(artifacts.size(&hash).unwrap(), Some(5));
        assert_eq!(unfinished(&artifacts), 0);
        let leaving = artifacts.leaving(&hash).unwrap();
        assert!(artifacts.remove(leaving, None).await.unwrap());
        assert!(matches!(artifacts.read(&hash).await, Err(Error::Unknown(_))));
    }

    #[tokio::test]
    async fn other_content_than_announced_is_refused_and_leaves_nothing() {
        let (_directory, artifacts) = store().await;
        let hash = ArtifactHash::of(b"hello");
        let mut upload = artifacts.upload(hash.clone(), 5, Kind::Data).await.unwrap();
        upload.write(b"hallo").await.unwrap();
        assert!(matches!(upload.finish().await, Err(Error::HashMismatch { .. })));
        let mut upload = artifacts.upload(hash.clone(), 5, Kind::Data).await.unwrap();
        assert!(matches!(upload.write(b"hello!").await, Err(Error::SizeMismatch { .. })));
        drop(upload);
        let mut upload = artifacts.upload(hash.clone(), 5, Kind::Data).await.unwrap();
        upload.write(b"hell").await.unwrap();
        assert!(matches!(upload.finish().await, Err(Error::SizeMismatch { .. })));
        assert_eq!(artifacts.size(&hash).unwrap(), None);
        assert_eq!(unfinished(&artifacts), 0);
    }

    #[tokio::test]
    async fn the_kind_bounds_the_size() {
        let (_directory, artifacts) = store().await;
        let hash = ArtifactHash::of(b"");
        let size = Kind::Checkpoint.limit() + 1;
        let refused = artifacts.upload(hash.clone(), size, Kind::Checkpoint).await;
        assert!(matches!(refused, Err(Error::TooLarge { .. })));
        assert!(artifacts.upload(hash, u64::MAX, Kind::Model).await.is_err());
    }
}
