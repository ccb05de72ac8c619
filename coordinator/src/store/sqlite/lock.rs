//! One coordinator per file: an advisory lock beside the database.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::{Identity, OpenError};

/// The lock. The operating system gives it back when the process ends, however it ends. The file
/// stays, because removing it could take it from under a coordinator that has just locked it.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock `<database>.lock` and writes the owner's identity into it.
    pub(super) fn take(database: &Path, identity: &Identity) -> Result<Lock, OpenError> {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let failed = |what: &'static str| {
            let path = path.clone();
            move |source: std::io::Error| OpenError::Io { what, path, source }
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed("open the lock file"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(OpenError::InUse { path: database.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => {
                return Err(failed("lock")(source));
            }
        }
        let text = serde_json::to_vec(identity).map_err(|e| failed("write")(e.into()))?;
        file.set_len(0).map_err(failed("write"))?;
        file.rewind().map_err(failed("write"))?;
        file.write_all(&text).map_err(failed("write"))?;
        Ok(Lock { _file: file })
    }
}

/// The holder in words, as far as the lock file tells.
fn holder(file: &mut File) -> String {
    // Bounded: the file could be anything.
    let mut text = String::new();
    let read = file.take(4096).read_to_string(&mut text);
    match read.ok().and_then(|_| serde_json::from_str::<Identity>(&text).ok()) {
        Some(identity) => identity.to_string(),
        None => "whose identity cannot be read".to_owned(),
    }
}
