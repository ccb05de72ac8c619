//! Files that are complete or absent, whatever dies.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use deptune_sweep::id::ArtifactHash;

/// Writes a file so that after a crash it is there whole or not at all, and once this returns it
/// survives a loss of power.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Makes a name of our own for a child's finished file, or a copy where the file system has no
/// links, and returns the hash of its content.
pub(crate) fn keep_file(from: &Path, to: &Path) -> io::Result<ArtifactHash> {
    let dir = to.parent().unwrap_or(Path::new("."));
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if fs::hard_link(from, to).is_err() {
        let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
        io::copy(&mut File::open(from)?, temporary.as_file_mut())?;
        temporary.as_file().sync_all()?;
        temporary.persist(to).map_err(|error| error.error)?;
    }
    sync_dir(dir)?;
    hash_file(to)
}

/// The hash of a file's content.
pub(crate) fn hash_file(path: &Path) -> io::Result<ArtifactHash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(ArtifactHash::from_digest(hasher.finalize().as_bytes()))
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
