//! What is removed because nothing needs it any more, and what is not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::time::Duration;

use common::{DATA, Server, succeeded};
use deptune_proto::v1;
use deptune_sweep::id::ArtifactHash;

/// Those of the contents that the coordinator does not have.
async fn missing(server: &Server, contents: &[&[u8]]) -> Vec<String> {
    let name = |content: &&[u8]| ArtifactHash::of(content).to_string();
    let request = v1::FindMissingRequest { hashes: contents.iter().map(name).collect() };
    let missing = server.artifacts().find_missing(request).await.unwrap().into_inner().missing;
    let is_missing = |content: &&&[u8]| missing.contains(&name(content));
    let text = |content: &&[u8]| String::from_utf8_lossy(content).into_owned();
    contents.iter().filter(is_missing).map(text).collect()
}

async fn checkpoint(server: &Server, worker: &str, lease: &v1::Lease, step: u64, content: &[u8]) {
    server.upload(content, "checkpoint").await.unwrap();
    let checkpoint = v1::Checkpoint { step, hash: ArtifactHash::of(content).to_string() };
    let progress = v1::TrialProgress {
        lease: lease.lease,
        evaluations: Vec::new(),
        checkpoint: Some(checkpoint),
    };
    let request =
        v1::ReportProgressRequest { worker_id: worker.to_owned(), trials: vec![progress] };
    server.workers().report_progress(request).await.unwrap();
}

async fn lease(server: &Server, worker: &str) -> v1::Lease {
    server.exchange(worker, Vec::new(), vec![0]).await.leases.remove(0)
}

#[tokio::test]
async fn superseded_checkpoints_go_at_once_and_all_with_the_trials_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    server.upload(b"adapter", "adapter").await.unwrap();
    let worker = server.register(1).await;
    let held = lease(&server, &worker).await;
    for (step, content) in [(1, b"one"), (2, b"two"), (3, b"six")] {
        checkpoint(&server, &worker, &held, step, content).await;
    }
    assert_eq!(missing(&server, &[b"one", b"two", b"six"]).await, ["one"]);
    server.exchange(&worker, vec![succeeded(&held, 50.0, b"adapter")], Vec::new()).await;
    let gone = missing(&server, &[b"one", b"two", b"six", b"adapter", DATA]).await;
    assert_eq!(gone, ["one", "two", "six"]);
    server.stop().await;
}

#[tokio::test]
async fn what_an_earlier_coordinator_left_goes_and_what_is_needed_stays() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    for (content, kind) in
        [(&b"adapter"[..], "adapter"), (b"answers", "predictions"), (b"nobody's", "data")]
    {
        server.upload(content, kind).await.unwrap();
    }
    let worker = server.register(2).await;
    let done = lease(&server, &worker).await;
    let mut report = succeeded(&done, 50.0, b"adapter");
    if let Some(v1::report::End::Succeeded(end)) = &mut report.end {
        let hash = ArtifactHash::of(b"answers").to_string();
        let answers = v1::Predictions { split: "validation".to_owned(), hash };
        end.result.as_mut().unwrap().predictions = vec![answers];
    }
    let held = server.exchange(&worker, vec![report], vec![0]).await.leases.remove(0);
    checkpoint(&server, &worker, &held, 1, b"superseded").await;
    checkpoint(&server, &worker, &held, 2, b"latest").await;
    let logs = directory.path().join("coordinator/logs/99");
    std::fs::create_dir_all(&logs).unwrap();
    server.stop().await;

    let needed: [&[u8]; 4] = [DATA, b"adapter", b"answers", b"latest"];
    let server = Server::start_with(directory.path(), |options| {
        options.keep_unused = Duration::ZERO;
    });
    let server = server.await.unwrap();
    let artifacts = directory.path().join("coordinator/artifacts");
    let there = |content: &[u8]| {
        let hash = ArtifactHash::of(content);
        let (head, tail) = hash.as_str().split_at(2);
        artifacts.join(head).join(tail).exists()
    };
    let collected = async {
        while there(b"superseded") || there(b"nobody's") || logs.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), collected).await.unwrap();
    assert_eq!(missing(&server, &needed).await, Vec::<String>::new());
    server.stop().await;
}
