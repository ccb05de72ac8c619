//! Checkpoints that are too large for the coordinator.
//!
//! The file goes to a directory that the workers of a pool share, or, without one, stays in the
//! worker's own state directory; a small file that names it by hash and size goes to the
//! coordinator in its place.
//!
//! ```text
//! <dir>/T/HASH.safetensors     a checkpoint of trial T
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::id::{ArtifactHash, TrialId};
use deptune_sweep::record::LARGEST_STATE;
use serde::{Deserialize, Serialize};

use super::file::{hash_file, keep_file};

/// Version of the file that names another.
const FORMAT: u32 = 1;

/// Longest such file, in bytes.
const MAX_POINTER: u64 = 4096;

/// Names a file on a shelf.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Pointer {
    /// [`FORMAT`].
    deptune_state: u32,
    /// The trial.
    trial: String,
    /// Hash of the file's content.
    hash: ArtifactHash,
    /// Its bytes.
    size: u64,
    /// Where it is, for people.
    location: String,
}

/// Why a checkpoint cannot be taken from a shelf.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    /// It is elsewhere.
    #[error(
        "it lies in {location}, which this worker does not have; give all workers the same --artifact-dir"
    )]
    Elsewhere {
        /// Where its worker put it.
        location: String,
    },
    /// Its content is another.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The directory.
#[derive(Debug, Clone)]
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// A shelf in this directory, which is made when it is needed.
    pub(crate) fn new(dir: PathBuf) -> Shelf {
        Shelf { dir }
    }

    fn path(&self, trial: &str, hash: &ArtifactHash) -> PathBuf {
        self.dir.join(trial).join(format!("{hash}.safetensors"))
    }

    /// Puts a checkpoint there if it is too large for the coordinator, and returns where it is
    /// and the text that goes to the coordinator for it.
    ///
    /// # Errors
    /// When it cannot be read, or linked or copied.
    pub(crate) fn put(
        &self,
        trial: TrialId,
        from: &Path,
    ) -> io::Result<Option<(PathBuf, Vec<u8>)>> {
        let size = fs::metadata(from)?.len();
        if size <= LARGEST_STATE {
            return Ok(None);
        }
        let trial = trial.to_string();
        let dir = self.dir.join(&trial);
        fs::create_dir_all(&dir)?;
        let partial = dir.join(format!("partial-{}-{}", crate::host_name(), std::process::id()));
        let hash = keep_file(from, &partial)?;
        let path = self.path(&trial, &hash);
        fs::rename(&partial, &path)?;
        let location = self.dir.display().to_string();
        let pointer = Pointer { deptune_state: FORMAT, trial, hash, size, location };
        let text = serde_json::to_vec(&pointer).map_err(io::Error::other)?;
        Ok(Some((path, text)))
    }

    /// The checkpoint that a fetched file names; the file itself when it is one. Reads all of
    /// it.
    ///
    /// # Errors
    /// When it is not here, or not as it was.
    pub(crate) fn resolve(&self, fetched: PathBuf) -> Result<PathBuf, ShelfError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            move |source| ShelfError::Read { path, source }
        };
        if fs::metadata(&fetched).map_err(read(&fetched))?.len() > MAX_POINTER {
            return Ok(fetched);
        }
        let text = fs::read(&fetched).map_err(read(&fetched))?;
        let Ok(pointer) = serde_json::from_slice::<Pointer>(&text) else { return Ok(fetched) };
        // The name becomes a part of a path.
        let known = pointer.trial.parse::<TrialId>().is_ok() && pointer.deptune_state == FORMAT;
        let path = self.path(&pointer.trial, &pointer.hash);
        if !known || !path.is_file() {
            return Err(ShelfError::Elsewhere { location: pointer.location });
        }
        if hash_file(&path).map_err(read(&path))? != pointer.hash {
            return Err(ShelfError::Damaged { path });
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use deptune_sweep::id::SweepId;

    use super::*;

    #[test]
    fn a_large_checkpoint_stays_and_its_name_goes() {
        let dir = tempfile::tempdir().unwrap();
        let trial = TrialId { sweep: SweepId(3), index: 7 };
        let shelf = Shelf::new(dir.path().join("shelf"));
        let (small, large) = (dir.path().join("small"), dir.path().join("large"));
        fs::write(&small, b"small").unwrap();
        fs::write(&large, vec![7; usize::try_from(LARGEST_STATE).unwrap() + 1]).unwrap();
        assert_eq!(shelf.put(trial, &small).unwrap(), None);
        assert_eq!(shelf.resolve(small.clone()).unwrap(), small);

        let (path, text) = shelf.put(trial, &large).unwrap().unwrap();
        assert!(text.len() < 4096);
        let pointer = dir.path().join("pointer");
        fs::write(&pointer, &text).unwrap();
        assert_eq!(shelf.resolve(pointer.clone()).unwrap(), path);
        // Another worker without the directory.
        let other = Shelf::new(dir.path().join("other"));
        assert!(matches!(other.resolve(pointer.clone()), Err(ShelfError::Elsewhere { .. })));
        // A file that changed.
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"changed").unwrap();
        assert!(matches!(shelf.resolve(pointer), Err(ShelfError::Damaged { .. })));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let pointer = Pointer {
            deptune_state: FORMAT,
            trial: "../..".to_owned(),
            hash: ArtifactHash::of(b"x"),
            size: 1,
            location: "there".to_owned(),
        };
        let file = dir.path().join("pointer");
        fs::write(&file, serde_json::to_vec(&pointer).unwrap()).unwrap();
        let shelf = Shelf::new(dir.path().to_owned());
        assert!(matches!(shelf.resolve(file), Err(ShelfError::Elsewhere { .. })));
    }
}
