//! Copying files by hash, and other files as they are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use deptune_sweep::id::ArtifactHash;

use super::database::Attempt;
use super::{Error, at};

/// Bytes copied at a time.
const CHUNK: usize = 1 << 20;

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Copied {
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Not copied: their content has another hash.
    pub(super) damaged: BTreeMap<ArtifactHash, PathBuf>,
}

/// When a file that is there already counts as the one that would be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// By its size: its content was checked when it was put there.
    Size,
    /// By its content: nobody knows who put it there.
    Content,
}

/// Where the artifact with this hash lies below an artifact directory.
pub(super) fn place(artifacts: &Path, hash: &ArtifactHash) -> PathBuf {
    let (head, tail) = hash.as_str().split_at(2);
    artifacts.join(head).join(tail)
}

/// The artifacts below a directory, with their sizes; what is no artifact is left out.
pub(super) fn artifacts(directory: &Path) -> Result<Vec<(ArtifactHash, u64)>, Error> {
    let mut found = Vec::new();
    for shard in entries(directory)? {
        let Some(head) = shard.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            continue;
        };
        if head.len() != 2 || !shard.is_dir() {
            continue;
        }
        for file in entries(&shard)? {
            let tail = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Ok(hash) = format!("{head}{tail}").parse::<ArtifactHash>() else { continue };
            // A superseded checkpoint may go at any time.
            if let Ok(metadata) = fs::metadata(&file) {
                found.push((hash, metadata.len()));
            }
        }
    }
    Ok(found)
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let read = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(at("list", directory))?,
    };
    let mut paths: Vec<PathBuf> = read.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    Ok(paths)
}

/// Copies the artifacts that `to` lacks. One that is removed meanwhile is left out, and so is one
/// that is damaged.
///
/// # Errors
/// When the file system refuses.
pub(super) fn copy_artifacts(from: &Path, to: &Path, trust: Trust) -> Result<Copied, Error> {
    let mut copied = Copied::default();
    for (hash, size) in artifacts(from)? {
        let (source, target) = (place(from, &hash), place(to, &hash));
        let there = fs::metadata(&target).is_ok_and(|found| found.is_file() && found.len() == size);
        if there && (trust == Trust::Size || self::hash(&target)? == hash) {
            continue;
        }
        match copy(&source, &target)? {
            None => {}
            Some(found) if found == hash => {
                copied.files += 1;
                copied.bytes += size;
            }
            Some(_) => {
                fs::remove_file(&target).map_err(at("remove", &target))?;
                copied.damaged.insert(hash, source);
            }
        }
    }
    Ok(copied)
}

/// Copies the logs of the attempts that `wanted` names, where they differ in size or time.
pub(super) fn copy_logs(
    from: &Path,
    to: &Path,
    wanted: impl Fn(Attempt) -> bool,
) -> Result<(), Error> {
    for directory in entries(from)? {
        let Some(sweep) = number(directory.file_name()) else { continue };
        if !directory.is_dir() {
            continue;
        }
        for source in entries(&directory)? {
            let name = source.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            let Some((trial, epoch)) = name.split_once('-') else { continue };
            let (Ok(trial), Ok(epoch)) = (trial.parse(), epoch.parse()) else { continue };
            if wanted((sweep, trial, epoch)) {
                let file = source.file_name().unwrap_or_default();
                copy_changed(&source, &to.join(sweep.to_string()).join(file))?;
            }
        }
    }
    Ok(())
}

fn number(name: Option<&OsStr>) -> Option<u64> {
    name?.to_str()?.parse().ok()
}

/// Copies a file with its time, unless the target has its size and time already.
fn copy_changed(source: &Path, target: &Path) -> Result<(), Error> {
    // The time first: what is written while this copies makes a difference next time.
    let Ok(found) = fs::metadata(source) else { return Ok(()) };
    let modified = found.modified().map_err(at("read", source))?;
    let same = |there: Metadata| {
        there.len() == found.len() && there.modified().is_ok_and(|time| time == modified)
    };
    if fs::metadata(target).is_ok_and(same) {
        return Ok(());
    }
    if copy(source, target)?.is_some() {
        let file = File::options().append(true).open(target).map_err(at("open", target))?;
        file.set_modified(modified).map_err(at("date", target))?;
    }
    Ok(())
}

/// Copies a file, so that the target is whole or not there, and returns the content's hash; `None`
/// when the source is gone.
pub(super) fn copy(source: &Path, target: &Path) -> Result<Option<ArtifactHash>, Error> {
    let mut input = match File::open(source) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at("open", source))?,
    };
    let parent = target.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(at("create", parent))?;
    let mut output = tempfile::NamedTempFile::new_in(parent).map_err(at("write into", parent))?;
    let hash = transfer(&mut input, &mut output).map_err(at("copy", source))?;
    output.as_file().sync_all().map_err(at("sync", target))?;
    output.persist(target).map_err(|error| at("create", target)(error.error))?;
    File::open(parent).and_then(|folder| folder.sync_all()).map_err(at("sync", parent))?;
    Ok(Some(hash))
}

fn transfer(input: &mut impl Read, output: &mut impl Write) -> io::Result<ArtifactHash> {
    let mut hasher = blake3::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = input.read(&mut chunk)?;
        let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
            return Ok(ArtifactHash::from_digest(hasher.finalize().as_bytes()));
        };
        hasher.update(read);
        output.write_all(read)?;
    }
}

/// Hash of a file's content.
pub(super) fn hash(path: &Path) -> Result<ArtifactHash, Error> {
    let mut file = File::open(path).map_err(at("open", path))?;
    transfer(&mut file, &mut io::sink()).map_err(at("read", path))
}
