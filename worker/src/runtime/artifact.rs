//! Files and logs, to and from the coordinator.

use std::path::Path;
use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::put_artifact_request::{Header, Part};
use deptune_sweep::id::ArtifactHash;
use deptune_sweep::scheduler::LeaseKey;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

use super::client::Client;
use crate::cache::{FetchError, Source};
use crate::protocol::CallError;

/// Bytes of one message.
const CHUNK: usize = 256 << 10;
/// Longest transfer of one file.
const TRANSFER: Duration = Duration::from_secs(3600);
/// Longest wait for the next piece of one.
const STALL: Duration = Duration::from_secs(60);
/// Deadline of one piece of a log.
const SHORT: Duration = Duration::from_secs(10);

/// Uploads a file.
pub(super) async fn put(
    client: &Client,
    path: &Path,
    hash: &ArtifactHash,
    kind: &str,
) -> Result<(), CallError> {
    // Without its file the parcel is nothing: as good as refused.
    let gone = |error| CallError::Refused(format!("cannot read {}: {error}", path.display()));
    let mut file = File::open(path).await.map_err(gone)?;
    let size = file.metadata().await.map_err(gone)?.len();
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let header = Header { hash: hash.to_string(), size, kind: kind.to_owned() };
    let feed = async move {
        let message = |part| v1::PutArtifactRequest { part: Some(part) };
        if sender.send(message(Part::Header(header))).await.is_err() {
            return;
        }
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            match (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await {
                Ok(n) if n > 0 => {
                    if sender.send(message(Part::Chunk(chunk))).await.is_err() {
                        return;
                    }
                }
                // A file cut short fails by its size on the other side.
                _ => return,
            }
        }
    };
    let (at, mut service) = client.artifacts()?;
    let request = client.request(ReceiverStream::new(receiver), TRANSFER)?;
    let send = timeout(TRANSFER, service.put_artifact(request));
    let (answer, ()) = tokio::join!(send, feed);
    match answer {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(status)) => Err(client.error(at, &status)),
        Err(_) => Err(client.silence(at, "the upload took too long")),
    }
}

impl Source for Client {
    async fn fetch(&self, hash: &ArtifactHash, to: &Path) -> Result<(), FetchError> {
        let failed = |error: CallError| match error {
            CallError::Refused(_) | CallError::MissingFile => FetchError::Missing(hash.clone()),
            CallError::Unreachable(why) | CallError::Denied(why) => FetchError::Unavailable(why),
            CallError::UnknownWorker => FetchError::Unavailable("unknown worker".to_owned()),
        };
        let write = |source| FetchError::Write { path: to.to_owned(), source };
        let (at, mut service) = self.artifacts().map_err(failed)?;
        let content = v1::GetArtifactRequest { hash: hash.to_string() };
        let request = self.request(content, TRANSFER).map_err(failed)?;
        let stalled = || failed(self.silence(at, "it stopped in the middle"));
        let response = timeout(STALL, service.get_artifact(request)).await;
        let response = response.map_err(|_| stalled())?;
        let mut stream = response.map_err(|status| failed(self.error(at, &status)))?.into_inner();
        let mut file = File::create(to).await.map_err(write)?;
        loop {
            let message = timeout(STALL, stream.message()).await.map_err(|_| stalled())?;
            match message.map_err(|status| failed(self.error(at, &status)))? {
                Some(piece) => file.write_all(&piece.chunk).await.map_err(write)?,
                None => break,
            }
        }
        file.flush().await.map_err(write)?;
        file.sync_all().await.map_err(write)
    }
}

/// Appends to the log of an attempt, and returns its length on the other side.
pub(super) async fn append_log(
    client: &Client,
    lease: LeaseKey,
    offset: u64,
    text: Vec<u8>,
) -> Result<u64, CallError> {
    let content = v1::AppendTrialLogRequest {
        trial: Some(lease.trial.into()),
        epoch: lease.epoch.0,
        offset,
        text,
    };
    let (at, mut service) = client.artifacts()?;
    let request = client.request(content, SHORT)?;
    match timeout(SHORT, service.append_trial_log(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner().length),
        Ok(Err(status)) => Err(client.error(at, &status)),
        Err(_) => Err(client.silence(at, "no answer in time")),
    }
}
