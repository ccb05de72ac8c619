//! `ArtifactService`.

use std::time::Duration;

use deptune_proto::convert::{self, InvalidField, Problem};
use deptune_proto::v1;
use deptune_proto::v1::artifact_service_server::ArtifactService;
use deptune_proto::v1::put_artifact_request::{Header, Part};
use deptune_sweep::id::{Epoch, TrialId};
use futures::StreamExt;
use tokio::io::AsyncReadExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::status::{Reason, invalid_field, status};
use crate::api::{Api, Error};
use crate::artifact::{CHUNK, Kind, Upload};

/// Most hashes in one question.
const MAX_HASHES: usize = 1000;
/// An upload without a piece for this long is given up.
const IDLE: Duration = Duration::from_secs(60);

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Artifacts(pub(crate) Api);

fn wrong(field: &str, problem: Problem) -> Status {
    invalid_field(&InvalidField::new(field, problem))
}

fn trial_id(wire: Option<v1::TrialId>) -> Result<TrialId, Status> {
    let wire = wire.ok_or_else(|| wrong("trial", Problem::Missing))?;
    TrialId::try_from(wire).map_err(|e| invalid_field(&e.within("trial")))
}

/// The next message of an upload; `None` at its end.
async fn next(stream: &mut Streaming<v1::PutArtifactRequest>) -> Result<Option<Part>, Status> {
    let Ok(message) = tokio::time::timeout(IDLE, stream.message()).await else {
        let text = format!("no piece of the file came for {} seconds", IDLE.as_secs());
        return Err(status(tonic::Code::DeadlineExceeded, Reason::DeadlineExceeded, text));
    };
    match message? {
        None => Ok(None),
        Some(message) => message.part.map(Some).ok_or_else(|| wrong("part", Problem::Missing)),
    }
}

impl Artifacts {
    async fn begin(&self, header: Header) -> Result<Upload, Status> {
        let hash = convert::hash(&header.hash, "header.hash").map_err(Error::from)?;
        let kind = Kind::from_name(&header.kind).ok_or_else(|| {
            let found = header.kind.chars().take(64).collect();
            let expected = "data, model, checkpoint or adapter";
            wrong("header.kind", Problem::Unknown { found, expected })
        })?;
        let upload = self.0.artifacts.upload(hash, header.size, kind).await;
        Ok(upload.map_err(Error::from)?)
    }
}

#[tonic::async_trait]
impl ArtifactService for Artifacts {
    type GetArtifactStream = BoxStream<v1::GetArtifactResponse>;
    type ReadTrialLogStream = BoxStream<v1::ReadTrialLogResponse>;

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let hashes = request.into_inner().hashes;
        let (found, limit) = (hashes.len(), MAX_HASHES);
        if found > limit {
            return Err(wrong("hashes", Problem::TooMany { found, limit }));
        }
        let read = |(at, hash): (usize, &String)| convert::hash(hash, &format!("hashes[{at}]"));
        let hashes = hashes.iter().enumerate().map(read).collect::<Result<_, InvalidField>>();
        let missing = self.0.missing(hashes.map_err(Error::from)?).await?;
        let missing = missing.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::FindMissingResponse { missing }))
    }

    async fn put_artifact(
        &self,
        request: Request<Streaming<v1::PutArtifactRequest>>,
    ) -> Result<Response<v1::PutArtifactResponse>, Status> {
        let mut stream = request.into_inner();
        let Some(Part::Header(header)) = next(&mut stream).await? else {
            return Err(wrong("header", Problem::Missing));
        };
        let mut upload = self.begin(header).await?;
        while let Some(part) = next(&mut stream).await? {
            let Part::Chunk(chunk) = part else {
                return Err(wrong("chunk", Problem::Missing));
            };
            upload.write(&chunk).await.map_err(Error::from)?;
        }
        let existed = upload.finish().await.map_err(Error::from)?;
        Ok(Response::new(v1::PutArtifactResponse { existed }))
    }

    async fn get_artifact(
        &self,
        request: Request<v1::GetArtifactRequest>,
    ) -> Result<Response<Self::GetArtifactStream>, Status> {
        let hash = convert::hash(&request.into_inner().hash, "hash").map_err(Error::from)?;
        let (file, size) = self.0.artifacts.read(&hash).await.map_err(Error::from)?;
        let pieces = futures::stream::try_unfold((file, size, true), move |state| {
            let hash = hash.clone();
            async move {
                let (file, size, first) = state;
                let mut chunk = Vec::with_capacity(CHUNK);
                let mut piece = file.take(CHUNK as u64);
                piece.read_to_end(&mut chunk).await.map_err(|error| {
                    tracing::error!(%hash, %error, "cannot read an artifact");
                    let text = format!("cannot read artifact {hash}: {error}");
                    status(tonic::Code::Internal, Reason::StorageFailed, text)
                })?;
                if chunk.is_empty() && !first {
                    return Ok::<_, Status>(None);
                }
                // The first message is sent for an empty file too.
                let message = v1::GetArtifactResponse { chunk, size: if first { size } else { 0 } };
                Ok(Some((message, (piece.into_inner(), size, false))))
            }
        });
        Ok(Response::new(pieces.boxed()))
    }

    async fn append_trial_log(
        &self,
        request: Request<v1::AppendTrialLogRequest>,
    ) -> Result<Response<v1::AppendTrialLogResponse>, Status> {
        let request = request.into_inner();
        let trial = trial_id(request.trial)?;
        let epoch = Epoch(request.epoch);
        let length = self.0.append_log(trial, epoch, request.offset, &request.text).await?;
        Ok(Response::new(v1::AppendTrialLogResponse { length }))
    }

    async fn read_trial_log(
        &self,
        request: Request<v1::ReadTrialLogRequest>,
    ) -> Result<Response<Self::ReadTrialLogStream>, Status> {
        let request = request.into_inner();
        let only = Some(Epoch(request.epoch)).filter(|epoch| epoch.0 != 0);
        let pieces = self.0.read_log(trial_id(request.trial)?, only, request.follow).await?;
        let message = |piece: crate::api::LogPiece| v1::ReadTrialLogResponse {
            epoch: piece.epoch.0,
            text: piece.text,
        };
        Ok(Response::new(pieces.map(move |piece| Ok(message(piece?))).boxed()))
    }
}
