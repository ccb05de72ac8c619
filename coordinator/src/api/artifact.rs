//! Files by hash, and trial logs.

use std::time::Duration;

use deptune_sweep::id::{ArtifactHash, Epoch, TrialId};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Api;
use super::error::Error;
use crate::artifact::LogKey;
use crate::runtime;
use crate::store::TrialPhase;

/// Time between two looks for more of a log that is followed.
const LOOK: Duration = Duration::from_millis(500);
/// Pieces that may wait for a slow reader.
const WAITING: usize = 8;

/// Some of an attempt's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogPiece {
    pub(crate) epoch: Epoch,
    pub(crate) text: Vec<u8>,
}

type Reader = mpsc::Sender<Result<LogPiece, Error>>;

impl Api {
    /// Those of the hashes that are not here.
    pub(crate) async fn missing(
        &self,
        hashes: Vec<ArtifactHash>,
    ) -> Result<Vec<ArtifactHash>, Error> {
        let mut missing = Vec::new();
        for hash in hashes {
            if self.artifacts.claim(&hash)?.is_none() {
                missing.push(hash);
            }
        }
        Ok(missing)
    }

    /// Appends to an attempt's log; see [`crate::artifact::Logs::append`].
    pub(crate) async fn append_log(
        &self,
        trial: TrialId,
        epoch: Epoch,
        offset: u64,
        text: &[u8],
    ) -> Result<u64, Error> {
        let attempts = self.attempts(trial).await?;
        if !attempts.iter().any(|attempt| attempt.epoch == epoch) {
            return Err(Error::UnknownAttempt { trial, epoch: epoch.0 });
        }
        Ok(self.logs.append(LogKey { trial, epoch }, offset, text).await?)
    }

    /// Reads the logs of a trial's attempts one after the other, or of one attempt. With `follow`
    /// it waits for more until the trial (or that attempt) has ended.
    pub(crate) async fn read_log(
        &self,
        trial: TrialId,
        only: Option<Epoch>,
        follow: bool,
    ) -> Result<ReceiverStream<Result<LogPiece, Error>>, Error> {
        let attempts = self.attempts(trial).await?;
        if let Some(epoch) = only
            && !attempts.iter().any(|attempt| attempt.epoch == epoch)
        {
            return Err(Error::UnknownAttempt { trial, epoch: epoch.0 });
        }
        let (reader, stream) = mpsc::channel(WAITING);
        let api = self.clone();
        self.feeders.spawn(async move {
            if let Err(error) = api.tell_log(trial, only, follow, &reader).await {
                // The reader may have gone.
                let _ = reader.send(Err(error)).await;
            }
        });
        Ok(ReceiverStream::new(stream))
    }

    async fn tell_log(
        &self,
        trial: TrialId,
        only: Option<Epoch>,
        follow: bool,
        reader: &Reader,
    ) -> Result<(), Error> {
        let mut position = (Epoch(0), 0);
        loop {
            // Read before the text: what an ended attempt wrote is all there by then.
            let ended = self.log_has_ended(trial, only).await?;
            for attempt in self.store.attempts(trial).await? {
                let epoch = attempt.epoch;
                if only.is_some_and(|only| only != epoch) || epoch < position.0 {
                    continue;
                }
                let from = if epoch == position.0 { position.1 } else { 0 };
                position = (epoch, self.tell_attempt(trial, epoch, from, reader).await?);
            }
            if ended || !follow {
                return Ok(());
            }
            tokio::select! {
                () = reader.closed() => return Ok(()),
                () = self.stop.cancelled() => return Err(runtime::Error::Stopping.into()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Tells an attempt's log from `from` on, and returns where it ended.
    async fn tell_attempt(
        &self,
        trial: TrialId,
        epoch: Epoch,
        mut from: u64,
        reader: &Reader,
    ) -> Result<u64, Error> {
        loop {
            let mut text = self.logs.read(LogKey { trial, epoch }, from).await?;
            if text.is_empty() {
                return Ok(from);
            }
            from = from.saturating_add(text.len() as u64);
            // Zeros stand for text that the disk had no room for.
            text.retain(|byte| *byte != 0);
            if text.is_empty() {
                continue;
            }
            if reader.send(Ok(LogPiece { epoch, text })).await.is_err() {
                return Ok(from);
            }
        }
    }

    async fn log_has_ended(&self, trial: TrialId, only: Option<Epoch>) -> Result<bool, Error> {
        if let Some(epoch) = only {
            let attempts = self.store.attempts(trial).await?;
            return Ok(attempts.iter().any(|a| a.epoch == epoch && a.end.is_some()));
        }
        let after = trial.index.checked_sub(1);
        let row = self.store.trials(trial.sweep, after, 1).await?.items.into_iter().next();
        Ok(row.is_some_and(|row| row.id == trial && row.phase == TrialPhase::Ended))
    }
}
