//! The connection to a coordinator: address, token, retries.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deptune_proto::v1::admin_service_client::AdminServiceClient;
use deptune_proto::v1::artifact_service_client::ArtifactServiceClient;
use deptune_proto::v1::sweep_service_client::SweepServiceClient;
use deptune_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::output::error::Error;
use crate::paths::Target;
use crate::status;

/// Time that establishing a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time that a call that answers at once may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a call is tried when the coordinator cannot be reached.
const TRIES: u32 = 5;

/// The wait after the first failed try; it doubles with every try.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long one of several coordinators may take to lead when none does.
const TAKEOVER: Duration = Duration::from_secs(60);

/// Adds the token to every request.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Bearer>;

/// The services of a coordinator, or of several that share a database, of which one leads.
#[derive(Clone)]
pub(crate) struct Client {
    servers: Arc<[Server]>,
    /// Which of them is in use.
    current: Arc<AtomicUsize>,
    /// Where the token came from.
    token_file: Option<PathBuf>,
}

/// Which coordinator a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(usize);

/// One coordinator.
struct Server {
    address: String,
    sweeps: SweepServiceClient<Authorized>,
    artifacts: ArtifactServiceClient<Authorized>,
    workers: WorkerServiceClient<Authorized>,
    admin: AdminServiceClient<Authorized>,
}

impl Server {
    fn new(address: &str, channel: Channel, bearer: &Bearer) -> Server {
        let service = InterceptedService::new(channel, bearer.clone());
        Server {
            address: address.to_owned(),
            sweeps: SweepServiceClient::new(service.clone()).max_decoding_message_size(64 << 20),
            artifacts: ArtifactServiceClient::new(service.clone()),
            workers: WorkerServiceClient::new(service.clone()),
            admin: AdminServiceClient::new(service),
        }
    }
}

impl Client {
    /// Connects to the first of the addresses that answers.
    ///
    /// # Errors
    /// An unreadable token, an address that is none, or no answer from any of them.
    pub(crate) async fn connect(target: &Target) -> Result<Client, Error> {
        let bearer = Bearer(match &target.token_file {
            Some(file) => Some(read_token(file)?),
            None => None,
        });
        let several = target.addresses.len() > 1;
        let mut servers = Vec::new();
        let mut current = None;
        let mut last = None;
        for address in &target.addresses {
            let endpoint = endpoint(address, several)?;
            if current.is_some() {
                servers.push(Server::new(address, endpoint.connect_lazy(), &bearer));
                continue;
            }
            match endpoint.connect().await {
                Ok(channel) => {
                    current = Some(servers.len());
                    servers.push(Server::new(address, channel, &bearer));
                }
                Err(error) => {
                    tracing::debug!(%address, error = ?error, "no connection");
                    servers.push(Server::new(address, endpoint.connect_lazy(), &bearer));
                    last = Some(Error::Rpc {
                        doing: "connect",
                        address: address.clone(),
                        token: target.token_file.clone(),
                        status: Box::new(Status::unavailable(innermost(&error))),
                    });
                }
            }
        }
        match (current, last) {
            (Some(current), _) => Ok(Client {
                servers: servers.into(),
                current: Arc::new(AtomicUsize::new(current)),
                token_file: target.token_file.clone(),
            }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::Usage {
                what: "no address of a coordinator is given".to_owned(),
                hint: "name one with --server HOST:PORT".to_owned(),
            }),
        }
    }

    fn server(&self) -> &Server {
        // There is at least one, and the number is always one of them.
        &self.servers[self.at().0 % self.servers.len()]
    }

    /// The coordinator that the next call goes to; to be asked before the call is made.
    pub(crate) fn at(&self) -> At {
        At(self.current.load(Ordering::Relaxed))
    }

    /// The service for sweeps.
    pub(crate) fn sweeps(&self) -> SweepServiceClient<Authorized> {
        self.server().sweeps.clone()
    }

    /// The service for files and logs.
    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Authorized> {
        self.server().artifacts.clone()
    }

    /// The service for people who run a cluster.
    pub(crate) fn admin(&self) -> AdminServiceClient<Authorized> {
        self.server().admin.clone()
    }

    /// The service for agents, which benchmarks speak to.
    pub(crate) fn workers(&self) -> WorkerServiceClient<Authorized> {
        self.server().workers.clone()
    }

    /// The address in use.
    pub(crate) fn address(&self) -> &str {
        &self.server().address
    }

    /// After a call that reached no leader: the next address, or the leader's if it is one of ours,
    /// unless another call has left that coordinator already: of several that fail at once only one
    /// turns. An address that we were not given gets no token.
    pub(crate) fn turn(&self, At(from): At, status: &Status) {
        let leader = status::leader(status);
        let named = self.servers.iter().position(|server| Some(&server.address) == leader.as_ref());
        let next = named.unwrap_or((from + 1) % self.servers.len());
        // Where it fails, somebody else has turned.
        let _ = self.current.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The patience for one call whose repetition is harmless.
    pub(crate) fn tries(&self) -> Tries<'_> {
        let until = (self.servers.len() > 1).then(|| Instant::now() + TAKEOVER);
        Tries { client: self, left: TRIES, until, wait: FIRST_WAIT }
    }

    /// Makes a call whose repetition is harmless, several times if the coordinator cannot be
    /// reached.
    ///
    /// # Errors
    /// The coordinator's refusal, or that it could not be reached at the last try.
    pub(crate) async fn call<T, F>(
        &self,
        doing: &'static str,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut tries = self.tries();
        loop {
            let at = self.at();
            let answer = tokio::time::timeout(CALL_TIMEOUT, attempt())
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            match answer {
                Ok(value) => return Ok(value),
                Err(status) if tries.again(at, &status).await => {}
                Err(status) => return Err(self.refused(doing, status)),
            }
        }
    }

    /// The error for a refused call.
    pub(crate) fn refused(&self, doing: &'static str, status: Status) -> Error {
        Error::Rpc {
            doing,
            address: self.address().to_owned(),
            token: self.token_file.clone(),
            status: Box::new(status),
        }
    }
}

/// How often, and for how long, a call is repeated.
pub(crate) struct Tries<'c> {
    client: &'c Client,
    /// Where there is one coordinator: tries left.
    left: u32,
    /// Where there are several: until when one of them must lead.
    until: Option<Instant>,
    wait: Duration,
}

impl Tries<'_> {
    /// Whether to try again after this answer of the coordinator that was asked; waits before it says
    /// so, and turns to another one where there is one.
    pub(crate) async fn again(&mut self, at: At, status: &Status) -> bool {
        self.left = self.left.saturating_sub(1);
        let patient = match self.until {
            None => self.left > 0,
            Some(until) => Instant::now() < until,
        };
        if !patient || !status::is_transient(status) {
            return false;
        }
        tracing::debug!(%status, "trying again");
        self.client.turn(at, status);
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        true
    }
}

/// How a coordinator is connected to.
fn endpoint(address: &str, several: bool) -> Result<Endpoint, Error> {
    let url =
        if address.contains("://") { address.to_owned() } else { format!("http://{address}") };
    // Where another one may take over, one that is silent is given up soon.
    let alive = if several { Duration::from_secs(5) } else { Duration::from_secs(20) };
    Ok(Endpoint::from_shared(url)
        .map_err(|source| Error::Address { address: address.to_owned(), source })?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(alive)
        .keep_alive_timeout(alive))
}

/// The deepest cause: the others only say that something failed.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

/// Reads a token file: one line.
fn read_token(file: &std::path::Path) -> Result<MetadataValue<Ascii>, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| Error::Token { path: file.to_owned(), source })?;
    let token = text.trim();
    let mut value: MetadataValue<Ascii> = format!("Bearer {token}")
        .parse()
        .ok()
        .filter(|_| !token.is_empty() && !token.contains(char::is_whitespace))
        .ok_or_else(|| Error::NoToken { path: file.to_owned() })?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_calls_that_fail_at_once_only_one_turns() {
        let server = |address: &str| {
            let channel = endpoint(address, true).unwrap().connect_lazy();
            Server::new(address, channel, &Bearer(None))
        };
        let client = Client {
            servers: ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"].map(server).into(),
            current: Arc::new(AtomicUsize::new(0)),
            token_file: None,
        };
        let gone = Status::unavailable("gone");
        let asked = client.at();
        for _ in 0..3 {
            client.turn(asked, &gone);
            assert_eq!(client.address(), "127.0.0.1:2");
        }
        client.turn(client.at(), &gone);
        assert_eq!(client.address(), "127.0.0.1:3");
        client.turn(client.at(), &gone);
        assert_eq!(client.address(), "127.0.0.1:1", "all in turns");
    }
}
