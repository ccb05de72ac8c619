//! Keeps the cache within a size: of its files, those that were used least recently go.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use deptune_sweep::id::ArtifactHash;

/// Files asked for within this time stay: the trainer that is to open them may just be starting.
const FRESH: Duration = Duration::from_secs(600);

/// When the files of a directory were used, told by files of the same names in another, since
/// several agents share them; and how many bytes they may take.
#[derive(Debug)]
pub(super) struct Bound {
    blobs: PathBuf,
    used: PathBuf,
    most: Option<u64>,
}

impl Bound {
    pub(super) fn new(dir: &Path, most: Option<u64>) -> Bound {
        Bound { blobs: dir.join("blobs"), used: dir.join("used"), most }
    }

    /// A file is about to be used. That this cannot be noted, on a full disk or in a cache that is
    /// only read, keeps nobody from using it.
    pub(super) fn mark(&self, hash: &ArtifactHash) {
        let mark = self.used.join(hash.as_str());
        let marked = fs::create_dir_all(&self.used)
            .and_then(|()| File::create(&mark))
            .and_then(|file| file.set_modified(SystemTime::now()));
        if let Err(error) = marked {
            tracing::debug!(%error, mark = %mark.display(), "the use of a file is not noted");
        }
    }

    /// Removes files until the rest is within the bound, or was used just now. One that a trainer
    /// has open stays readable for it.
    pub(super) fn tidy(&self, now: SystemTime) -> io::Result<()> {
        let Some(most) = self.most else { return Ok(()) };
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.parse::<ArtifactHash>().ok());
            // What is being fetched has another name.
            let (Some(_), Ok(found)) = (hash, entry.metadata()) else { continue };
            let mark = fs::metadata(self.used.join(&name)).and_then(|mark| mark.modified());
            files.push((mark.or_else(|_| found.modified())?, found.len(), name));
        }
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (used, size, name) in files {
            if total <= most || now.duration_since(used).unwrap_or_default() < FRESH {
                break;
            }
            remove(&self.blobs.join(&name))?;
            remove(&self.used.join(&name))?;
            total -= size;
            tracing::info!(file = %name.display(), size, "removed from the cache");
        }
        Ok(())
    }
}

/// Another agent may have been faster.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
