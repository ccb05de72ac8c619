//! The files.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use deptune_sweep::id::ArtifactHash;
use tokio::fs::{self, File};

use super::claim::{Claims, Held, Leaving};
use super::error::Error;
use super::kind::Kind;
use super::quota::{Exceeded, Quota, Reserved};
use super::space::{self, RESERVE};
use super::upload::Upload;

/// Files by the hash of their content. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Artifacts {
    root: PathBuf,
    claims: Claims,
    quota: Quota,
}

impl Artifacts {
    /// Opens the directory, makes it if need be, and removes uploads that an earlier run left
    /// unfinished. `most` bounds the bytes of all files, as far as people send them.
    pub(crate) fn open(data_dir: &Path, most: Option<u64>) -> Result<Artifacts, Error> {
        let root = data_dir.join("artifacts");
        let (claims, quota) = (Claims::default(), Quota::default());
        let mut artifacts = Artifacts { root, claims, quota };
        let incoming = artifacts.incoming();
        match std::fs::remove_dir_all(&incoming) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("empty", incoming)(error));
            }
            _ => {}
        }
        std::fs::create_dir_all(&incoming).map_err(Error::io("create", &incoming))?;
        artifacts.quota =
            Quota::open(&artifacts.root, most).map_err(Error::io("list", &artifacts.root))?;
        Ok(artifacts)
    }

    /// Where unfinished uploads lie.
    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// Where the file with this hash lies. The hash is hexadecimal, so that the path stays within
    /// the directory.
    pub(super) fn path(&self, hash: &ArtifactHash) -> PathBuf {
        let (head, tail) = hash.as_str().split_at(2);
        self.root.join(head).join(tail)
    }

    /// Bytes of the file with this hash, if it is here.
    pub(crate) fn size(&self, hash: &ArtifactHash) -> Result<Option<u64>, Error> {
        let path = self.path(hash);
        // Not handed to another thread, which takes longer than the answer.
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look for", path)(error)),
        }
    }

    /// The same, and keeps the file from being collected for a while: its sweep may be on its way.
    pub(crate) fn claim(&self, hash: &ArtifactHash) -> Result<Option<u64>, Error> {
        Ok(self.hold(hash)?.map(|held| held.size))
    }

    /// The same, and keeps the file from being removed at all for as long as the claim is held.
    pub(crate) fn hold(&self, hash: &ArtifactHash) -> Result<Option<Held>, Error> {
        let mut state = self.claims.lock();
        let size = self.size(hash)?;
        if size.is_some() {
            let path = self.path(hash);
            let touched = std::fs::File::options()
                .append(true)
                .open(&path)
                .and_then(|file| file.set_modified(SystemTime::now()));
            touched.map_err(Error::io("touch", path))?;
            state.want(hash);
        }
        Ok(size.map(|size| Held::new(&self.claims, &mut state, hash, size)))
    }

    /// Begins to remove a file: to be asked before it is known that nothing needs it. `None`:
    /// somebody holds it.
    pub(crate) fn leaving(&self, hash: &ArtifactHash) -> Option<Leaving> {
        Leaving::begin(&self.claims, hash)
    }

    /// The directories that hold files.
    pub(super) async fn shards(&self) -> Result<Vec<PathBuf>, Error> {
        let root = self.root.clone();
        blocking(move || {
            let listed = std::fs::read_dir(&root).map_err(Error::io("list", &root))?;
            let shards = listed.filter_map(|entry| Some(entry.ok()?.path()));
            let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 2);
            Ok(shards.filter(named).collect())
        })
        .await
    }

    /// Files of a directory that nobody has sent or asked for since `before`, with their sizes.
    pub(super) async fn unused_since(
        &self,
        shard: &Path,
        before: SystemTime,
    ) -> Result<Vec<(ArtifactHash, u64)>, Error> {
        let shard = shard.to_owned();
        blocking(move || {
            let head = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let listed = std::fs::read_dir(&shard).map_err(Error::io("list", &shard))?;
            let mut found = Vec::new();
            for entry in listed {
                let entry = entry.map_err(Error::io("list", &shard))?;
                let name = format!("{head}{}", entry.file_name().to_string_lossy());
                let Ok(hash) = name.parse() else { continue };
                let Ok(metadata) = entry.metadata() else { continue };
                if metadata.modified().is_ok_and(|modified| modified < before) {
                    found.push((hash, metadata.len()));
                }
            }
            Ok(found)
        })
        .await
    }

    /// Opens a file for reading, with its size.
    pub(crate) async fn read(&self, hash: &ArtifactHash) -> Result<(File, u64), Error> {
        let path = self.path(hash);
        match File::open(&path).await {
            Ok(file) => {
                let metadata = file.metadata().await.map_err(Error::io("read", &path))?;
                Ok((file, metadata.len()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Unknown(hash.clone())),
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    /// Removes a file that nothing needs, unless somebody has asked for it since `leaving` began
    /// or, where that is given, since `before`: by another coordinator, perhaps. One that is not
    /// there is no error. Returns whether it is gone now.
    pub(crate) async fn remove(
        &self,
        leaving: Leaving,
        before: Option<SystemTime>,
    ) -> Result<bool, Error> {
        let path = self.path(&leaving.hash);
        let aside = self.incoming().join(format!("leaving-{}", leaving.hash));
        let size = std::fs::metadata(&path).map_or(0, |found| found.len());
        let gone = leaving.finish(|| {
            if let Some(before) = before {
                let modified = std::fs::metadata(&path).and_then(|found| found.modified());
                if modified.is_ok_and(|modified| modified >= before) {
                    return Ok(false);
                }
            }
            // Only the name here, because claims wait; a large file takes its time.
            match std::fs::rename(&path, &aside) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(Error::io("remove", path)(error))
                }
                _ => Ok(true),
            }
        })?;
        if gone {
            self.quota.give_back(size);
            match fs::remove_file(&aside).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Error::io("remove", aside)(error));
                }
                _ => {}
            }
        }
        Ok(gone)
    }

    /// Begins to receive a file.
    pub(crate) async fn upload(
        &self,
        hash: ArtifactHash,
        size: u64,
        kind: Kind,
    ) -> Result<Upload, Error> {
        let limit = kind.limit();
        if size > limit {
            return Err(Error::TooLarge { kind, size, limit });
        }
        self.check_space(size)?;
        Upload::begin(self.clone(), hash, size, kind).await
    }

    /// Takes room for a file that is not here.
    pub(super) fn reserve(&self, size: u64, kind: Kind) -> Result<Reserved, Error> {
        self.quota.reserve(size, kind).map_err(|Exceeded { used, most }| Error::Quota {
            used,
            limit: most,
            wanted: size,
        })
    }

    fn check_space(&self, size: u64) -> Result<(), Error> {
        let available = space::available(&self.root)?;
        let wanted = size.saturating_add(RESERVE);
        if available < wanted {
            return Err(Error::NoSpace { available, wanted, directory: self.root.clone() });
        }
        Ok(())
    }
}

/// Does what waits for the disk on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::Io {
        what: "look through",
        path: PathBuf::new(),
        source: std::io::Error::other(error),
    })?
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stored(home: &Path, content: &[u8]) -> (Artifacts, ArtifactHash) {
        let artifacts = Artifacts::open(home, None).unwrap();
        let hash = ArtifactHash::of(content);
        let path = artifacts.path(&hash);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        (artifacts, hash)
    }

    #[tokio::test]
    async fn a_file_that_is_held_does_not_leave() {
        let home = tempfile::tempdir().unwrap();
        let (artifacts, hash) = stored(home.path(), b"held");
        let held = [artifacts.hold(&hash).unwrap(), artifacts.hold(&hash).unwrap()];
        for one in held {
            assert!(artifacts.leaving(&hash).is_none());
            drop(one);
        }
        let leaving = artifacts.leaving(&hash).unwrap();
        assert!(artifacts.remove(leaving, None).await.unwrap());
        assert_eq!(artifacts.size(&hash).unwrap(), None);
        assert_eq!(std::fs::read_dir(artifacts.incoming()).unwrap().count(), 0);
        assert!(artifacts.hold(&hash).unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_is_asked_for_while_it_leaves_stays() {
        let home = tempfile::tempdir().unwrap();
        let (artifacts, hash) = stored(home.path(), b"wanted");
        let leaving = artifacts.leaving(&hash).unwrap();
        assert!(artifacts.leaving(&hash).is_none(), "it leaves once");
        assert_eq!(artifacts.claim(&hash).unwrap(), Some(6));
        assert!(!artifacts.remove(leaving, None).await.unwrap());
        assert_eq!(artifacts.size(&hash).unwrap(), Some(6));
    }

    #[tokio::test]
    async fn a_file_that_another_coordinator_claimed_stays() {
        let home = tempfile::tempdir().unwrap();
        let (artifacts, hash) = stored(home.path(), b"elsewhere");
        let before = SystemTime::now() + Duration::from_secs(1);
        let leaving = artifacts.leaving(&hash).unwrap();
        let other = Artifacts { claims: Claims::default(), ..artifacts.clone() };
        std::thread::sleep(Duration::from_millis(1100));
        other.claim(&hash).unwrap();
        assert!(!artifacts.remove(leaving, Some(before)).await.unwrap());
        assert_eq!(artifacts.size(&hash).unwrap(), Some(9));
    }
}
