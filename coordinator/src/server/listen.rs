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
use crate::seldom::Seldom;

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
    let (mut crowded, mut failed) = (Seldom::default(), Seldom::default());
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        // The semaphore is never closed.
        while let Ok(permit) = permits.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let peer = address.ip();
                    let Some(caller) = peers.connect(peer) else {
                        let peer_connections = limits.peer_connections;
                        if crowded.is_due(peer, Instant::now()) {
                            tracing::warn!(
                                %peer,
                                peer_connections,
                                "connections are closed at once: one address may have no more"
                            );
                        }
                        continue;
                    };
                    let look = Box::pin(tokio::time::sleep(limits.idle));
                    let connection = Connection { stream, caller, look, _permit: permit };
                    tokio::spawn(greet(connection, limits.handshake, ready.clone()));
                }
                Err(error) => {
                    if failed.is_due(error.raw_os_error(), Instant::now()) {
                        tracing::warn!(%error, "cannot accept connections for now");
                    }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::AsyncReadExt;
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counts warnings.
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() == Level::WARN
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[tokio::test]
    async fn a_peer_with_too_many_connections_is_warned_of_once() {
        let count = Arc::new(AtomicUsize::new(0));
        let _guard = tracing::subscriber::set_default(Warnings(count.clone()));
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let limits = Limits { peer_connections: 1, ..Limits::default() };
        let stop = CancellationToken::new();
        let _incoming = accept(listener, limits, stop.clone());
        let _held = TcpStream::connect(address).await.unwrap();
        for _ in 0..5 {
            let mut further = TcpStream::connect(address).await.unwrap();
            assert_eq!(further.read(&mut [0]).await.unwrap_or(0), 0);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        stop.cancel();
    }
}
