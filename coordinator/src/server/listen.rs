//! Accepting connections, in bounded number, from peers that speak.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::limit::{Caller, Limits, Peers};

/// Bytes that every HTTP/2 client sends first.
const PREFACE: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Time between two looks at a preface that comes in pieces.
const PIECES: Duration = Duration::from_millis(50);
/// Pause after the system refused to accept, e.g. for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that counts against the limits until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    caller: Caller,
    /// When to look whether it is idle.
    look: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

/// Accepts connections until `stop`. A peer that does not begin to speak HTTP/2 within seconds is
/// dropped, so that silent connections cannot use up the limits; so is a connection that carries
/// no request for a long time, and one of a peer that has too many.
pub(super) fn accept(
    listener: Arc<TcpListener>,
    limits: Limits,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, incoming) = mpsc::channel(64);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let peers = Peers::new(limits);
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        // The semaphore is never closed.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let Some(caller) = peers.connect(address.ip()) else {
                        tracing::debug!(%address, "closed: the peer has too many connections");
                        continue;
                    };
                    let look = Box::pin(tokio::time::sleep(limits.idle));
                    let connection = Connection { stream, caller, look, _permit: permit };
                    tokio::spawn(greet(connection, limits.handshake, ready.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(incoming)
}

async fn greet(
    connection: Connection,
    patience: Duration,
    ready: mpsc::Sender<io::Result<Connection>>,
) {
    let spoke = tokio::time::timeout(patience, preface(&connection.stream)).await;
    if matches!(spoke, Ok(Ok(true))) && connection.stream.set_nodelay(true).is_ok() {
        // After the server's end nobody takes it.
        let _ = ready.send(Ok(connection)).await;
    }
}

/// Waits until the whole preface has arrived, and leaves it to be read. `false` when the peer
/// closed before.
async fn preface(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE];
    loop {
        match stream.peek(&mut seen).await? {
            0 => return Ok(false),
            PREFACE => return Ok(true),
            _ => tokio::time::sleep(PIECES).await,
        }
    }
}

impl Connection {
    /// Whether it has been without a request for too long; wakes when it may be.
    fn is_idle(&mut self, cx: &mut Context<'_>) -> bool {
        while self.look.as_mut().poll(cx).is_ready() {
            let Some(left) = self.caller.idle_in() else { return true };
            self.look.as_mut().reset(Instant::now() + left);
        }
        false
    }
}

impl Connected for Connection {
    /// Each request carries it, so that the gate knows whose it is.
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_idle(cx) {
            // Nothing read reads as the peer's end.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
