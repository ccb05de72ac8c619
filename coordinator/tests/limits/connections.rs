//! Connections: how many, how silent, how slow.

use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::watch_sweep_response::What;
use tokio::io::AsyncWriteExt;

use crate::bystander::Bystander;
use crate::common::{Server, new_id};
use crate::wire::{HELLO, closed, connect, drip};

#[tokio::test]
async fn one_peer_cannot_take_all_connections() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        options.limits.connections = 10;
        options.limits.peer_connections = 4;
    });
    let server = server.await.unwrap();
    let bystander = Bystander::start(&server);
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = connect(&server).await;
        stream.write_all(HELLO).await.unwrap();
        held.push(stream);
    }
    for _ in 0..40 {
        closed(&mut connect(&server).await).await;
    }
    bystander.end("40 connections of a peer that has its share").await;
    // Its own are as good as before: one that goes makes room for another.
    drop(held.pop());
    server.stop().await;
}

#[tokio::test]
async fn silent_slow_and_idle_connections_are_closed_and_streams_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        options.limits.handshake = Duration::from_secs(1);
        options.limits.idle = Duration::from_secs(1);
    });
    let server = server.await.unwrap();
    server.submit().await;
    let request = v1::WatchSweepRequest { sweep: "1".to_owned(), cursor: 0 };
    let mut news = server.sweeps().watch_sweep(request).await.unwrap().into_inner();
    let bystander = Bystander::start(&server);

    let mut silent = connect(&server).await;
    let mut idle = connect(&server).await;
    idle.write_all(HELLO).await.unwrap();
    closed(&mut silent).await;
    closed(&mut idle).await;
    drip(connect(&server).await, b"PRI * HTTP/2.0").await;
    // A header block that never ends.
    let mut slow = connect(&server).await;
    slow.write_all(HELLO).await.unwrap();
    slow.write_all(b"\0\x40\0\x01\0\0\0\0\x01").await.unwrap();
    drip(slow, b"\x82").await;
    bystander.end("silent, slow and idle connections").await;

    // The stream is older than all of these and has been open all the time.
    let cancel = v1::CancelSweepRequest { request_id: new_id(), sweep: "1".to_owned() };
    server.sweeps().cancel_sweep(cancel).await.unwrap();
    let mut ended = false;
    while let Some(one) = news.message().await.unwrap() {
        let Some(What::Entry(entry)) = one.what else { continue };
        ended |= matches!(entry.what, Some(v1::log_entry::What::Finished(_)));
    }
    assert!(ended);
    server.stop().await;
}
