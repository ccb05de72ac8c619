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

/// A cheap handle on the coordinator: of several, the one that leads.
#[derive(Debug)]
pub(super) struct Client {
    token: Token,
    servers: Vec<Server>,
    /// The number of the one in use.
    current: AtomicUsize,
}

/// Which coordinator a call went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At(usize);

#[derive(Debug)]
struct Server {
    /// `host:port`.
    address: String,
    /// Heartbeats and leases.
    control: Channel,
    /// Files: on a connection of their own, so that no heartbeat waits behind one.
    bulk: Channel,
}

impl Client {
    /// Connects when first used, and again whenever the connection is lost.
    pub(super) fn new(servers: &[Uri], token: Token) -> Client {
        // Finds out about a dead connection while nothing is sent; soon, where another coordinator
        // may have taken over.
        let (every, within) = if servers.len() > 1 { (5, 5) } else { (20, 10) };
        let channel = |uri: &Uri| {
            Endpoint::from(uri.clone())
                .connect_timeout(Duration::from_secs(5))
                .tcp_nodelay(true)
                .http2_keep_alive_interval(Duration::from_secs(every))
                .keep_alive_timeout(Duration::from_secs(within))
                .keep_alive_while_idle(true)
                .connect_lazy()
        };
        let server = |uri: &Uri| Server {
            address: uri.authority().map(ToString::to_string).unwrap_or_default(),
            control: channel(uri),
            bulk: channel(uri),
        };
        let servers = servers.iter().map(server).collect();
        Client { token, servers, current: AtomicUsize::new(0) }
    }

    fn server(&self) -> Result<(At, &Server), CallError> {
        let at = self.current.load(Ordering::Relaxed);
        let none = || CallError::Unreachable("no coordinator is given".to_owned());
        self.servers.get(at).map(|server| (At(at), server)).ok_or_else(none)
    }

    pub(super) fn worker(&self) -> Result<(At, WorkerServiceClient<Channel>), CallError> {
        let (at, server) = self.server()?;
        let client = WorkerServiceClient::new(server.control.clone());
        Ok((at, client.max_decoding_message_size(MAX_ANSWER)))
    }

    pub(super) fn artifacts(&self) -> Result<(At, ArtifactServiceClient<Channel>), CallError> {
        let (at, server) = self.server()?;
        Ok((at, ArtifactServiceClient::new(server.bulk.clone())))
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

    /// What a failed call means. After one that reached no leader, another address is used: the
    /// leader's, if it was named and is one of ours, else the next.
    pub(super) fn error(&self, at: At, status: &Status) -> CallError {
        let error = classify(status);
        if matches!(error, CallError::Unreachable(_)) {
            let info = status.get_details_error_info();
            let leader = info.and_then(|mut info| info.metadata.remove("leader"));
            let named = self.servers.iter().position(|s| Some(&s.address) == leader.as_ref());
            self.turn(at, named);
        }
        error
    }

    /// A call that was not answered in time.
    pub(super) fn silence(&self, at: At, what: &str) -> CallError {
        self.turn(at, None);
        CallError::Unreachable(what.to_owned())
    }

    /// Leaves the coordinator that a call went to, unless another call did so already.
    fn turn(&self, At(from): At, to: Option<usize>) {
        let next = to.unwrap_or((from + 1) % self.servers.len().max(1));
        let turned =
            self.current.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
        if turned.is_ok() && next != from {
            let to = self.servers.get(next).map(|server| server.address.as_str());
            tracing::debug!(to, "trying another coordinator");
        }
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

    fn two() -> Client {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let servers = [uri("http://127.0.0.1:1"), uri("http://127.0.0.1:2")];
        Client::new(&servers, Token::Text("x".to_owned()))
    }

    #[tokio::test]
    async fn calls_that_fail_together_turn_once() {
        let client = two();
        let (first, _) = client.worker().unwrap();
        let (also, _) = client.artifacts().unwrap();
        client.error(first, &Status::unavailable("gone"));
        client.silence(also, "no answer");
        assert_eq!(client.worker().unwrap().0, At(1));
        // A refusal is an answer.
        client.error(At(1), &Status::invalid_argument("no"));
        assert_eq!(client.worker().unwrap().0, At(1));
        client.silence(At(1), "no answer");
        assert_eq!(client.worker().unwrap().0, At(0));
    }

    #[tokio::test]
    async fn the_leader_is_followed_if_it_is_one_of_ours() {
        let client = two();
        let standby = |leader: &str| {
            let mut details = ErrorDetails::new();
            let metadata = HashMap::from([("leader".to_owned(), leader.to_owned())]);
            details.set_error_info("NOT_LEADING", "deptune", metadata);
            Status::with_error_details(Code::Unavailable, "stands by", details)
        };
        client.error(At(0), &standby("127.0.0.1:1"));
        assert_eq!(client.worker().unwrap().0, At(0));
        client.error(At(0), &standby("evil.example:1"));
        assert_eq!(client.worker().unwrap().0, At(1));
    }

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
