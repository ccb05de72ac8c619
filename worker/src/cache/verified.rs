//! Hashes of files, computed once for as long as a file stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use deptune_sweep::id::ArtifactHash;

use crate::outbox::hash_file;

/// What tells a file from the same file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Stamp> {
        let meta = fs::metadata(path)?;
        Ok(Stamp {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

/// The hashes that are known.
#[derive(Debug, Default)]
pub(super) struct Verified {
    known: Mutex<BTreeMap<PathBuf, (Stamp, ArtifactHash)>>,
}

impl Verified {
    /// The hash of a file's content.
    pub(super) async fn hash(&self, path: &Path) -> io::Result<ArtifactHash> {
        let stamp = Stamp::of(path)?;
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_of, hash)) = known().get(path)
            && *as_of == stamp
        {
            return Ok(hash.clone());
        }
        let file = path.to_owned();
        let hash = tokio::task::spawn_blocking(move || hash_file(&file)).await;
        let hash = hash.map_err(io::Error::other)??;
        // Changed while it was read: then the hash is nobody's, and is not remembered.
        if Stamp::of(path)? == stamp {
            known().insert(path.to_owned(), (stamp, hash.clone()));
        }
        Ok(hash)
    }
}
