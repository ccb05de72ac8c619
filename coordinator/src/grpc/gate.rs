//! What every request passes before a service sees it: the token, whether this coordinator leads,
//! and a bound on its time.
//! A service that is added later is behind the gate without a word about it.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::status::{Reason, not_leading, status};
use crate::auth::Token;

/// Open to everyone: it tells nothing but whether the coordinator serves.
const OPEN: &str = "/grpc.health.v1.Health/";
/// Takes as long as its bytes do; bounded piece by piece instead.
const UPLOAD: &str = "/deptune.v1.ArtifactService/PutArtifact";
/// Time for everything else, up to the first message of an answer.
const LIMIT: Duration = Duration::from_secs(30);

/// Puts the gate before a service.
#[derive(Debug, Clone)]
pub(crate) struct GateLayer {
    token: Token,
    leader: Option<watch::Receiver<Option<String>>>,
}

impl GateLayer {
    pub(crate) fn new(token: Token) -> GateLayer {
        GateLayer { token, leader: None }
    }

    /// Nothing passes but health: who asks hears which coordinator leads.
    pub(crate) fn standing_by(self, leader: watch::Receiver<Option<String>>) -> GateLayer {
        GateLayer { leader: Some(leader), ..self }
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, token: self.token.clone(), leader: self.leader.clone() }
    }
}

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Gate<S> {
    inner: S,
    token: Token,
    leader: Option<watch::Receiver<Option<String>>>,
}

impl<S, I, O> Service<Request<I>> for Gate<S>
where
    S: Service<Request<I>, Response = Response<O>> + Clone + Send + 'static,
    S::Future: Send,
    I: Send + 'static,
    O: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let path = request.uri().path();
        let shown = request.headers().get("authorization").map(|value| value.as_bytes());
        if !path.starts_with(OPEN) && !self.token.admits(shown) {
            let refused = refused(shown.is_some()).into_http();
            return Box::pin(async move { Ok(refused) });
        }
        if let Some(leader) = self.leader.as_ref().filter(|_| !path.starts_with(OPEN)) {
            let elsewhere = not_leading(leader.borrow().as_deref()).into_http();
            return Box::pin(async move { Ok(elsewhere) });
        }
        let unbounded = path == UPLOAD;
        // The service that is ready is the one to call; its clone takes its place.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let answer = ready.call(request);
            if unbounded {
                return answer.await;
            }
            tokio::time::timeout(LIMIT, answer).await.unwrap_or_else(|_| {
                let text = format!("the request took longer than {} seconds", LIMIT.as_secs());
                let status = status(Code::DeadlineExceeded, Reason::DeadlineExceeded, text);
                Ok(status.into_http())
            })
        })
    }
}

fn refused(shown: bool) -> Status {
    let what = if shown { "the token is not this coordinator's" } else { "a token is required" };
    let text = format!(
        "{what}: send the metadata 'authorization: Bearer TOKEN' with the content of the \
         coordinator's token file (its path is in coordinator.json in the data directory; the \
         command line takes --token-file or DEPTUNE_TOKEN_FILE)"
    );
    status(Code::Unauthenticated, Reason::Unauthenticated, text)
}
