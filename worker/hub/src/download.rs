//! One file, fetched once, checked, and named.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode};

use crate::cache::{Repo, Stamp};
use crate::hash::ContentHash;
use crate::listing::{Entry, Listing};
use crate::{Error, Hub, Watch};

/// Tries in a row that bring no byte before a download is given up.
const FRUITLESS: u32 = 5;

/// Wait after the first of them; it doubles each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Bytes between two looks at the watch.
const PIECE: usize = 256 << 10;

impl Hub {
    /// A file of a commit in the cache, fetched if it is not there.
    pub(crate) fn fetch(
        &self,
        repo: &Repo,
        listing: &Listing,
        path: &str,
        watch: &dyn Watch,
    ) -> Result<PathBuf, Error> {
        let entry = listing.entry(repo, path)?;
        let file = Wanted { repo, commit: &listing.commit, path, entry };
        let blob = self.cache.blob(repo, &entry.hash);
        if !self.is_whole(&blob, entry)? {
            let lock = self.cache.lock(repo, &entry.hash, watch)?;
            // Whoever held the lock may have brought it.
            if !self.is_whole(&blob, entry)? {
                let own = std::process::id();
                let part = match lock {
                    Some(_) => format!("{}.incomplete", entry.hash.as_str()),
                    None => format!("{}.{own}.incomplete", entry.hash.as_str()),
                };
                self.bring(&file, &blob, &blob.with_file_name(part), watch)?;
            }
            drop(lock);
        }
        self.cache.link(repo, &listing.commit, path, &entry.hash)
    }

    /// Whether a file that is in the cache has the content that its blob's name says; a damaged
    /// one is removed. Files that are no links (Python copies where it cannot link) are taken as
    /// they are.
    pub(crate) fn is_sound(&self, file: &Path) -> Result<bool, Error> {
        let Ok(blob) = file.canonicalize() else { return Ok(false) };
        let name = blob.file_name().and_then(|name| name.to_str());
        let Some(hash) = name.and_then(ContentHash::parse) else { return Ok(true) };
        self.has_content(&blob, &hash)
    }

    fn is_whole(&self, blob: &Path, entry: &Entry) -> Result<bool, Error> {
        match fs::metadata(blob) {
            Ok(meta) if meta.len() == entry.size => self.has_content(blob, &entry.hash),
            Ok(_) => {
                remove(blob)?;
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// Hashes a blob, once for as long as it stays as it is; removes one that is not what it is
    /// called.
    fn has_content(&self, blob: &Path, hash: &ContentHash) -> Result<bool, Error> {
        let read = || Error::io("read", blob);
        let stamp = Stamp::of(blob).map_err(read())?;
        let verified = || self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified().get(blob) == Some(&stamp) {
            return Ok(true);
        }
        if hash.of_file(blob).map_err(read())? != hash.as_str() {
            tracing::warn!(blob = %blob.display(), "a file of the hub cache is damaged");
            remove(blob)?;
            return Ok(false);
        }
        verified().insert(blob.to_owned(), stamp);
        Ok(true)
    }

    /// Fetches a blob into `part`, going on where it stops, and puts it in its place.
    fn bring(
        &self,
        file: &Wanted<'_>,
        blob: &Path,
        part: &Path,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let dir = part.parent().unwrap_or(part);
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let inherited = fs::metadata(part).is_ok_and(|meta| meta.len() > 0);
        let mut found = self.fill(file, part, watch)?;
        if inherited && found != file.entry.hash.as_str() {
            // What an earlier process left may be to blame: once more, from the beginning.
            remove(part)?;
            found = self.fill(file, part, watch)?;
        }
        if found != file.entry.hash.as_str() {
            remove(part)?;
            return Err(Error::WrongHash {
                repo: file.repo.name.clone(),
                file: file.path.to_owned(),
                expected: file.entry.hash.as_str().to_owned(),
                found,
            });
        }
        fs::rename(part, blob).map_err(Error::io("create", blob))?;
        if let Ok(stamp) = Stamp::of(blob) {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            verified.insert(blob.to_owned(), stamp);
        }
        Ok(())
    }

    /// Appends to `part` until it has the file's size, and returns the hash of its content.
    fn fill(&self, file: &Wanted<'_>, part: &Path, watch: &dyn Watch) -> Result<String, Error> {
        let open = File::options().create(true).append(true).open(part);
        let mut output = open.map_err(Error::io("open", part))?;
        let (mut fruitless, mut wait) = (0, FIRST_WAIT);
        loop {
            let done = length(&output, part)?;
            if done == file.entry.size {
                break;
            }
            if done > file.entry.size {
                output.set_len(0).map_err(Error::io("write", part))?;
                continue;
            }
            let ended = self.append(file, &mut output, part, done, watch);
            let reason = match ended {
                Ok(()) => "the connection was closed early".to_owned(),
                Err(error @ (Error::Unreachable { .. } | Error::Busy { .. })) => {
                    if done == 0 && fruitless + 1 == FRUITLESS {
                        return Err(error);
                    }
                    error.to_string().split("; ").next().unwrap_or_default().to_owned()
                }
                Err(error) => return Err(error),
            };
            let now = length(&output, part)?;
            if now == file.entry.size {
                break;
            }
            (fruitless, wait) =
                if now > done { (0, FIRST_WAIT) } else { (fruitless + 1, wait * 2) };
            if fruitless == FRUITLESS {
                return Err(Error::Interrupted {
                    repo: file.repo.name.clone(),
                    file: file.path.to_owned(),
                    done: now,
                    total: file.entry.size,
                    reason,
                });
            }
            tracing::info!(file = file.path, done = now, reason, "a download broke off, going on");
            pause(wait, watch)?;
        }
        output.sync_all().map_err(Error::io("write", part))?;
        watch.progress(file.path, file.entry.size, file.entry.size);
        file.entry.hash.of_file(part).map_err(Error::io("read", part))
    }

    /// One request: appends what comes, at most up to the file's size.
    fn append(
        &self,
        file: &Wanted<'_>,
        output: &mut File,
        part: &Path,
        mut done: u64,
        watch: &dyn Watch,
    ) -> Result<(), Error> {
        let answer = self.http.file(file.repo, file.commit, file.path, done)?;
        if done > 0
            && (answer.status != StatusCode::PARTIAL_CONTENT
                || begins(&answer.headers) != Some(done))
        {
            // A server without ranges sends everything; what is here is not used.
            output.set_len(0).map_err(Error::io("write", part))?;
            if answer.status != StatusCode::OK {
                return Ok(());
            }
            done = 0;
        }
        let mut body = answer.body.into_reader();
        let mut buffer = vec![0; PIECE];
        while done < file.entry.size {
            if watch.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let room = usize::try_from(file.entry.size - done).unwrap_or(PIECE).min(PIECE);
            let count = match body.read(buffer.get_mut(..room).unwrap_or_default()) {
                Ok(count) => count,
                Err(error) => {
                    return Err(Error::Unreachable {
                        host: self.http.host(),
                        reason: error.to_string(),
                    });
                }
            };
            if count == 0 {
                return Ok(());
            }
            let piece = buffer.get(..count).unwrap_or_default();
            output.write_all(piece).map_err(Error::io("write", part))?;
            done += count as u64;
            watch.progress(file.path, done, file.entry.size);
        }
        Ok(())
    }
}

/// The file that is wanted.
struct Wanted<'a> {
    repo: &'a Repo,
    commit: &'a str,
    path: &'a str,
    entry: &'a Entry,
}

/// The first byte of a partial answer: `Content-Range: bytes FIRST-LAST/TOTAL`.
fn begins(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get("content-range")?.to_str().ok()?;
    range.trim().strip_prefix("bytes")?.trim().split('-').next()?.parse().ok()
}

fn length(file: &File, path: &Path) -> Result<u64, Error> {
    Ok(file.metadata().map_err(Error::io("read", path))?.len())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Waits, but not longer than the caller does.
fn pause(time: Duration, watch: &dyn Watch) -> Result<(), Error> {
    const PART: Duration = Duration::from_millis(50);
    let mut left = time;
    while !left.is_zero() {
        if watch.is_cancelled() {
            return Err(Error::Cancelled);
        }
        std::thread::sleep(left.min(PART));
        left = left.saturating_sub(PART);
    }
    Ok(())
}
