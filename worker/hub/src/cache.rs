//! The standard hub cache: where files are, and how they get their names.
//!
//! ```text
//! models--ORG--NAME/refs/REVISION          the commit, as text
//! models--ORG--NAME/blobs/HASH             contents; HASH.incomplete while they arrive
//! models--ORG--NAME/snapshots/COMMIT/PATH  links to contents
//! .locks/models--ORG--NAME/HASH.lock       held by whoever fetches
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use deptune_sweep::hub::is_commit;
use hf_hub::RepoType;

use crate::hash::ContentHash;
use crate::{Error, Watch};

/// Time between two looks at a lock that another process holds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A repository.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    kind: RepoType,
    /// `ORG/NAME`.
    pub(crate) name: String,
}

impl Repo {
    pub(crate) fn model(name: &str) -> Repo {
        Repo { kind: RepoType::Model, name: name.to_owned() }
    }

    pub(crate) fn dataset(name: &str) -> Repo {
        Repo { kind: RepoType::Dataset, name: name.to_owned() }
    }

    /// For messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self.kind {
            RepoType::Dataset => "dataset",
            RepoType::Model | RepoType::Space => "model",
        }
    }

    /// As hf-hub names it.
    pub(crate) fn at(&self, revision: &str) -> hf_hub::Repo {
        hf_hub::Repo::with_revision(self.name.clone(), self.kind, revision.to_owned())
    }
}

/// What tells a file from the same file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp([i64; 4], u64, u64);

impl Stamp {
    pub(crate) fn of(path: &Path) -> io::Result<Stamp> {
        let meta = fs::metadata(path)?;
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        Ok(Stamp(times, meta.ino(), meta.size()))
    }
}

/// The cache's directory.
#[derive(Debug)]
pub(crate) struct Cache(hf_hub::Cache);

impl Cache {
    pub(crate) fn new(dir: &Path) -> Cache {
        Cache(hf_hub::Cache::new(dir.to_owned()))
    }

    pub(crate) fn dir(&self) -> &Path {
        self.0.path()
    }

    fn repo_dir(&self, repo: &Repo) -> PathBuf {
        self.dir().join(repo.at("").folder_name())
    }

    /// The directory of a commit's files.
    pub(crate) fn snapshot(&self, repo: &Repo, commit: &str) -> PathBuf {
        self.0.repo(repo.at(commit)).pointer_path(commit)
    }

    /// A file of a commit, if it is here.
    pub(crate) fn file(&self, repo: &Repo, commit: &str, path: &str) -> Option<PathBuf> {
        Some(self.snapshot(repo, commit).join(path)).filter(|file| file.is_file())
    }

    /// Where a content is, or will be.
    pub(crate) fn blob(&self, repo: &Repo, hash: &ContentHash) -> PathBuf {
        self.0.repo(repo.at("")).blob_path(hash.as_str())
    }

    /// The commit that a revision was when it was last fetched.
    pub(crate) fn commit(&self, repo: &Repo, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.repo_dir(repo).join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes which commit a revision is.
    pub(crate) fn set_commit(
        &self,
        repo: &Repo,
        revision: &str,
        commit: &str,
    ) -> Result<(), Error> {
        if revision == commit || self.commit(repo, revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.repo_dir(repo).join("refs").join(revision);
        let dir = path.parent().unwrap_or(&path);
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let temporary =
            tempfile::NamedTempFile::new_in(dir).map_err(Error::io("write into", dir))?;
        fs::write(temporary.path(), commit).map_err(Error::io("write", &path))?;
        temporary.persist(&path).map_err(|error| Error::io("create", &path)(error.error))?;
        Ok(())
    }

    /// Gives a content its name in a commit.
    pub(crate) fn link(
        &self,
        repo: &Repo,
        commit: &str,
        path: &str,
        hash: &ContentHash,
    ) -> Result<PathBuf, Error> {
        let link = self.snapshot(repo, commit).join(path);
        // From `snapshots/COMMIT/PATH` up to the repository's directory.
        let ups = "../".repeat(path.split('/').count() + 1);
        let target = PathBuf::from(format!("{ups}blobs/{}", hash.as_str()));
        if fs::read_link(&link).is_ok_and(|known| known == target) {
            return Ok(link);
        }
        let dir = link.parent().unwrap_or(&link);
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        // Replaced in one step: another process may be reading it.
        let temporary = tempfile::Builder::new().prefix(".link-").tempdir_in(dir);
        let temporary = temporary.map_err(Error::io("write into", dir))?;
        let new = temporary.path().join("link");
        match symlink(&target, &new) {
            // A file system without symbolic links.
            Err(error) if is_unsupported(&error) => {
                let blob = self.blob(repo, hash);
                fs::hard_link(&blob, &new).map_err(Error::io("link", &blob))?;
            }
            made => made.map_err(Error::io("create", &link))?,
        }
        fs::rename(&new, &link).map_err(Error::io("create", &link))?;
        Ok(link)
    }

    /// Waits for the right to fetch a content. `None` where the file system has no locks.
    pub(crate) fn lock(
        &self,
        repo: &Repo,
        hash: &ContentHash,
        watch: &dyn Watch,
    ) -> Result<Option<File>, Error> {
        let dir = self.dir().join(".locks").join(repo.at("").folder_name());
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        let path = dir.join(format!("{}.lock", hash.as_str()));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) if watch.is_cancelled() => {
                    return Err(Error::Cancelled);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_EVERY),
                Err(TryLockError::Error(error)) if is_unsupported(&error) => {
                    tracing::warn!(
                        path = %path.display(),
                        "the hub cache's file system has no locks; processes may fetch a file twice"
                    );
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
    }
}

/// Whether the file system lacks an operation: `EPERM`, `ENOLCK`, `ENOSYS`, `EOPNOTSUPP`.
fn is_unsupported(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Unsupported
        || matches!(error.raw_os_error(), Some(1 | 37 | 38 | 95))
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "a9723ea7f1b39c1eae772870f3b547bf6ef7e6c1";

    #[test]
    fn the_layout_is_the_standard_one() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        let repo = Repo::dataset("org/name");
        let hash = ContentHash::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        let blob = cache.blob(&repo, &hash);
        assert_eq!(blob, dir.path().join("datasets--org--name/blobs").join(hash.as_str()));
        fs::create_dir_all(blob.parent().unwrap()).unwrap();
        fs::write(&blob, "hello\n").unwrap();
        let link = cache.link(&repo, COMMIT, "rte/train/0.parquet", &hash).unwrap();
        assert_eq!(fs::read_to_string(&link).unwrap(), "hello\n");
        assert!(fs::read_link(&link).unwrap().starts_with("../../../../blobs"));
        assert_eq!(cache.file(&repo, COMMIT, "rte/train/0.parquet"), Some(link));
        cache.set_commit(&repo, "refs/convert/parquet", COMMIT).unwrap();
        assert_eq!(cache.commit(&repo, "refs/convert/parquet").as_deref(), Some(COMMIT));
        let text =
            fs::read_to_string(dir.path().join("datasets--org--name/refs/refs/convert/parquet"));
        assert_eq!(text.unwrap(), COMMIT);
        assert_eq!(cache.commit(&repo, "main"), None);
    }
}
