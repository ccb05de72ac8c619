//! What happens when the store does not take a commit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{Server, new_id, reason, submission};
use deptune_proto::v1;
use sqlx::{Connection, SqliteConnection};
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_delays_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let kept = server.submit().await;

    let url = format!("sqlite://{}", server.running.database);
    let mut outsider = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("begin immediate").execute(&mut outsider).await.unwrap();
    let request = submission(new_id());
    let status = server.sweeps().submit_sweep(request.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Unavailable, "STORE_UNAVAILABLE".to_owned())
    );
    assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
    // Reading goes on.
    let list = v1::ListSweepsRequest::default();
    let sweeps = server.sweeps().list_sweeps(list).await.unwrap().into_inner().sweeps;
    assert_eq!(sweeps.len(), 1);

    sqlx::query("rollback").execute(&mut outsider).await.unwrap();
    outsider.close().await.unwrap();
    // The same request again: the refused one left nothing behind, in memory or in the store.
    let mut attempts = 0;
    let sweep = loop {
        attempts += 1;
        match server.sweeps().submit_sweep(request.clone()).await {
            Ok(answer) => break answer.into_inner().sweep.unwrap(),
            Err(status) if attempts < 50 => {
                assert_eq!(reason(&status), "STORE_UNAVAILABLE");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("{status}"),
        }
    };
    assert_eq!((kept.id, sweep.id), (1, 2));
    server.stop().await;
}
