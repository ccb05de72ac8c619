//! Which database a data directory's artifacts and logs belong to.
//!
//! What a database does not name looks unneeded to it. A coordinator that was started once on
//! another database must not remove the files of the first one for that.

use std::io::{self, Write};
use std::path::{Path, absolute};

/// Name of the file in the data directory that names the database.
const FILE: &str = "database";

/// Whether the files of the data directory belong to this database. They belong to the first one
/// that is asked about; from then on a file in the directory says so.
///
/// # Errors
/// When that file can neither be read nor written.
pub(super) fn belongs(data_dir: &Path, database: &str) -> io::Result<bool> {
    let path = data_dir.join(FILE);
    let ours = name(data_dir, database)?;
    let mut file = tempfile::NamedTempFile::new_in(data_dir)?;
    writeln!(file, "{ours}")?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(std::fs::read_to_string(&path)?.trim_end() == ours)
        }
        Err(refused) => Err(refused.error),
    }
}

/// The database that the files of the data directory belong to, if it says so.
pub(crate) fn database_of(data_dir: &Path) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join(FILE)).ok()?;
    Some(text.trim_end().to_owned())
}

/// The database's name; relative where it lies in the directory, which may be moved with it.
fn name(data_dir: &Path, database: &str) -> io::Result<String> {
    if database.contains("://") {
        return Ok(database.to_owned());
    }
    let full = absolute(database)?;
    let inside = full.strip_prefix(absolute(data_dir)?).unwrap_or(&full);
    Ok(inside.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_belong_to_the_first_database() {
        let directory = tempfile::tempdir().unwrap();
        let here = directory.path().join("here");
        std::fs::create_dir(&here).unwrap();
        let own = here.join("deptune.db").display().to_string();
        assert!(belongs(&here, &own).unwrap());
        assert!(belongs(&here, &own).unwrap());
        let other = here.join("other.db").display().to_string();
        for foreign in [other.as_str(), "postgres://someone@localhost:5432/sweeps"] {
            assert!(!belongs(&here, foreign).unwrap(), "{foreign}");
        }
        // The directory is moved, and its database with it.
        let there = directory.path().join("there");
        std::fs::rename(&here, &there).unwrap();
        assert!(belongs(&there, &there.join("deptune.db").display().to_string()).unwrap());
    }
}
