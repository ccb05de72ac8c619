//! The connection to the coordinator.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deptune_proto::v1::artifact_service_client::ArtifactServiceClient;
use deptune_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::options::Token;
use crate::protocol::CallError;

/// Most bytes of an answer: leases for all slots, with their settings.
const MAX_ANSWER: usize = 64 << 20;

/// A cheap handle on the coordinator, by whichever of its addresses answers.
#[derive(Debug)]
pub(super) struct Client {
    token: Token,
    servers: Vec<Server>,
    current: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    /// Heartbeats and leases.
    control: Channel,
    /// Files: on a connection of their own, so that no heartbeat waits behind one.
    bulk: Channel,
}

impl Client {
    /// Connects when first used, and again whenever the connection is lost.
    pub(super) fn new(servers: &[Uri], token: Token) -> Client {
        let channel = |uri: &Uri| {
            Endpoint::from(uri.clone())
                .connect_timeout(Duration::from_secs(5))
                .tcp_nodelay(true)
                // Finds out about a dead connection while nothing is sent.
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .keep_alive_while_idle(true)
                .connect_lazy()
        };
        let servers = servers.iter().map(|u| Server { control: channel(u), bulk: channel(u) });
        Client { token, servers: servers.collect(), current: AtomicUsize::new(0) }
    }

    fn server(&self) -> Result<&Server, CallError> {
        let current = self.current.load(Ordering::Relaxed) % self.servers.len().max(1);
        let none = || CallError::Unreachable("no coordinator is given".to_owned());
        self.servers.get(current).ok_or_else(none)
    }

    pub(super) fn worker(&self) -> Result<WorkerServiceClient<Channel>, CallError> {
        let client = WorkerServiceClient::new(self.server()?.control.clone());
        Ok(client.max_decoding_message_size(MAX_ANSWER))
    }

    pub(super) fn artifacts(&self) -> Result<ArtifactServiceClient<Channel>, CallError> {
        Ok(ArtifactServiceClient::new(self.server()?.bulk.clone()))
    }

    /// A request that carries the token and a deadline.
    pub(super) fn request<T>(
        &self,
        content: T,
        deadline: Duration,
    ) -> Result<Request<T>, CallError> {
        let mut request = Request::new(content);
        request.set_timeout(deadline);
        request.metadata_mut().insert("authorization", self.bearer()?);
        Ok(request)
    }

    fn bearer(&self) -> Result<MetadataValue<Ascii>, CallError> {
        let text = match &self.token {
            Token::Text(text) => text.clone(),
            // A coordinator that starts later makes its token later.
            Token::File(path) => fs::read_to_string(path).map_err(|error| {
                let path = path.display();
                CallError::Unreachable(format!("cannot read the token file {path}: {error}"))
            })?,
        };
        let value = format!("Bearer {}", text.trim());
        let wrong = |_| CallError::Denied("the token holds characters that no token has".into());
        let mut value = MetadataValue::try_from(value).map_err(wrong)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What a failed call means. After one that reached nobody, the next address is tried.
    pub(super) fn error(&self, status: &Status) -> CallError {
        let error = classify(status);
        if matches!(error, CallError::Unreachable(_)) && self.servers.len() > 1 {
            self.current.fetch_add(1, Ordering::Relaxed);
        }
        error
    }
}

fn classify(status: &Status) -> CallError {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    match reason.as_str() {
        "UNKNOWN_WORKER" => return CallError::UnknownWorker,
        "ARTIFACT_MISSING" => return CallError::MissingFile,
        "HASH_MISMATCH" | "TOO_LARGE" => return CallError::Refused(status.message().to_owned()),
        _ => {}
    }
    let words = status.message();
    let said = if words.is_empty() { status.code().description() } else { words }.to_owned();
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => CallError::Denied(said),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => CallError::Refused(said),
        _ => CallError::Unreachable(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    #[test]
    fn the_reason_decides_before_the_code() {
        let with = |code, reason: &str| {
            let mut details = ErrorDetails::new();
            details.set_error_info(reason, "deptune", HashMap::new());
            classify(&Status::with_error_details(code, "said", details))
        };
        assert_eq!(with(Code::NotFound, "UNKNOWN_WORKER"), CallError::UnknownWorker);
        assert_eq!(with(Code::FailedPrecondition, "ARTIFACT_MISSING"), CallError::MissingFile);
        assert_eq!(with(Code::Aborted, "HASH_MISMATCH"), CallError::Refused("said".into()));
        assert_eq!(with(Code::Unavailable, "BUSY"), CallError::Unreachable("said".into()));
        let denied = classify(&Status::unauthenticated("no"));
        assert_eq!(denied, CallError::Denied("no".into()));
    }
}
