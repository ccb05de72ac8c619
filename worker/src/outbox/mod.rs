//! What survives the agent: its leases, finished reports, and the newest checkpoints, in a
//! directory that one agent holds at a time and a later one inherits.
//!
//! ```text
//! <state-dir>/lock                     held while an agent lives; says which
//!            /leases.json              the agent's id, slots and leases
//!            /outbox/report-T-E.json          a finished attempt of trial T, epoch E
//!            /outbox/adapter-T-E.safetensors  its adapter
//!            /outbox/checkpoint-T-E-S.json    a checkpoint at step S, with evaluations up to it
//!            /outbox/checkpoint-T-E-S.safetensors
//!            /attempts/T-E/            working directory of a child: log, scratch
//!            /artifacts/T/             checkpoints too large for the coordinator
//!            /set-aside/               what could not be read
//! ```
//! A file is complete or absent: written under another name, synced, renamed, and the directory
//! synced. The JSON file of an adapter or a checkpoint comes after the file that it names.

mod estate;
mod file;
mod record;
mod shelf;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use deptune_sweep::child::Evaluation;
use deptune_sweep::crash::{Point, point};
use deptune_sweep::scheduler::{LeaseKey, Report};

use crate::Error;
use crate::protocol::{Identity, Kept};

pub use estate::Inventory;
pub(crate) use file::hash_file;
use file::{keep_file, write_file};
use record::{CheckpointFile, LeasesFile, ReportFile};
pub use shelf::Shelf;

/// The directory, held by this process.
#[derive(Debug)]
pub struct Outbox {
    root: PathBuf,
    shelf: Shelf,
    /// Held for as long as the outbox lives.
    _lock: File,
}

/// Why something could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The file could not be linked or copied.
    #[error("cannot keep {}", path.display())]
    Keep {
        /// The child's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The record could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl Outbox {
    /// Takes hold of a directory, made if it is not there.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be used.
    pub fn open(root: &Path) -> Result<Outbox, Error> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| Error::Io { what, path, source }
        };
        for dir in ["", "outbox", "attempts", "set-aside"] {
            let dir = root.join(dir);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            made.map_err(fail("create the directory", &dir))?;
        }
        let path = root.join("lock");
        let mut options = OpenOptions::new();
        // Not truncated: until it is locked, its text is about the holder.
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(&path).map_err(fail("open", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.take(200).read_to_string(&mut holder);
                let holder = Some(holder.trim().to_owned()).filter(|h| !h.is_empty());
                return Err(Error::StateDirBusy { path: root.to_owned(), holder });
            }
            Err(fs::TryLockError::Error(source)) => return Err(fail("lock", &path)(source)),
        }
        let line = format!("process {} on {}\n", std::process::id(), crate::host_name());
        let written = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| lock.write_all(line.as_bytes()));
        written.map_err(fail("write", &path))?;
        let shelf = Shelf::new(root.join("artifacts"));
        Ok(Outbox { root: root.to_owned(), shelf, _lock: lock })
    }

    /// With large checkpoints in a directory that workers share.
    #[must_use]
    pub fn sharing(self, artifact_dir: PathBuf) -> Outbox {
        Outbox { shelf: Shelf::new(artifact_dir), ..self }
    }

    /// Where large checkpoints are.
    #[must_use]
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Where the children's directories are.
    #[must_use]
    pub fn attempts(&self) -> PathBuf {
        self.root.join("attempts")
    }

    /// Where the adapter of a lease is kept.
    #[must_use]
    pub fn adapter(&self, lease: LeaseKey) -> PathBuf {
        self.entry(&format!("adapter-{}.safetensors", name(lease)))
    }

    /// Where a checkpoint of a lease is kept.
    #[must_use]
    pub fn checkpoint(&self, lease: LeaseKey, step: u64) -> PathBuf {
        self.entry(&format!("checkpoint-{}-{step}.safetensors", name(lease)))
    }

    fn checkpoint_record(&self, lease: LeaseKey, step: u64) -> PathBuf {
        self.entry(&format!("checkpoint-{}-{step}.json", name(lease)))
    }

    fn report(&self, lease: LeaseKey) -> PathBuf {
        self.entry(&format!("report-{}.json", name(lease)))
    }

    fn entry(&self, name: &str) -> PathBuf {
        self.root.join("outbox").join(name)
    }

    /// Writes down who holds which leases.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_leases(&self, identity: &Identity, leases: &[LeaseKey]) -> Result<(), KeepError> {
        write_json(&self.root.join("leases.json"), &LeasesFile::new(identity, leases))
    }

    /// Keeps a checkpoint, with the evaluations that go with it. One that is too large for the
    /// coordinator goes to the shelf, and a file that names it is kept; the second value is then
    /// where it is.
    ///
    /// # Errors
    /// When the file cannot be read or the disk refuses.
    pub fn keep_checkpoint(
        &self,
        lease: LeaseKey,
        step: u64,
        path: &Path,
        evaluations: Vec<Evaluation>,
    ) -> Result<(Kept, Option<PathBuf>), KeepError> {
        let shelved = self.shelf.put(lease.trial, path);
        let shelved =
            shelved.map_err(|source| KeepError::Keep { path: path.to_owned(), source })?;
        let to = self.checkpoint(lease, step);
        let (hash, large) = match shelved {
            None => (keep(path, &to)?, None),
            Some((large, text)) => {
                let written = write_file(&to, &text);
                written.map_err(|source| KeepError::Write { path: to, source })?;
                (deptune_sweep::id::ArtifactHash::of(&text), Some(large))
            }
        };
        let record = CheckpointFile::new(lease, step, hash.clone(), evaluations);
        write_json(&self.checkpoint_record(lease, step), &record)?;
        Ok((Kept { step, hash }, large))
    }

    /// Keeps an adapter. It is found again only with its report.
    ///
    /// # Errors
    /// When the file cannot be read or the disk refuses.
    pub fn keep_adapter(&self, lease: LeaseKey, step: u64, path: &Path) -> Result<Kept, KeepError> {
        Ok(Kept { step, hash: keep(path, &self.adapter(lease))? })
    }

    /// Puts a report in.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn save_report(&self, report: &Report) -> Result<(), KeepError> {
        point(Point::BeforeOutbox);
        write_json(&self.report(report.lease), &ReportFile::new(report))?;
        point(Point::AfterOutbox);
        Ok(())
    }

    /// Deletes a checkpoint.
    pub fn forget_checkpoint(&self, lease: LeaseKey, step: u64) {
        // The record first: a record without its file is an oddity, a file alone is nothing.
        remove(&self.checkpoint_record(lease, step));
        remove(&self.checkpoint(lease, step));
    }

    /// Deletes everything of a lease.
    pub fn forget(&self, lease: LeaseKey) {
        remove(&self.report(lease));
        remove(&self.adapter(lease));
        let prefix = format!("checkpoint-{}-", name(lease));
        let Ok(entries) = fs::read_dir(self.root.join("outbox")) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                remove(&entry.path());
            }
        }
    }
}

/// `sweep.index-epoch`.
pub(crate) fn name(lease: LeaseKey) -> String {
    format!("{}-{}", lease.trial, lease.epoch)
}

fn keep(from: &Path, to: &Path) -> Result<deptune_sweep::id::ArtifactHash, KeepError> {
    keep_file(from, to).map_err(|source| KeepError::Keep { path: from.to_owned(), source })
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), KeepError> {
    let text = serde_json::to_vec(value).map_err(io::Error::other);
    let written = text.and_then(|text| write_file(path, &text));
    written.map_err(|source| KeepError::Write { path: path.to_owned(), source })
}

fn remove(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot delete");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
