//! The connection to a coordinator: address, token, retries.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

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

/// The services of a coordinator.
#[derive(Clone)]
pub(crate) struct Client {
    /// The address in use.
    address: String,
    /// Where the token came from.
    token_file: Option<PathBuf>,
    sweeps: SweepServiceClient<Authorized>,
    artifacts: ArtifactServiceClient<Authorized>,
    workers: WorkerServiceClient<Authorized>,
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
        let mut last = None;
        for address in &target.addresses {
            let url =
                if address.contains("://") { address.clone() } else { format!("http://{address}") };
            let endpoint = Endpoint::from_shared(url)
                .map_err(|source| Error::Address { address: address.clone(), source })?
                .connect_timeout(CONNECT_TIMEOUT)
                .http2_keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(20));
            match endpoint.connect().await {
                Ok(channel) => {
                    let service = InterceptedService::new(channel, bearer.clone());
                    return Ok(Client {
                        address: address.clone(),
                        token_file: target.token_file.clone(),
                        sweeps: SweepServiceClient::new(service.clone())
                            .max_decoding_message_size(64 << 20),
                        artifacts: ArtifactServiceClient::new(service.clone()),
                        workers: WorkerServiceClient::new(service),
                    });
                }
                Err(error) => {
                    tracing::debug!(%address, error = ?error, "no connection");
                    last = Some(Error::Rpc {
                        doing: "connect",
                        address: address.clone(),
                        token: target.token_file.clone(),
                        status: Box::new(Status::unavailable(innermost(&error))),
                    });
                }
            }
        }
        Err(last.unwrap_or(Error::Usage {
            what: "no address of a coordinator is given".to_owned(),
            hint: "name one with --server HOST:PORT".to_owned(),
        }))
    }

    /// The service for sweeps.
    pub(crate) fn sweeps(&self) -> SweepServiceClient<Authorized> {
        self.sweeps.clone()
    }

    /// The service for files and logs.
    pub(crate) fn artifacts(&self) -> ArtifactServiceClient<Authorized> {
        self.artifacts.clone()
    }

    /// The service for agents, which benchmarks speak to.
    pub(crate) fn workers(&self) -> WorkerServiceClient<Authorized> {
        self.workers.clone()
    }

    /// The address in use.
    pub(crate) fn address(&self) -> &str {
        &self.address
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
        let mut wait = FIRST_WAIT;
        for tries_left in (0..TRIES).rev() {
            let answer = tokio::time::timeout(CALL_TIMEOUT, attempt())
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            match answer {
                Ok(value) => return Ok(value),
                Err(status) if tries_left > 0 && status::is_transient(&status) => {
                    tracing::debug!(doing, %status, "trying again");
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
                Err(status) => return Err(self.refused(doing, status)),
            }
        }
        Err(self.refused(doing, Status::unavailable("no try left")))
    }

    /// The error for a refused call.
    pub(crate) fn refused(&self, doing: &'static str, status: Status) -> Error {
        Error::Rpc {
            doing,
            address: self.address.clone(),
            token: self.token_file.clone(),
            status: Box::new(status),
        }
    }
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
