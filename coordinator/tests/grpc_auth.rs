//! Who may speak to the coordinator, and how it stands and falls.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Bearer, Server, reason};
use deptune_coordinator::{ADDRESS_FILE, AddressFile, ServeError};
use deptune_proto::v1;
use deptune_proto::v1::sweep_service_client::SweepServiceClient;
use tokio::io::AsyncReadExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

#[tokio::test]
async fn without_the_token_only_health_answers() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let wrong = format!("Bearer {}", "0".repeat(64)).parse().unwrap();
    for (bearer, words) in [(None, "a token is required"), (Some(wrong), "not this coordinator's")]
    {
        let mut client =
            SweepServiceClient::with_interceptor(server.channel.clone(), Bearer(bearer));
        let status = client.list_sweeps(v1::ListSweepsRequest::default()).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::Unauthenticated, "UNAUTHENTICATED".to_owned())
        );
        assert!(status.message().contains(words), "{}", status.message());
    }
    let mut health = HealthClient::new(server.channel.clone());
    let request = HealthCheckRequest { service: "deptune.v1.SweepService".to_owned() };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
    server.stop().await;
}

#[tokio::test]
async fn the_address_file_says_where_and_goes_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let path = directory.path().join("coordinator").join(ADDRESS_FILE);
    let text = std::fs::read_to_string(&path).unwrap();
    let file: AddressFile = serde_json::from_str(&text).unwrap();
    assert_eq!(file.address, server.running.address.to_string());
    assert_eq!(file.pid, std::process::id());
    let token = std::fs::read_to_string(&file.token_file).unwrap();
    assert!(!text.contains(token.trim()));
    assert!(std::path::Path::new(&file.database).is_file());
    server.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_second_coordinator_on_the_same_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let second = Server::start_with(directory.path(), |_| {}).await;
    let Err(ServeError::Store(error)) = second else { panic!("it started") };
    assert!(error.to_string().contains(&server.running.address.to_string()), "{error}");
    // The first one's address file is untouched, and it serves on.
    assert!(server.running.address_file.is_file());
    server.sweeps().list_sweeps(v1::ListSweepsRequest::default()).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn plaintext_beyond_this_machine_needs_permission() {
    let directory = tempfile::tempdir().unwrap();
    let open = "0.0.0.0:0".parse().unwrap();
    let refused = Server::start_with(directory.path(), |options| options.listen = open).await;
    let Err(error @ ServeError::NotLoopback(_)) = refused else { panic!("it started") };
    assert!(error.to_string().contains("--insecure"));
    let allowed = Server::start_with(directory.path(), |options| {
        options.listen = open;
        options.insecure = true;
    });
    allowed.await.unwrap().stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_dropped_and_does_not_keep_others_out() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| options.limits.connections = 2);
    let server = server.await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..2 {
        silent.push(tokio::net::TcpStream::connect(server.running.address).await.unwrap());
    }
    let list = v1::ListSweepsRequest::default();
    let mut sweeps = server.sweeps();
    let answer = tokio::time::timeout(Duration::from_secs(15), sweeps.list_sweeps(list)).await;
    answer.unwrap().unwrap();
    let mut nothing = [0; 1];
    assert_eq!(silent[0].read(&mut nothing).await.unwrap_or(0), 0);
    server.stop().await;
}

#[tokio::test]
async fn open_streams_and_waiting_workers_do_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        (options.drain, options.patience) = (Duration::from_secs(60), Duration::from_secs(60));
    });
    let server = server.await.unwrap();
    server.submit().await;
    let request = v1::WatchSweepRequest { sweep: "1".to_owned(), cursor: 0 };
    let stream = server.sweeps().watch_sweep(request).await.unwrap().into_inner();
    let cancel = v1::CancelSweepRequest { request_id: common::new_id(), sweep: "1".to_owned() };
    let worker = server.register(1).await;
    let lease = server.exchange(&worker, Vec::new(), vec![0]).await;
    assert_eq!(lease.leases.len(), 1);
    let idle = server.register(1).await;
    server.sweeps().cancel_sweep(cancel).await.unwrap();
    let mut workers = server.workers();
    let waiting = tokio::spawn(async move {
        let request = v1::CompleteAndLeaseRequest {
            worker_id: idle,
            request_id: common::new_id(),
            reports: Vec::new(),
            free_slots: vec![0],
        };
        workers.complete_and_lease(request).await
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stream);
    let stopped = tokio::time::timeout(Duration::from_secs(20), server.stop()).await;
    assert!(stopped.is_ok(), "the end took too long");
    assert!(waiting.await.unwrap().unwrap().into_inner().leases.is_empty());
}
