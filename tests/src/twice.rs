//! A relay that delivers every call twice, as a network with retries on the way may.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Collected, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A relay on a loopback port of its own. Lives as long as the test's process.
#[derive(Debug)]
pub struct Twice {
    /// `host:port` for clients.
    pub address: String,
    calls: Arc<AtomicU64>,
}

impl Twice {
    /// Relays to `target`.
    #[must_use]
    pub fn start(target: &str) -> Twice {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (target, calls) = (target.to_owned(), Arc::new(AtomicU64::new(0)));
        let counted = calls.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(serve(listener, target, counted))
        });
        Twice { address, calls }
    }

    /// Calls that were delivered twice.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn serve(listener: std::net::TcpListener, target: String, calls: Arc<AtomicU64>) {
    let listener = TcpListener::from_std(listener).unwrap();
    while let Ok((client, _)) = listener.accept().await {
        let (target, calls) = (target.clone(), calls.clone());
        tokio::spawn(async move {
            let server = TcpStream::connect(&target).await?;
            let io = TokioIo::new(server);
            let (sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            let uri = format!("http://{target}");
            let service = service_fn(move |request| {
                deliver(request, sender.clone(), uri.clone(), calls.clone())
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            server.serve_connection(TokioIo::new(client), service).await?;
            Ok::<(), Failure>(())
        });
    }
}

/// Sends a call to its end, then again, and passes on the second answer.
async fn deliver(
    request: Request<Incoming>,
    mut sender: SendRequest<Full<Bytes>>,
    target: String,
    calls: Arc<AtomicU64>,
) -> Result<Response<Collected<Bytes>>, Failure> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = format!("{target}{path}").parse::<Uri>()?;
    let mut answer = None;
    for _ in 0..2 {
        let again = Request::from_parts(head.clone(), Full::new(body.clone()));
        let (head, body) = sender.send_request(again).await?.into_parts();
        answer = Some(Response::from_parts(head, body.collect().await?));
    }
    calls.fetch_add(1, Ordering::SeqCst);
    answer.ok_or_else(|| "no answer".into())
}
