//! Making a backup.
//!
//! The database is copied as of one moment while the coordinator goes on. A checkpoint that it
//! names may be superseded and removed while files are copied, so files are copied before *and*
//! after the database, and what the copy names must then be there; if not, all of it is done again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use deptune_sweep::id::ArtifactHash;
use serde::{Deserialize, Serialize};

use super::database::{Database, Reference};
use super::files::{self, Copied, Trust};
use super::{Error, at};
use crate::server::DATABASE_FILE;

/// Name of the manifest within a backup.
pub const MANIFEST_FILE: &str = "backup.json";

/// How often a backup is begun anew because files went away under it.
const TRIES: u32 = 5;

/// What a backup says about itself. Written last: a backup without it is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of deptune that made it.
    pub version: String,
    /// When, UTC.
    pub made: String,
    /// Number of the database's last migration.
    pub schema: i64,
    /// Hash of the database's copy.
    pub database: ArtifactHash,
    /// Artifacts that the database names.
    pub artifacts: u64,
    /// Sweeps.
    pub sweeps: u64,
    /// Outcomes.
    pub outcomes: u64,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// What it says about itself.
    pub manifest: Manifest,
    /// Files that were copied; those that an earlier backup had left there were not.
    pub copied_files: u64,
    /// Their bytes.
    pub copied_bytes: u64,
    /// Files that were left out because they are damaged; nothing needs them.
    pub damaged: Vec<PathBuf>,
}

/// Backs up the database and the files of a data directory into `to`, which may hold an earlier
/// backup of the same: then only what is new is copied. The token is not copied.
///
/// # Errors
/// When something cannot be read or written, or is damaged.
pub async fn backup(data_dir: &Path, database: &Path, to: &Path) -> Result<Backup, Error> {
    std::fs::create_dir_all(to).map_err(at("create", to))?;
    let mut copied = Copied::default();
    let mut tried = 1;
    loop {
        copy_files(data_dir, to, &mut copied).await?;
        let copy = to.join(format!("{DATABASE_FILE}.new"));
        remove(&copy)?;
        Database::open(database).await?.copy_to(&copy).await?;
        copy_files(data_dir, to, &mut copied).await?;

        let mut made = Database::open(&copy).await?;
        made.check().await?;
        let references = made.references().await?;
        match first_missing(to, &references) {
            Some(Reference { hash, .. }) if copied.damaged.contains_key(hash) => {
                let path = copied.damaged.get(hash).cloned().unwrap_or_default();
                return Err(Error::Damaged { path });
            }
            Some(_) if tried < TRIES => {
                made.close().await?;
                tried += 1;
            }
            Some(Reference { hash, used_by }) => {
                let (hash, used_by) = (hash.clone(), used_by.clone());
                return Err(Error::Missing { hash, used_by });
            }
            None => {
                let distinct: BTreeSet<_> = references.iter().map(|one| &one.hash).collect();
                let artifacts = distinct.len() as u64;
                let manifest = finish(made, &copy, to, artifacts).await?;
                let Copied { files, bytes, damaged } = copied;
                let damaged = damaged.into_values().collect();
                return Ok(Backup { manifest, copied_files: files, copied_bytes: bytes, damaged });
            }
        }
    }
}

/// Puts the database in its place, and the manifest beside it.
async fn finish(
    mut made: Database,
    copy: &Path,
    to: &Path,
    artifacts: u64,
) -> Result<Manifest, Error> {
    let manifest = to.join(MANIFEST_FILE);
    let written = Manifest {
        version: crate::VERSION.to_owned(),
        made: jiff::Timestamp::now().to_string(),
        schema: made.schema().await?,
        database: files::hash(copy)?,
        artifacts,
        sweeps: made.count("select count(*) from sweeps").await?,
        outcomes: made.count("select count(*) from outcomes").await?,
    };
    made.close().await?;
    // From here to the manifest's end the directory holds no finished backup.
    remove(&manifest)?;
    let target = to.join(DATABASE_FILE);
    std::fs::rename(copy, &target).map_err(at("create", &target))?;
    let text = serde_json::to_vec_pretty(&written)
        .map_err(|source| Error::Manifest { path: manifest.clone(), source })?;
    let mut file = tempfile::NamedTempFile::new_in(to).map_err(at("write into", to))?;
    std::io::Write::write_all(&mut file, &text).map_err(at("write", &manifest))?;
    file.as_file().sync_all().map_err(at("sync", &manifest))?;
    file.persist(&manifest).map_err(|error| at("create", &manifest)(error.error))?;
    std::fs::File::open(to).and_then(|folder| folder.sync_all()).map_err(at("sync", to))?;
    Ok(written)
}

async fn copy_files(data_dir: &Path, to: &Path, copied: &mut Copied) -> Result<(), Error> {
    let (from, to) = (data_dir.to_owned(), to.to_owned());
    let copying = move || {
        let (artifacts, logs) = ("artifacts", "logs");
        let copied =
            files::copy_artifacts(&from.join(artifacts), &to.join(artifacts), Trust::Size)?;
        files::copy_logs(&from.join(logs), &to.join(logs), |_| true)?;
        Ok::<_, Error>(copied)
    };
    let now = tokio::task::spawn_blocking(copying).await.map_err(Error::Died)??;
    copied.files += now.files;
    copied.bytes += now.bytes;
    copied.damaged = now.damaged;
    Ok(())
}

/// The first file that something needs and that is not there.
pub(super) fn first_missing<'a>(
    directory: &Path,
    references: &'a [Reference],
) -> Option<&'a Reference> {
    let artifacts = directory.join("artifacts");
    references.iter().find(|one| !files::place(&artifacts, &one.hash).is_file())
}

fn remove(path: &PathBuf) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(at("remove", path)(error))
        }
        _ => Ok(()),
    }
}
