//! Submitting, reading and following sweeps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{SPEC, Server, evaluation, new_id, reason, submission};
use deptune_proto::v1;
use deptune_proto::v1::log_entry::What as Entry;
use deptune_proto::v1::watch_sweep_response::What;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

#[tokio::test]
async fn the_same_submit_twice_is_one_sweep_and_other_content_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let first = submission(new_id());
    let missing = server.sweeps().submit_sweep(first.clone()).await.unwrap_err();
    assert_eq!(
        (missing.code(), reason(&missing)),
        (Code::FailedPrecondition, "ARTIFACT_MISSING".to_owned())
    );
    assert!(missing.message().contains("train.jsonl"), "{}", missing.message());
    let violations = missing.get_details_precondition_failure().unwrap().violations;
    assert_eq!(violations[0].subject, first.data[0].hash);

    server.upload(common::DATA, "data").await.unwrap();
    let sweep = server.sweeps().submit_sweep(first.clone()).await.unwrap().into_inner().sweep;
    let sweep = sweep.unwrap();
    assert_eq!((sweep.id, sweep.trials, sweep.pending), (1, 4, 4));
    assert_eq!(sweep.status(), v1::SweepStatus::Running);
    let again = server.sweeps().submit_sweep(first.clone()).await.unwrap().into_inner();
    assert_eq!(again.sweep.unwrap().id, 1);

    let other = v1::SubmitSweepRequest { spec: SPEC.replace("0.4", "0.5"), ..first.clone() };
    let refused = server.sweeps().submit_sweep(other).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::AlreadyExists, "REQUEST_REUSED".to_owned())
    );

    // The same after a restart: what was acknowledged is in the store.
    server.stop().await;
    let server = Server::start(directory.path()).await;
    let again = server.sweeps().submit_sweep(first).await.unwrap().into_inner();
    assert_eq!(again.sweep.unwrap().id, 1);
    let found = server.sweeps().get_sweep(v1::GetSweepRequest { sweep: "tiny".to_owned() }).await;
    let found = found.unwrap().into_inner().sweep.unwrap();
    assert_eq!((found.id, found.spec.as_str(), found.format.as_str()), (1, SPEC, "toml"));
    server.stop().await;
}

#[tokio::test]
async fn every_problem_of_a_spec_comes_back_with_path_and_line() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let spec = SPEC.replace("prompt_lr", "promt_lr").replace("rank = [4]", "rank = [99]");
    let wrong = v1::SubmitSweepRequest { spec, ..submission(new_id()) };
    let status = server.sweeps().submit_sweep(wrong).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::InvalidArgument, "SPEC_INVALID".to_owned())
    );
    let violations = status.get_details_bad_request().unwrap().field_violations;
    let misspelt = violations.iter().find(|v| v.field == "space.promt_lr").unwrap();
    assert!(misspelt.description.contains("prompt_lr"), "{}", misspelt.description);
    assert!(misspelt.description.starts_with("19:"), "{}", misspelt.description);

    let unlisted = v1::SubmitSweepRequest { data: Vec::new(), ..submission(new_id()) };
    let status = server.sweeps().submit_sweep(unlisted).await.unwrap_err();
    assert_eq!(reason(&status), "DATA_NOT_LISTED");
    let model = v1::SubmitSweepRequest { model_config: "{".to_owned(), ..submission(new_id()) };
    let status = server.sweeps().submit_sweep(model).await.unwrap_err();
    assert_eq!(reason(&status), "MODEL_CONFIG_INVALID");
    let unnamed = v1::SubmitSweepRequest { request_id: "1".to_owned(), ..submission(new_id()) };
    let status = server.sweeps().submit_sweep(unnamed).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELD");
    assert!(status.message().contains("request_id"), "{}", status.message());
    server.stop().await;
}

#[tokio::test]
async fn lists_come_in_pages_whose_tokens_belong_to_them() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    for _ in 0..3 {
        server.submit().await;
    }
    let page = |token: &str| v1::ListSweepsRequest {
        page_size: 2,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let first = server.sweeps().list_sweeps(page("")).await.unwrap().into_inner();
    let ids: Vec<u64> = first.sweeps.iter().map(|s| s.id).collect();
    assert_eq!(ids, [3, 2]);
    // A sweep that comes in between neither repeats nor hides another.
    server.submit().await;
    let second = server.sweeps().list_sweeps(page(&first.next_page_token)).await.unwrap();
    let second = second.into_inner();
    let ids: Vec<u64> = second.sweeps.iter().map(|s| s.id).collect();
    assert_eq!((ids, second.next_page_token.as_str()), (vec![1], ""));

    let foreign = v1::ListTrialsRequest {
        sweep: "1".to_owned(),
        page_size: 0,
        page_token: first.next_page_token,
    };
    let status = server.sweeps().list_trials(foreign).await.unwrap_err();
    assert_eq!(reason(&status), "PAGE_TOKEN_INVALID");
    let unknown = v1::GetSweepRequest { sweep: "nobody".to_owned() };
    let status = server.sweeps().get_sweep(unknown).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "UNKNOWN_SWEEP".to_owned()));
    server.stop().await;
}

async fn watch(server: &Server, cursor: u64) -> tonic::Streaming<v1::WatchSweepResponse> {
    let request = v1::WatchSweepRequest { sweep: "1".to_owned(), cursor };
    server.sweeps().watch_sweep(request).await.unwrap().into_inner()
}

async fn rest(mut stream: tonic::Streaming<v1::WatchSweepResponse>) -> Vec<v1::LogEntry> {
    let mut entries = Vec::new();
    while let Some(message) = stream.next().await {
        if let Some(What::Entry(entry)) = message.unwrap().what {
            entries.push(entry);
        }
    }
    entries
}

#[tokio::test]
async fn a_watcher_goes_on_after_its_cursor_and_misses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let mut cut_off = watch(&server, 0).await;
    let worker = server.register(1).await;
    let leases = server.exchange(&worker, Vec::new(), vec![0]).await.leases;
    let (mut cursor, mut progress) = (0, None);
    while cursor < 2 || progress.is_none() {
        match cut_off.next().await.unwrap().unwrap().what.unwrap() {
            What::Entry(entry) => {
                assert_eq!(entry.cursor, cursor + 1);
                cursor = entry.cursor;
            }
            What::Progress(seen) => progress = (!seen.running.is_empty()).then_some(seen),
        }
    }
    let running = progress.unwrap().running;
    assert_eq!((running[0].worker.as_str(), running[0].steps), ("node1", 10));
    drop(cut_off);

    let trials = vec![v1::TrialProgress {
        lease: leases[0].lease,
        evaluations: vec![evaluation(5, 61.0)],
        checkpoint: None,
    }];
    let request = v1::ReportProgressRequest { worker_id: worker.clone(), trials };
    server.workers().report_progress(request).await.unwrap();
    let following = tokio::spawn(rest(watch(&server, cursor).await));
    let adapter = b"adapter";
    server.upload(adapter, "adapter").await.unwrap();
    server.exchange(&worker, vec![common::succeeded(&leases[0], 70.0, adapter)], vec![]).await;
    server.run_all(&worker).await;

    let entries = following.await.unwrap();
    assert_eq!(entries[0].cursor, cursor + 1);
    assert!(matches!(&entries[0].what, Some(Entry::Evaluated(e)) if e.step == 5));
    let Some(Entry::Finished(finished)) = &entries.last().unwrap().what else { panic!() };
    assert_eq!(finished.status(), v1::SweepStatus::Finished);
    let cursors: Vec<u64> = entries.iter().map(|e| e.cursor).collect();
    assert!(cursors.windows(2).all(|pair| pair[0] < pair[1]));
    let ended = entries.iter().filter(|e| matches!(e.what, Some(Entry::Ended(_)))).count();
    assert_eq!(ended, 4);
    // Whoever asks after the end gets an answer that ends, too.
    let last = entries.last().unwrap().cursor;
    assert_eq!(rest(watch(&server, 0).await).await.len() as u64, last);
    assert!(rest(watch(&server, last).await).await.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn cancelling_ends_every_trial_and_the_worker_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(1).await;
    let lease = server.exchange(&worker, Vec::new(), vec![0]).await.leases.remove(0);
    let request = || v1::CancelSweepRequest { request_id: new_id(), sweep: "tiny".to_owned() };
    for _ in 0..2 {
        let answer = server.sweeps().cancel_sweep(request()).await.unwrap().into_inner();
        let sweep = answer.sweep.unwrap();
        assert_eq!((sweep.status(), sweep.cancelled), (v1::SweepStatus::Cancelled, 4));
    }
    let progress = v1::LeaseProgress { lease: lease.lease, step: 3, ..Default::default() };
    let beat = v1::HeartbeatRequest { worker_id: worker, leases: vec![progress] };
    let stops = server.workers().heartbeat(beat).await.unwrap().into_inner().stops;
    assert_eq!((stops[0].lease, stops[0].reason.as_str()), (lease.lease, "cancelled"));
    server.stop().await;
}

#[tokio::test]
async fn results_can_be_read_as_tables_and_by_sql() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(1).await;
    server.run_all(&worker).await;
    let board = v1::GetLeaderboardRequest { sweep: "1".to_owned(), limit: 0 };
    let board = server.sweeps().get_leaderboard(board).await.unwrap().into_inner();
    assert_eq!((board.rows.len(), board.metric_name.as_str()), (2, "accuracy"));
    assert_eq!((board.rows[0].place, board.rows[0].seeds, board.rows[0].mean), (1, 2, 2.5));

    let request = v1::ListTrialsRequest { sweep: "1".to_owned(), ..Default::default() };
    let trials = server.sweeps().list_trials(request).await.unwrap().into_inner().trials;
    assert_eq!(trials.len(), 4);
    assert!(trials.iter().all(|t| t.outcome() == v1::Outcome::Succeeded && t.worker == "node1"));
    let attempts = v1::ListAttemptsRequest { trial: trials[2].id };
    let attempts = server.sweeps().list_attempts(attempts).await.unwrap().into_inner().attempts;
    assert_eq!((attempts.len(), attempts[0].end.as_str()), (1, "succeeded"));
    let no_such = v1::TrialId { sweep: 1, index: 4 };
    let request = v1::ListAttemptsRequest { trial: Some(no_such) };
    let status = server.sweeps().list_attempts(request).await.unwrap_err();
    assert_eq!(reason(&status), "UNKNOWN_TRIAL");

    let mut page_token = String::new();
    let mut steps = Vec::new();
    loop {
        let request = v1::ListEvaluationsRequest {
            sweep: "1".to_owned(),
            trial: None,
            page_size: 3,
            page_token,
        };
        let page = server.sweeps().list_evaluations(request).await.unwrap().into_inner();
        steps.extend(page.evaluations.iter().map(|e| e.trial.unwrap().index));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(steps, [0, 1, 2, 3]);

    let sql = "select outcome, count(*) from trial_results group by 1".to_owned();
    let query = v1::QueryRequest { sql, limit: 0 };
    let mut answer = server.sweeps().query(query).await.unwrap().into_inner();
    let first = answer.next().await.unwrap().unwrap();
    assert_eq!((first.columns.len(), first.rows.len(), first.truncated), (2, 1, false));
    let write = v1::QueryRequest { sql: "delete from sweeps".to_owned(), limit: 0 };
    let status = server.sweeps().query(write).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "SQL_REFUSED".to_owned()));
    let info = server.sweeps().get_server_info(v1::GetServerInfoRequest {}).await.unwrap();
    let info = info.into_inner();
    assert_eq!((info.workers, info.slots, info.protocols), (1, 1, vec!["deptune.v1".to_owned()]));
    server.stop().await;
}
