//! The files that the coordinators hold, by hash. Asked about for every trial again and again, so
//! each is known by a number.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

use deptune_sweep::id::ArtifactHash;

/// The first 64 bits of a file's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileKey(u64);

impl FileKey {
    pub(crate) fn of(hash: &ArtifactHash) -> FileKey {
        let head = hash.as_str().get(..16).unwrap_or_default();
        FileKey(u64::from_str_radix(head, 16).unwrap_or_default())
    }
}

/// A key is a hash already.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Which files are there.
#[derive(Debug, Default)]
pub(crate) struct Files(HashSet<FileKey, BuildHasherDefault<AsIs>>);

impl Files {
    pub(crate) fn insert(&mut self, hash: &ArtifactHash) {
        self.0.insert(FileKey::of(hash));
    }

    pub(crate) fn remove(&mut self, hash: &ArtifactHash) {
        self.0.remove(&FileKey::of(hash));
    }

    pub(crate) fn contains(&self, hash: &ArtifactHash) -> bool {
        self.has(FileKey::of(hash))
    }

    pub(crate) fn has(&self, key: FileKey) -> bool {
        self.0.contains(&key)
    }
}
