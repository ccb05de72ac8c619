//! Clients that do not keep to the rules.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Bytes;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::common::{Bearer, Server};

/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What an HTTP/2 client says first: the preface and empty settings.
pub(crate) const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection from another address of this machine, so that it is another peer.
pub(crate) async fn connect(server: &Server) -> TcpStream {
    stranger(server.running.address).await.unwrap()
}

async fn stranger(server: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.2:0".parse().unwrap())?;
    socket.connect(server).await
}

/// A gRPC channel from there.
pub(crate) fn channel(server: &Server) -> Channel {
    let address = server.running.address;
    let connector =
        tower::service_fn(move |_: Uri| async move { stranger(address).await.map(TokioIo::new) });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect_with_connector_lazy(connector)
}

/// Waits until the server has closed the connection; what it says before is dropped.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut said = [0; 1024];
    let read = async { while stream.read(&mut said).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(PATIENCE, read).await.expect("the server closes the connection");
}

/// Sends one byte after the other until the server closes the connection.
pub(crate) async fn drip(mut stream: TcpStream, bytes: &'static [u8]) {
    let (mut reading, mut writing) = stream.split();
    let mut said = [0; 1024];
    let read = async { while reading.read(&mut said).await.is_ok_and(|count| count > 0) {} };
    let write = async {
        for byte in bytes.iter().cycle() {
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let both = async {
        tokio::select! { () = read => {}, () = write => {} }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("the server closes the connection");
}

/// Sends these bytes as a message of the method at `path`, and returns what came of it.
pub(crate) async fn send(
    channel: &Channel,
    bearer: &Bearer,
    path: &'static str,
    bytes: Vec<u8>,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(bytes);
    if let Some(value) = &bearer.0 {
        request.metadata_mut().insert("authorization", value.clone());
    }
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(request, path, Raw).await.map(|_| ())
}

/// Bytes as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, length)))
    }
}
