//! What people do with a coordinator's data directory besides serving it: back it up, restore it,
//! look whether it is well. All of it works beside a running coordinator, whose writer it never
//! keeps waiting for longer than a read does.

mod backup;
mod database;
mod examine;
mod files;
mod restore;

pub use backup::{Backup, MANIFEST_FILE, Manifest, backup};
pub use examine::{Finding, Grade, examine, free_bytes};
pub use restore::restore;

use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::id::ArtifactHash;

use crate::store::Address;

/// Where results are.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a SQLite file.
    File(PathBuf),
    /// In a Postgres database.
    Postgres(Address),
}

/// The database that the files of a data directory belong to, as far as a coordinator has said so
/// there: the address of Postgres without its password, or a path.
#[must_use]
pub fn database_of(data_dir: &Path) -> Option<String> {
    crate::server::database_of(data_dir)
}

/// Why a backup was not made or restored, or a directory not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no database.
    #[error("there is no database {path}")]
    NoDatabase {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The database refused.
    #[error("cannot {what} the database {database}")]
    Database {
        /// What was tried.
        what: &'static str,
        /// Which: a path, or the address of Postgres without its password.
        database: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The database is damaged.
    #[error("the database {path} is damaged: {detail}")]
    Corrupt {
        /// Which.
        path: PathBuf,
        /// What the database found first.
        detail: String,
    },
    /// A file's content is not what its name says.
    #[error("the artifact {path} is damaged: its content has another hash")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The database names a file that is not there.
    #[error("{used_by} needs the artifact {hash}, which is not there")]
    Missing {
        /// Which.
        hash: ArtifactHash,
        /// What needs it.
        used_by: String,
    },
    /// The file system refused.
    #[error("cannot {what} {path}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The directory holds no backup.
    #[error("{path} holds no backup: there is no {MANIFEST_FILE} in it")]
    NoBackup {
        /// The directory.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("the backup's manifest {path} cannot be read")]
    Manifest {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The backup's database is not the one that its manifest describes.
    #[error("the backup in {path} was changed or not finished: its database has another hash")]
    Changed {
        /// The backup.
        path: PathBuf,
    },
    /// There is a database where one should be restored.
    #[error("{path} exists; a backup is restored into a directory without a database")]
    Occupied {
        /// Which.
        path: PathBuf,
    },
    /// The task that copies files died. A defect of deptune.
    #[error("copying files broke off")]
    Died(#[source] tokio::task::JoinError),
}

fn at<P: Into<PathBuf>>(what: &'static str, path: P) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.into(), source }
}
