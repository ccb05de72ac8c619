//! Restoring a backup.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::backup::{MANIFEST_FILE, Manifest, first_missing};
use super::database::Database;
use super::{Error, at, files};
use crate::server::DATABASE_FILE;

/// Restores the backup in `from` into a data directory that holds no database; every file's hash is
/// checked on the way. A coordinator started there goes on where the backup was made; its workers
/// need its new token.
///
/// # Errors
/// When the backup is incomplete or damaged, or there is a database already.
pub async fn restore(from: &Path, data_dir: &Path) -> Result<Manifest, Error> {
    let manifest = manifest(from)?;
    let database = data_dir.join(DATABASE_FILE);
    if database.exists() {
        return Err(Error::Occupied { path: database });
    }
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(at("create", data_dir))?;

    let mut source = Database::open(&from.join(DATABASE_FILE)).await?;
    let references = source.references().await?;
    source.close().await?;
    if let Some(missing) = first_missing(from, &references) {
        let (hash, used_by) = (missing.hash.clone(), missing.used_by.clone());
        return Err(Error::Missing { hash, used_by });
    }
    let (from, to, expected) = (from.to_owned(), data_dir.to_owned(), manifest.database.clone());
    let copying = move || {
        files::copy_artifacts(&from.join("artifacts"), &to.join("artifacts"))?;
        files::copy_tree(&from.join("logs"), &to.join("logs"))?;
        // The database last: with it the directory counts as a coordinator's.
        let target = to.join(DATABASE_FILE);
        let found = files::copy(&from.join(DATABASE_FILE), &target)?;
        if found.as_ref() != Some(&expected) {
            let _ = std::fs::remove_file(&target);
            return Err(Error::Changed { path: from });
        }
        Ok(())
    };
    tokio::task::spawn_blocking(copying).await.map_err(Error::Died)??;
    let mut restored = Database::open(&database).await?;
    restored.check().await?;
    restored.close().await?;
    Ok(manifest)
}

fn manifest(from: &Path) -> Result<Manifest, Error> {
    let path = from.join(MANIFEST_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map_err(|source| Error::Manifest { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::NoBackup { path: from.to_owned() })
        }
        Err(error) => Err(at("read", path)(error)),
    }
}
