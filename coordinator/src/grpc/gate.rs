//! What every request passes before a service sees it: the limits of its caller, the token,
//! whether this coordinator leads, and a bound on its time. A service that is added later is behind the gate without a word about it.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::answer::Answer;
use super::status::{Reason, not_leading, soon, status};
use crate::auth::Token;
use crate::limit::{Caller, Excess};

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
    type Response = Response<Answer<O>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let path = request.uri().path();
        let shown = request.headers().get("authorization").map(|value| value.as_bytes());
        let stranger = !path.starts_with(OPEN) && !self.token.admits(shown);
        // Only a connection that was accepted elsewhere, as in a test, has no caller.
        let caller = request.extensions().get::<Caller>();
        let open = match caller.map(|caller| caller.admit(stranger)).transpose() {
            Ok(open) => open,
            Err(excess) => {
                let refused = refusal(&too_much(excess));
                return Box::pin(async move { Ok(refused) });
            }
        };
        if stranger {
            let refused = refusal(&refused(shown.is_some()));
            return Box::pin(async move { Ok(refused) });
        }
        if let Some(leader) = self.leader.as_ref().filter(|_| !path.starts_with(OPEN)) {
            let elsewhere = refusal(&not_leading(leader.borrow().as_deref()));
            return Box::pin(async move { Ok(elsewhere) });
        }
        let unbounded = path == UPLOAD;
        // The service that is ready is the one to call; its clone takes its place.
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let answer = ready.call(request);
            let answered = if unbounded {
                Some(answer.await)
            } else {
                tokio::time::timeout(LIMIT, answer).await.ok()
            };
            match answered {
                Some(answer) => Ok(answer?.map(|body| Answer::new(body, open))),
                None => {
                    let text = format!("the request took longer than {} seconds", LIMIT.as_secs());
                    let late = status(Code::DeadlineExceeded, Reason::DeadlineExceeded, text);
                    Ok(refusal(&late))
                }
            }
        })
    }
}

/// An answer without content.
fn refusal<O: Default>(status: &Status) -> Response<Answer<O>> {
    status.clone().into_http::<O>().map(|body| Answer::new(body, None))
}

fn too_much(excess: Excess) -> Status {
    let (reason, text) = match excess {
        Excess::Rate => {
            (Reason::RateLimited, "this connection sends more requests per second than allowed")
        }
        Excess::Open => (Reason::Busy, "more requests are open than the coordinator can take"),
    };
    soon(Code::ResourceExhausted, reason, text)
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
