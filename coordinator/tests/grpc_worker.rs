//! What agents say and are told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use std::time::{Duration, Instant};

use common::{Server, new_id, reason, succeeded};
use deptune_proto::convert::Assignment;
use deptune_proto::v1;
use deptune_proto::v1::report_ack::Verdict;
use tonic::Code;

const ADAPTER: &[u8] = b"adapter";

fn request(worker_id: &str, free_slots: Vec<u32>) -> v1::CompleteAndLeaseRequest {
    v1::CompleteAndLeaseRequest {
        worker_id: worker_id.to_owned(),
        request_id: new_id(),
        reports: Vec::new(),
        free_slots,
    }
}

async fn trials(server: &Server) -> Vec<v1::Trial> {
    let request = v1::ListTrialsRequest { sweep: "1".to_owned(), ..Default::default() };
    server.sweeps().list_trials(request).await.unwrap().into_inner().trials
}

#[tokio::test]
async fn a_lease_completes_into_one_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(2).await;
    let asked = request(&worker, vec![0, 1]);
    let answer = server.workers().complete_and_lease(asked.clone()).await.unwrap().into_inner();
    assert_eq!(answer.leases.len(), 2);
    let lease = Assignment::try_from(answer.leases[0].clone()).unwrap();
    assert_eq!((lease.settings.seed, lease.settings.prompt_length), (42, 4));
    assert_eq!((lease.model_dir.as_deref(), lease.data.len()), (Some("/models/tiny"), 1));
    assert_eq!(lease.checkpoint, None);

    // The answer was lost: the same request gives the same leases.
    let again = server.workers().complete_and_lease(asked).await.unwrap().into_inner();
    assert_eq!(again.leases, answer.leases);

    let report = succeeded(&answer.leases[0], 71.5, ADAPTER);
    let mut done = request(&worker, Vec::new());
    done.reports = vec![report.clone()];
    let status = server.workers().complete_and_lease(done.clone()).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::FailedPrecondition, "ARTIFACT_MISSING".to_owned())
    );
    server.upload(ADAPTER, "adapter").await.unwrap();
    for _ in 0..2 {
        let acks = server.workers().complete_and_lease(done.clone()).await.unwrap().into_inner();
        assert_eq!(acks.acks[0].verdict(), Verdict::Accepted);
    }
    let ended = trials(&server).await.into_iter().find(|t| t.phase == "ended").unwrap();
    assert_eq!(ended.outcome(), v1::Outcome::Succeeded);
    assert_eq!(ended.result.unwrap().metric, 71.5);
    server.stop().await;
}

#[tokio::test]
async fn a_report_of_a_lease_that_another_worker_was_given_is_stale() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), |options| {
        options.scheduler.lease_ttl = 1_000;
        options.patience = Duration::from_secs(5);
    });
    let server = server.await.unwrap();
    server.submit().await;
    server.upload(ADAPTER, "adapter").await.unwrap();
    let silent = server.register(1).await;
    let first = server.exchange(&silent, Vec::new(), vec![0]).await.leases.remove(0);
    let other = server.register(4).await;
    // The four slots get the three trials that wait, and the one whose lease expires.
    let mut epochs = Vec::new();
    while !epochs.contains(&(first.lease.unwrap().trial, 2)) {
        let held: Vec<u32> = (0..4).collect();
        for lease in server.exchange(&other, Vec::new(), held).await.leases {
            let lease = lease.lease.unwrap();
            epochs.push((lease.trial, lease.epoch));
        }
    }
    let answer = server.exchange(&silent, vec![succeeded(&first, 99.0, ADAPTER)], vec![]).await;
    assert_eq!(answer.acks[0].verdict(), Verdict::Stale);
    assert!(answer.acks[0].reason.contains("superseded"), "{}", answer.acks[0].reason);
    assert!(trials(&server).await.iter().all(|t| t.phase == "leased" || t.phase == "pending"));
    let unheard = v1::Report {
        lease: Some(v1::LeaseRef { trial: Some(v1::TrialId { sweep: 9, index: 0 }), epoch: 1 }),
        ..succeeded(&first, 1.0, ADAPTER)
    };
    let answer = server.exchange(&silent, vec![unheard], vec![]).await;
    assert_eq!(answer.acks[0].verdict(), Verdict::Rejected);
    server.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_is_woken_by_a_submit() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let worker = server.register(1).await;
    let mut workers = server.workers();
    let asked = request(&worker, vec![0]);
    let waiting = tokio::spawn(async move {
        let start = Instant::now();
        let answer = workers.complete_and_lease(asked).await.unwrap().into_inner();
        (answer, start.elapsed())
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    server.submit().await;
    let (answer, waited) = waiting.await.unwrap();
    assert_eq!((answer.leases.len(), answer.retry_after_ms), (1, 0));
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_worker_that_waits_in_vain_is_told_when_to_ask_again() {
    let directory = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(200);
    let server = Server::start_with(directory.path(), |options| options.patience = patience);
    let server = server.await.unwrap();
    let worker = server.register(1).await;
    let start = Instant::now();
    let answer = server.exchange(&worker, Vec::new(), vec![0]).await;
    assert!(start.elapsed() >= patience);
    assert!(answer.leases.is_empty() && answer.retry_after_ms > 0);
    // A worker that nobody knows is told so at once.
    let status = server.workers().complete_and_lease(request(&new_id(), vec![0])).await;
    let status = status.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "UNKNOWN_WORKER".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_leased_to_a_caller_that_has_gone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let gone = server.register(1).await;
    let mut workers = server.workers();
    let asked = request(&gone, vec![0]);
    let waiting = tokio::spawn(async move { workers.complete_and_lease(asked).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    waiting.abort();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.submit().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(trials(&server).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_trial_moves_with_its_checkpoint_and_old_checkpoints_go() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(1).await;
    let lease = server.exchange(&worker, Vec::new(), vec![0]).await.leases.remove(0);
    let mut hashes = Vec::new();
    for step in 1..=4u64 {
        let content = format!("state after {step}");
        server.upload(content.as_bytes(), "checkpoint").await.unwrap();
        let hash = deptune_sweep::id::ArtifactHash::of(content.as_bytes()).to_string();
        let progress = v1::TrialProgress {
            lease: lease.lease,
            evaluations: Vec::new(),
            checkpoint: Some(v1::Checkpoint { step, hash: hash.clone() }),
        };
        let worker_id = worker.clone();
        let request = v1::ReportProgressRequest { worker_id, trials: vec![progress] };
        let stops = server.workers().report_progress(request).await.unwrap().into_inner().stops;
        assert!(stops.is_empty());
        hashes.push(hash);
    }
    let request = v1::FindMissingRequest { hashes: hashes.clone() };
    let missing = server.artifacts().find_missing(request).await.unwrap().into_inner().missing;
    assert_eq!(missing, hashes[..2]);

    let leaves = v1::LeaveWorkerRequest { worker_id: worker };
    server.workers().leave_worker(leaves).await.unwrap();
    let next = server.register(1).await;
    let resumed = server.exchange(&next, Vec::new(), vec![0]).await.leases.remove(0);
    let (trial, epoch) = (lease.lease.unwrap().trial, resumed.lease.unwrap().epoch);
    assert_eq!((resumed.lease.unwrap().trial, epoch), (trial, 2));
    assert_eq!(resumed.checkpoint.unwrap(), v1::Checkpoint { step: 4, hash: hashes[3].clone() });
    server.stop().await;
}

#[tokio::test]
async fn leases_live_through_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    server.upload(ADAPTER, "adapter").await.unwrap();
    let worker = server.register(1).await;
    let lease = server.exchange(&worker, Vec::new(), vec![0]).await.leases.remove(0);
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let progress = v1::LeaseProgress { lease: lease.lease, step: 4, ..Default::default() };
    let beat = v1::HeartbeatRequest { worker_id: worker.clone(), leases: vec![progress] };
    assert!(server.workers().heartbeat(beat).await.unwrap().into_inner().stops.is_empty());
    let answer = server.exchange(&worker, vec![succeeded(&lease, 80.0, ADAPTER)], vec![]).await;
    assert_eq!(answer.acks[0].verdict(), Verdict::Accepted);
    server.stop().await;
}
