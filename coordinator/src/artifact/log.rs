//! Trial logs: what the children of an attempt said on standard error.

use std::fs::Metadata;
use std::io::{ErrorKind, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use deptune_sweep::id::{Epoch, TrialId};
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;

use super::CHUNK;
use super::error::Error;

/// Most bytes of one attempt's log.
const LIMIT: u64 = 16 << 20;
/// Stands at the end of a log that reached the limit.
const CUT: &[u8] = b"\n[the log is cut here: it has reached 16 MiB]\n";

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogKey {
    pub(crate) trial: TrialId,
    pub(crate) epoch: Epoch,
}

/// The logs of all attempts. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    root: PathBuf,
    /// Appends are a read of the length and a write: one at a time. They are short.
    appending: Arc<Mutex<()>>,
}

impl Logs {
    pub(crate) fn new(data_dir: &Path) -> Logs {
        Logs { root: data_dir.join("logs"), appending: Arc::default() }
    }

    fn path(&self, key: LogKey) -> PathBuf {
        let LogKey { trial, epoch } = key;
        self.root.join(trial.sweep.to_string()).join(format!("{}-{epoch}.log", trial.index))
    }

    /// Writes `text`, whose first byte has position `offset` in the attempt's log. What is there
    /// already is not written twice; a text beyond the end is not written at all. Returns the
    /// position from which to go on.
    ///
    /// A log that has reached its limit takes no more: its text counts as written.
    pub(crate) async fn append(&self, key: LogKey, offset: u64, text: &[u8]) -> Result<u64, Error> {
        if text.len() > CHUNK {
            return Err(Error::ChunkTooLarge { size: text.len(), limit: CHUNK });
        }
        let end = offset.saturating_add(text.len() as u64);
        let path = self.path(key);
        let _alone = self.appending.lock().await;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).await.map_err(Error::io("create", parent))?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .await
            .map_err(Error::io("open", &path))?;
        let length = file.metadata().await.map_err(Error::io("measure", &path))?.len();
        if length >= LIMIT {
            return Ok(end);
        }
        let Some(fresh) = length
            .checked_sub(offset)
            .and_then(|seen| text.get(usize::try_from(seen).unwrap_or(usize::MAX)..))
        else {
            return Ok(length);
        };
        let room = usize::try_from(LIMIT - length).unwrap_or(usize::MAX);
        let write = Error::io("write", &path);
        let written = match fresh.get(..room) {
            Some(last) => {
                let cut = [last, CUT].concat();
                file.write_all(&cut).await
            }
            None => file.write_all(fresh).await,
        };
        match written {
            Ok(()) => file.flush().await.map_err(write)?,
            Err(error) => return Err(write(error)),
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
        let logs = Logs::new(directory.path());
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
        let logs = Logs::new(directory.path());
        let text = vec![b'x'; CHUNK];
        let mut offset = 0;
        for _ in 0..70 {
            offset = logs.append(KEY, offset, &text).await.unwrap();
        }
        assert_eq!(offset, 70 * CHUNK as u64);
        let tail = logs.read(KEY, LIMIT).await.unwrap();
        assert_eq!(tail, CUT);
    }
}
