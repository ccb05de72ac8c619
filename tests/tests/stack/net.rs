//! Real channels over the simulated network.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};
use turmoil::net::{TcpListener, TcpStream};

use crate::ledger::Ledger;

pub(crate) const PORT: u16 = 7077;
pub(crate) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Time for a call, before it is made again.
const CALL: Duration = Duration::from_secs(4);
/// Time between two tries.
const AGAIN: Duration = Duration::from_millis(300);

/// A connection that the coordinator accepts.
#[derive(Debug)]
pub(crate) struct Connection(TcpStream);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The connections that come to this host.
pub(crate) async fn listen() -> io::Result<impl Stream<Item = io::Result<Connection>>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    Ok(futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| Connection(stream));
        Some((accepted, listener))
    }))
}

/// A channel to the coordinator that connects when it is used, and again when it broke.
pub(crate) fn channel() -> Channel {
    let connector = tower::service_fn(|_: Uri| async {
        TcpStream::connect(("coordinator", PORT)).await.map(TokioIo::new)
    });
    Endpoint::from_static("http://coordinator:7077")
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector)
}

/// A request with the token.
pub(crate) fn request<T>(content: T) -> Request<T> {
    let mut request = Request::new(content);
    let value: MetadataValue<Ascii> = format!("Bearer {TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

/// Makes a call until there is an answer; a refusal that will not change is one.
pub(crate) async fn call<T, F>(ledger: &Ledger, mut attempt: impl FnMut() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<tonic::Response<T>, Status>>,
{
    loop {
        let late = || Err(Status::deadline_exceeded("no answer"));
        let answer = tokio::time::timeout(CALL, attempt()).await.unwrap_or_else(|_| late());
        match answer {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => match status.code() {
                Code::InvalidArgument | Code::NotFound | Code::AlreadyExists => return Err(status),
                Code::Unauthenticated | Code::Unimplemented => panic!("{status}"),
                _ => {}
            },
        }
        ledger.entries().retries += 1;
        tokio::time::sleep(AGAIN).await;
    }
}
