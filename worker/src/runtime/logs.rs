//! Brings the children's logs to the coordinator, and deletes attempts whose log has arrived.

use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deptune_sweep::scheduler::LeaseKey;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Shared, artifact, attempt};
use crate::protocol::CallError;

/// Time between two looks at a growing log.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes of one message.
const CHUNK: u64 = 64 << 10;
/// Longest wait between two tries.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// How long the last words may take when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The tasks that bring logs.
#[derive(Debug, Default)]
pub(super) struct Logs {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Logs {
    /// Brings the log of a running child until it has ended and all has arrived.
    pub(super) fn follow(
        &self,
        shared: &Arc<Shared>,
        dir: PathBuf,
        members: Vec<LeaseKey>,
        ended: watch::Receiver<bool>,
    ) {
        let (shared, stop) = (Arc::clone(shared), self.stop.clone());
        self.tasks.spawn(async move {
            let bring = bring(&shared, &dir, &members, ended);
            stop.run_until_cancelled(bring).await;
        });
    }

    /// Brings the logs that an earlier agent left.
    pub(super) fn inherit(&self, shared: &Arc<Shared>) {
        let attempts = shared.outbox.attempts();
        let entries = fs::read_dir(&attempts).into_iter().flatten().flatten();
        let left: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        let (shared, stop) = (Arc::clone(shared), self.stop.clone());
        self.tasks.spawn(async move {
            let all = async {
                for dir in left {
                    let members = attempt::members(&dir).unwrap_or_default();
                    let (_, ended) = watch::channel(true);
                    bring(&shared, &dir, &members, ended).await;
                }
            };
            stop.run_until_cancelled(all).await;
        });
    }

    /// Gives what is under way a moment, then stops.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        let _ = timeout(LAST_WORDS, self.tasks.wait()).await;
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

async fn bring(
    shared: &Shared,
    dir: &Path,
    members: &[LeaseKey],
    mut ended: watch::Receiver<bool>,
) {
    let path = dir.join("log");
    let mut offsets = vec![None; members.len()];
    let mut wait = LOOK;
    loop {
        // Looked at before the log is read: what an ended child wrote is all there.
        let over = *ended.borrow();
        let mut arrived = true;
        for (&lease, offset) in members.iter().zip(&mut offsets) {
            match advance(shared, &path, lease, offset).await {
                Ok(()) => wait = LOOK,
                Err(Failure::Later) => arrived = false,
                Err(Failure::Never(why)) => {
                    let trial = lease.trial;
                    tracing::debug!(%trial, why, "a trial's log is not wanted");
                    *offset = Some(u64::MAX);
                }
            }
        }
        if over && arrived {
            // The child's files may not be in the outbox yet.
            shared.held.gone(members).await;
            if let Err(error) = fs::remove_dir_all(dir) {
                tracing::warn!(dir = %dir.display(), %error, "cannot delete");
            }
            return;
        }
        if !arrived {
            wait = (wait * 2).min(MAX_WAIT);
        }
        if over {
            sleep(wait).await;
        } else {
            tokio::select! {
                () = sleep(wait) => {}
                changed = ended.changed() => {
                    if changed.is_err() {
                        // The child was killed with its agent's task.
                        return;
                    }
                }
            }
        }
    }
}

enum Failure {
    Later,
    Never(String),
}

/// Sends what the log has beyond `offset`. Unknown at first: the other side may have some of it
/// from an earlier agent.
async fn advance(
    shared: &Shared,
    path: &Path,
    lease: LeaseKey,
    offset: &mut Option<u64>,
) -> Result<(), Failure> {
    let sent = |error| match error {
        CallError::Refused(why) => Failure::Never(why),
        _ => Failure::Later,
    };
    let mut at = match *offset {
        Some(at) => at,
        None => artifact::append_log(&shared.client, lease, 0, Vec::new()).await.map_err(sent)?,
    };
    loop {
        *offset = Some(at);
        let text = read(path, at).await.map_err(|error| Failure::Never(error.to_string()))?;
        if text.is_empty() {
            return Ok(());
        }
        let end = at.saturating_add(text.len() as u64);
        let length = artifact::append_log(&shared.client, lease, at, text).await.map_err(sent)?;
        // A log that the other side cuts short does not grow any more.
        at = if length > at { length } else { end };
    }
}

async fn read(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    if from == u64::MAX {
        return Ok(text);
    }
    let mut file = match File::open(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(text),
        file => file?,
    };
    file.seek(SeekFrom::Start(from)).await?;
    file.take(CHUNK).read_to_end(&mut text).await?;
    Ok(text)
}
