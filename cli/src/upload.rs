//! Files by hash: hashing, and sending to the coordinator what it lacks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deptune_proto::v1::put_artifact_request::{Header, Part};
use deptune_proto::v1::{FindMissingRequest, PutArtifactRequest};
use deptune_sweep::id::ArtifactHash;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::client::Client;
use crate::output::error::Error;
use crate::output::progress::Bytes;

/// Bytes in one message, as the interface has it.
const CHUNK: usize = 256 << 10;

/// Hashes in one question, as the interface has it.
const QUESTION: usize = 1000;

/// A file as it was when it was hashed.
#[derive(Debug, Clone)]
pub(crate) struct Hashed {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Hash of its content.
    pub(crate) hash: ArtifactHash,
    /// Bytes.
    pub(crate) size: u64,
}

/// Hashes a file without keeping it in memory.
///
/// # Errors
/// When it cannot be read.
pub(crate) async fn hash(path: &Path) -> Result<Hashed, Error> {
    let owned = path.to_owned();
    let read = move || -> std::io::Result<Hashed> {
        let mut hasher = blake3::Hasher::new();
        let size = std::io::copy(&mut std::fs::File::open(&owned)?, &mut hasher)?;
        let hash = ArtifactHash::from_digest(hasher.finalize().as_bytes());
        Ok(Hashed { path: owned, hash, size })
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|source| Error::Task { task: "hashing a file", source: source.into() })?
        .map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Sends the files that the coordinator lacks; `kind` as in the interface.
///
/// # Errors
/// A file that changed since it was hashed, or an unreachable or unwilling coordinator.
pub(crate) async fn send(client: &Client, files: &[Hashed], kind: &str) -> Result<(), Error> {
    let by_hash: BTreeMap<&str, &Hashed> =
        files.iter().map(|file| (file.hash.as_str(), file)).collect();
    let hashes: Vec<String> = by_hash.keys().map(|hash| (*hash).to_owned()).collect();
    let mut missing = Vec::new();
    for question in hashes.chunks(QUESTION) {
        let answer = client
            .call("ask which files are missing", || {
                let mut artifacts = client.artifacts();
                let request = FindMissingRequest { hashes: question.to_vec() };
                async move { artifacts.find_missing(request).await }
            })
            .await?;
        missing.extend(answer.into_inner().missing);
    }
    let files: Vec<&Hashed> =
        missing.iter().filter_map(|hash| by_hash.get(hash.as_str()).copied()).collect();
    if files.is_empty() {
        return Ok(());
    }
    let progress = Bytes::new("uploading", files.len(), files.iter().map(|file| file.size).sum());
    for file in files {
        send_one(client, file, kind, &progress).await?;
    }
    progress.finish();
    Ok(())
}

async fn send_one(
    client: &Client,
    file: &Hashed,
    kind: &str,
    progress: &Bytes,
) -> Result<(), Error> {
    let mut tries = client.tries();
    loop {
        let (sender, receiver) = mpsc::channel(4);
        let reading = tokio::spawn(read(file.clone(), kind.to_owned(), sender, progress.clone()));
        let at = client.at();
        let answer = client.artifacts().put_artifact(ReceiverStream::new(receiver)).await;
        let (read, sent) = reading
            .await
            .map_err(|source| Error::Task { task: "reading a file", source: source.into() })?;
        // What is wrong with the file explains the coordinator's refusal, not the other way round.
        read?;
        match answer {
            Ok(_) => return Ok(()),
            Err(status) if tries.again(at, &status).await => progress.back(sent),
            Err(status) => return Err(client.refused("upload a file", status)),
        }
    }
}

/// Reads a file into messages, and says how many bytes were sent. A receiver that went away ends
/// it without an error.
async fn read(
    file: Hashed,
    kind: String,
    sender: mpsc::Sender<PutArtifactRequest>,
    progress: Bytes,
) -> (Result<(), Error>, u64) {
    let mut sent = 0;
    let result = read_into(&file, kind, &sender, &progress, &mut sent).await;
    (result, sent)
}

async fn read_into(
    file: &Hashed,
    kind: String,
    sender: &mpsc::Sender<PutArtifactRequest>,
    progress: &Bytes,
    sent: &mut u64,
) -> Result<(), Error> {
    let failed = |source| Error::Read { path: file.path.clone(), source };
    let header = Header { hash: file.hash.as_str().to_owned(), size: file.size, kind };
    if sender.send(message(Part::Header(header))).await.is_err() {
        return Ok(());
    }
    let mut input = tokio::fs::File::open(&file.path).await.map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let changed = || Err(Error::Changed { path: file.path.clone() });
    let mut held: Option<Vec<u8>> = None;
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let limit = CHUNK as u64;
        (&mut input).take(limit).read_to_end(&mut chunk).await.map_err(failed)?;
        if chunk.is_empty() {
            break;
        }
        hasher.update(&chunk);
        // The last chunk waits for the verdict: a file that changed is never sent whole.
        if let Some(ready) = held.replace(chunk) {
            let length = ready.len() as u64;
            *sent += length;
            if *sent > file.size {
                return changed();
            }
            if sender.send(message(Part::Chunk(ready))).await.is_err() {
                return Ok(());
            }
            progress.forward(length);
        }
    }
    if ArtifactHash::from_digest(hasher.finalize().as_bytes()) != file.hash {
        return changed();
    }
    if let Some(last) = held {
        let length = last.len() as u64;
        *sent += length;
        if sender.send(message(Part::Chunk(last))).await.is_ok() {
            progress.forward(length);
        }
    }
    Ok(())
}

fn message(part: Part) -> PutArtifactRequest {
    PutArtifactRequest { part: Some(part) }
}
