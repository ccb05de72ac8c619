//! Trial logs: what the children of an attempt said on standard error.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use deptune_sweep::id::{Epoch, TrialId};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::Error;
use super::{CHUNK, space};
use crate::seldom::Seldom;

/// Most bytes of one attempt's log.
const LIMIT: u64 = 16 << 20;
/// Stands at the end of a log that reached the limit.
const CUT: &[u8] = b"\n[the log is cut here: it has reached 16 MiB]\n";
/// Stands where text is missing, as far as that is long enough.
const MISSING: &[u8] = b"\n[text is missing here: the coordinator's disk was nearly full]\n";

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogKey {
    pub(crate) trial: TrialId,
    pub(crate) epoch: Epoch,
}

/// The logs of all attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    root: PathBuf,
    /// Bytes of the disk that logs leave free.
    reserve: u64,
    /// Appends are a read of the length and a write: one at a time. They are short.
    appending: Arc<Mutex<Appending>>,
}

#[derive(Debug, Default)]
struct Appending {
    /// Where text is missing that came while the disk was nearly full, until that is marked: where
    /// it would begin. It goes up to the log's end.
    gaps: BTreeMap<LogKey, u64>,
    warned: Seldom<()>,
}

impl Logs {
    /// Logs of a data directory that leave `reserve` bytes of its disk free.
    pub(crate) fn new(data_dir: &Path, reserve: u64) -> Logs {
        Logs { root: data_dir.join("logs"), reserve, appending: Arc::default() }
    }

    fn path(&self, key: LogKey) -> PathBuf {
        let LogKey { trial, epoch } = key;
        self.root.join(trial.sweep.to_string()).join(format!("{}-{epoch}.log", trial.index))
    }

    /// Writes `text`, whose first byte has position `offset` in the attempt's log. What is there
    /// already is not written twice; a text beyond the end is not written at all. Returns the
    /// position from which to go on.
    ///
    /// A log that has reached its limit takes no more, and none does while the disk is nearly full:
    /// the text counts as written. Zeros that take no room stand for it in the latter case, and a
    /// mark once there is room.
    pub(crate) async fn append(&self, key: LogKey, offset: u64, text: &[u8]) -> Result<u64, Error> {
        if text.len() > CHUNK {
            return Err(Error::ChunkTooLarge { size: text.len(), limit: CHUNK });
        }
        let end = offset.saturating_add(text.len() as u64);
        let path = self.path(key);
        let mut appending = self.appending.lock().await;
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).await.map_err(Error::io("create", parent))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .await
            .map_err(Error::io("open", &path))?;
        let length = file.metadata().await.map_err(Error::io("measure", &path))?.len();
        if length >= LIMIT {
            appending.gaps.remove(&key);
            return Ok(end);
        }
        let Some(fresh) = length
            .checked_sub(offset)
            .and_then(|seen| text.get(usize::try_from(seen).unwrap_or(usize::MAX)..))
        else {
            return Ok(length);
        };
        if fresh.is_empty() {
            return Ok(end);
        }
        let write = || Error::io("write", &path);
        if space::available(parent)? < self.reserve.saturating_add(fresh.len() as u64) {
            file.set_len(end.min(LIMIT)).await.map_err(write())?;
            appending.gaps.entry(key).or_insert(length);
            if appending.warned.is_due((), Instant::now()) {
                let directory = self.root.display();
                tracing::warn!(%directory, "logs of trials are left out: the disk is nearly full");
            }
            return Ok(end);
        }
        if let Some(start) = appending.gaps.remove(&key) {
            let missing = usize::try_from(length.saturating_sub(start)).unwrap_or(usize::MAX);
            let mark = MISSING.get(..missing).unwrap_or(MISSING);
            file.seek(SeekFrom::Start(start)).await.map_err(write())?;
            file.write_all(mark).await.map_err(write())?;
        }
        file.seek(SeekFrom::Start(length)).await.map_err(write())?;
        let room = usize::try_from(LIMIT - length).unwrap_or(usize::MAX);
        let written = match fresh.get(..room) {
            Some(last) => {
                let cut = [last, CUT].concat();
                file.write_all(&cut).await
            }
            None => file.write_all(fresh).await,
        };
        match written {
            Ok(()) => file.flush().await.map_err(write())?,
            Err(error) => return Err(write()(error)),
        }
        Ok(end)
    }

    /// Sweeps that have logs, to none of which anything was added since `before`.
    pub(super) async fn unused_since(&self, before: SystemTime) -> Result<Vec<u64>, Error> {
        let mut listed = match fs::read_dir(&self.root).await {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(Error::io("list", &self.root))?,
        };
        let mut sweeps = Vec::new();
        while let Some(entry) = listed.next_entry().await.map_err(Error::io("list", &self.root))? {
            let Some(sweep) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if latest_change(&entry.path()).await? < before {
                sweeps.push(sweep);
            }
        }
        Ok(sweeps)
    }

    /// Removes all logs of a sweep.
    pub(super) async fn remove(&self, sweep: u64) -> Result<(), Error> {
        let path = self.root.join(sweep.to_string());
        fs::remove_dir_all(&path).await.map_err(Error::io("remove", path))
    }

    /// At most [`CHUNK`] bytes from `offset`; empty at the end, or where there is no log.
    pub(crate) async fn read(&self, key: LogKey, offset: u64) -> Result<Vec<u8>, Error> {
        let path = self.path(key);
        let mut file = match File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        file.seek(SeekFrom::Start(offset)).await.map_err(Error::io("read", &path))?;
        let mut text = Vec::new();
        file.take(CHUNK as u64).read_to_end(&mut text).await.map_err(Error::io("read", &path))?;
        Ok(text)
    }
}

/// When a directory or a file in it was changed last.
async fn latest_change(directory: &Path) -> Result<SystemTime, Error> {
    let measure = || Error::io("look through", directory);
    let time = |found: Metadata| found.modified();
    let mut latest = fs::metadata(directory).await.and_then(time).map_err(measure())?;
    let mut files = fs::read_dir(directory).await.map_err(measure())?;
    while let Some(file) = files.next_entry().await.map_err(measure())? {
        latest = latest.max(file.metadata().await.and_then(time).map_err(measure())?);
    }
    Ok(latest)
}

#[cfg(test)]
mod tests {
    use deptune_sweep::id::SweepId;

    use super::*;

    const KEY: LogKey = LogKey { trial: TrialId { sweep: SweepId(1), index: 4 }, epoch: Epoch(2) };

    #[tokio::test]
    async fn bytes_sent_twice_are_written_once_and_a_gap_is_not_written() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::new(directory.path(), 0);
        assert_eq!(logs.append(KEY, 0, b"hello ").await.unwrap(), 6);
        assert_eq!(logs.append(KEY, 0, b"hello world").await.unwrap(), 11);
        assert_eq!(logs.append(KEY, 3, b"lo").await.unwrap(), 11);
        assert_eq!(logs.append(KEY, 20, b"later").await.unwrap(), 11);
        assert_eq!(logs.read(KEY, 0).await.unwrap(), b"hello world");
        assert_eq!(logs.read(KEY, 6).await.unwrap(), b"world");
        assert_eq!(logs.read(KEY, 99).await.unwrap(), b"");
    }

    #[tokio::test]
    async fn a_log_stops_growing_at_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let logs = Logs::new(directory.path(), 0);
        let text = vec![b'x'; CHUNK];
        let mut offset = 0;
        for _ in 0..70 {
            offset = logs.append(KEY, offset, &text).await.unwrap();
        }
        assert_eq!(offset, 70 * CHUNK as u64);
        let tail = logs.read(KEY, LIMIT).await.unwrap();
        assert_eq!(tail, CUT);
    }
    #[tokio::test]
    async fn a_log_leaves_the_reserve_free_and_says_where_text_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let mut logs = Logs::new(directory.path(), 0);
        assert_eq!(logs.append(KEY, 0, b"before\n").await.unwrap(), 7);
        let text = vec![b'x'; CHUNK];
        let end = 7 + CHUNK as u64;
        logs.reserve = u64::MAX;
        // The second time as well: the same text again is no more of it.
        for _ in 0..2 {
            assert_eq!(logs.append(KEY, 7, &text).await.unwrap(), end);
        }
        assert_eq!(logs.append(KEY, end, b"little").await.unwrap(), end + 6);
        let unwritten = logs.read(KEY, 7).await.unwrap();
        assert!(unwritten.iter().all(|byte| *byte == 0), "nothing is written");

        logs.reserve = 0;
        assert_eq!(logs.append(KEY, end + 6, b"after\n").await.unwrap(), end + 12);
        let mut text = logs.read(KEY, 0).await.unwrap();
        text.extend(logs.read(KEY, CHUNK as u64).await.unwrap());
        text.retain(|byte| *byte != 0);
        assert_eq!(text, [b"before\n", MISSING, b"after\n"].concat());
        // Marked once.
        assert_eq!(logs.append(KEY, end + 12, b"more").await.unwrap(), end + 16);
        assert_eq!(logs.read(KEY, end + 6).await.unwrap(), b"after\nmore");
    }
}
