//! Restoring a backup.

use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::backup::{MANIFEST_FILE, Manifest, first_missing};
use super::database::Database;
use super::files::{Copied, Trust};
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
    let attempts = source.attempts().await?;
    source.close().await?;
    if let Some(missing) = first_missing(from, &references) {
        let (hash, used_by) = (missing.hash.clone(), missing.used_by.clone());
        return Err(Error::Missing { hash, used_by });
    }
    let (from, to, expected) = (from.to_owned(), data_dir.to_owned(), manifest.database.clone());
    let copying = move || {
        let (artifacts, logs) = ("artifacts", "logs");
        let Copied { damaged, .. } =
            files::copy_artifacts(&from.join(artifacts), &to.join(artifacts), Trust::Content)?;
        for one in &references {
            if let Some(path) = damaged.get(&one.hash) {
                return Err(Error::Damaged { path: path.clone() });
            }
        }
        for path in damaged.values() {
            tracing::warn!(path = %path.display(), "damaged and left out; nothing needs it");
        }
        set_aside(&to, logs)?;
        // An epoch that the database does not know is given to another attempt after this, which
        // must not find the text of one that was lost.
        files::copy_logs(&from.join(logs), &to.join(logs), |one| attempts.contains(&one))?;
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

/// Renames a directory that is not part of the backup, so that nothing of it is mixed with that.
fn set_aside(directory: &Path, name: &str) -> Result<(), Error> {
    let path = directory.join(name);
    if !path.exists() {
        return Ok(());
    }
    let time = jiff::Timestamp::now().as_second();
    let aside = directory.join(format!("{name}.before-restore-{time}"));
    std::fs::rename(&path, &aside).map_err(at("set aside", &path))
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
