//! `coordinator.json`: where clients on this machine (or on the same file system) find the
//! coordinator.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ServeError;

/// Name of the address file in the data directory.
pub const ADDRESS_FILE: &str = "coordinator.json";

/// The content of the address file. It holds no secret: the token is in a file of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFile {
    /// `host:port`.
    pub address: String,
    /// Process id on the coordinator's host.
    pub pid: u32,
    /// The token file.
    pub token_file: PathBuf,
    /// The database: the file of SQLite, or the address of Postgres without its password.
    pub database: String,
    /// Version of deptune.
    pub version: String,
}

impl AddressFile {
    pub(super) fn new(address: SocketAddr, token_file: &Path, database: &str) -> AddressFile {
        let full = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        AddressFile {
            address: address.to_string(),
            pid: std::process::id(),
            token_file: full(token_file),
            database: database.to_owned(),
            version: crate::VERSION.to_owned(),
        }
    }

    /// Writes the file, whole or not at all. Returns its path.
    pub(super) fn write(&self, data_dir: &Path) -> Result<PathBuf, ServeError> {
        let path = data_dir.join(ADDRESS_FILE);
        let written = (|| {
            let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
            serde_json::to_writer_pretty(&mut file, self)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        })();
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(ServeError::AddressFile { path, source }),
        }
    }

    /// Removes the file, unless another coordinator has written its own meanwhile.
    pub(super) fn remove(&self, path: &Path) {
        let ours = std::fs::read_to_string(path)
            .ok()
            .and_then(|text| serde_json::from_str::<AddressFile>(&text).ok())
            .is_some_and(|found| found == *self);
        if ours && let Err(error) = std::fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove the address file");
        }
    }
}
