//! Requests: how many at once, how fast, how large, how long unread.

use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::sweep_service_client::SweepServiceClient;
use deptune_proto::v1::worker_service_client::WorkerServiceClient;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt;

use crate::bystander::Bystander;
use crate::common::{Bearer, Client, Server, new_id, reason, submission};
use crate::wire::{PATIENCE, channel};

#[tokio::test]
async fn a_flood_of_calls_is_slowed_down_for_its_connection_only() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        (options.limits.rate, options.limits.burst) = (300, 600);
    });
    let server = server.await.unwrap();
    let bystander = Bystander::start(&server);
    let flood = channel(&server);
    // With the first answer the client knows how many streams it may open.
    let mut first = SweepServiceClient::with_interceptor(flood.clone(), server.bearer.clone());
    first.list_sweeps(v1::ListSweepsRequest::default()).await.unwrap();
    let calls = (0..5_000).map(|_| {
        let mut client = SweepServiceClient::with_interceptor(flood.clone(), server.bearer.clone());
        async move { client.list_sweeps(v1::ListSweepsRequest::default()).await }
    });
    let mut refused = 0;
    for answer in futures::future::join_all(calls).await {
        let Err(status) = answer else { continue };
        if let Some(info) = status.get_details_error_info() {
            assert_eq!((status.code(), &*info.reason), (Code::ResourceExhausted, "RATE_LIMITED"));
            assert!(status.get_details_retry_info().is_some());
            refused += 1;
        } else {
            // Whoever goes on after a thousand refusals is cut off.
            assert!(std::error::Error::source(&status).is_some(), "{status}");
        }
    }
    assert!((1..5_000).contains(&refused), "{refused} calls were refused");
    bystander.end("5,000 calls at once").await;
    server.stop().await;
}

#[tokio::test]
async fn guessing_tokens_is_slow() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        (options.limits.rate, options.limits.burst) = (0, 500);
    });
    let server = server.await.unwrap();
    let guess = format!("Bearer {}", "0".repeat(64)).parse().unwrap();
    let mut client = SweepServiceClient::with_interceptor(channel(&server), Bearer(Some(guess)));
    let mut reasons = Vec::new();
    for _ in 0..12 {
        let answer = client.list_sweeps(v1::ListSweepsRequest::default()).await;
        reasons.push(reason(&answer.unwrap_err()));
    }
    assert_eq!(reasons[..10], ["UNAUTHENTICATED"; 10].map(str::to_owned));
    assert_eq!(reasons[10..], ["RATE_LIMITED"; 2].map(str::to_owned));
    server.stop().await;
}

#[tokio::test]
async fn waiting_requests_of_one_peer_leave_room_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        (options.limits.requests, options.limits.peer_requests) = (60, 40);
    });
    let server = server.await.unwrap();
    let worker = server.register(1).await;
    let bystander = Bystander::start(&server);
    let (waits, bearer) = (channel(&server), server.bearer.clone());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let mut client = WorkerServiceClient::with_interceptor(waits.clone(), bearer.clone());
        let request = v1::CompleteAndLeaseRequest {
            worker_id: worker.clone(),
            request_id: new_id(),
            reports: Vec::new(),
            free_slots: vec![0],
        };
        waiting.spawn(async move { client.complete_and_lease(request).await });
    }
    // Those beyond its share come back at once; the others wait for trials that do not exist.
    for _ in 0..20 {
        let status = waiting.join_next().await.unwrap().unwrap().unwrap_err();
        assert_eq!((status.code(), reason(&status)), (Code::ResourceExhausted, "BUSY".to_owned()));
    }
    bystander.end("40 waiting requests of another peer").await;
    waiting.abort_all();
    server.stop().await;
}

#[tokio::test]
async fn large_headers_and_messages_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let bystander = Bystander::start(&server);
    let mut client = SweepServiceClient::with_interceptor(channel(&server), server.bearer.clone());

    let mut request = Request::new(v1::ListSweepsRequest::default());
    request.metadata_mut().insert("x-large", "x".repeat(32 << 10).parse().unwrap());
    client.list_sweeps(request).await.unwrap_err();

    let mut large = submission(new_id());
    large.spec = "#".repeat(5 << 20);
    let status = client.submit_sweep(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");

    let list = client.list_sweeps(v1::ListSweepsRequest::default()).await.unwrap();
    assert!(list.into_inner().sweeps.is_empty());
    bystander.end("large headers and messages").await;
    server.stop().await;
}

/// Two answers of 12 MB, several times what a client has room for while it reads nothing: in 6000
/// rows, and in one.
const ROWS: &str = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 6000)
    select i, hex(zeroblob(1000)) from n";
const ROW: &str = "select hex(zeroblob(6000000))";

async fn query(
    client: &SweepServiceClient<Client>,
    sql: &str,
) -> Result<Streaming<v1::QueryResponse>, Status> {
    let request = v1::QueryRequest { sql: sql.to_owned(), limit: 0 };
    let mut client = client.clone().max_decoding_message_size(64 << 20);
    client.query(request).await.map(tonic::Response::into_inner)
}

async fn rows(mut answer: Streaming<v1::QueryResponse>) -> Result<usize, Status> {
    let mut count = 0;
    while let Some(message) = answer.message().await? {
        count += message.rows.len();
    }
    Ok(count)
}

#[tokio::test]
async fn answers_that_are_not_read_keep_further_queries_waiting() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let bystander = Bystander::start(&server);
    let client = SweepServiceClient::with_interceptor(channel(&server), server.bearer.clone());
    let (dropped, read) = (query(&client, ROWS).await.unwrap(), query(&client, ROW).await.unwrap());
    // Another connection: the first one may have no room.
    let other = server.sweeps();
    let third = query(&other, ROWS);
    tokio::pin!(third);
    tokio::time::timeout(Duration::from_secs(1), &mut third).await.expect_err("a third answer");
    drop(dropped);
    let third = tokio::time::timeout(PATIENCE, third).await.unwrap().unwrap();
    assert_eq!(rows(third).await.unwrap(), 6000);
    assert_eq!(rows(read).await.unwrap(), 1, "a late reader loses nothing");
    bystander.end("two answers that are not read").await;
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_stays_unread_is_given_up_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        options.limits.unread = Duration::from_millis(300);
    });
    let server = server.await.unwrap();
    let client = SweepServiceClient::with_interceptor(channel(&server), server.bearer.clone());
    let unread = [query(&client, ROWS).await.unwrap(), query(&client, ROWS).await.unwrap()];
    let third = tokio::time::timeout(PATIENCE, query(&server.sweeps(), ROW)).await.unwrap();
    assert_eq!(rows(third.unwrap()).await.unwrap(), 1);
    for answer in unread {
        let status = rows(answer).await.unwrap_err();
        let found = (status.code(), reason(&status));
        assert_eq!(found, (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
    }
    server.stop().await;
}
