//! What people do to sweeps, over the wire: each request has one effect and one answer, however
//! often it comes, and another content under its id is refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod common;

use common::{SPEC, Server, new_id, reason, submission};
use deptune_proto::v1;
use tonic::{Code, Status};

async fn cancel(server: &Server, request_id: &str, sweep: &str) -> Result<v1::Sweep, Status> {
    let request =
        v1::CancelSweepRequest { request_id: request_id.to_owned(), sweep: sweep.to_owned() };
    Ok(server.sweeps().cancel_sweep(request).await?.into_inner().sweep.unwrap())
}

async fn retry(server: &Server, request_id: &str, sweep: &str) -> Result<v1::Sweep, Status> {
    let request = v1::RetryTrialsRequest {
        request_id: request_id.to_owned(),
        sweep: sweep.to_owned(),
        trials: Vec::new(),
    };
    Ok(server.sweeps().retry_trials(request).await?.into_inner().sweep.unwrap())
}

async fn delete(
    server: &Server,
    request_id: &str,
    sweep: &str,
) -> Result<v1::DeleteSweepResponse, Status> {
    let request = v1::DeleteSweepRequest {
        request_id: request_id.to_owned(),
        sweep: sweep.to_owned(),
        preview: false,
    };
    Ok(server.sweeps().delete_sweep(request).await?.into_inner())
}

async fn pause(server: &Server, request_id: &str, sweep: &str) -> Result<v1::Sweep, Status> {
    let request =
        v1::PauseSweepRequest { request_id: request_id.to_owned(), sweep: sweep.to_owned() };
    Ok(server.sweeps().pause_sweep(request).await?.into_inner().sweep.unwrap())
}

async fn change(server: &Server, request: v1::ChangeSweepRequest) -> Result<v1::Sweep, Status> {
    let request = v1::ChangeSweepRequest {
        request_id: if request.request_id.is_empty() { new_id() } else { request.request_id },
        ..request
    };
    Ok(server.sweeps().change_sweep(request).await?.into_inner().sweep.unwrap())
}

async fn get(server: &Server, sweep: u64) -> Option<v1::Sweep> {
    let request = v1::GetSweepRequest { sweep: sweep.to_string() };
    match server.sweeps().get_sweep(request).await {
        Ok(answer) => answer.into_inner().sweep,
        Err(status) if reason(&status) == "UNKNOWN_SWEEP" => None,
        Err(status) => panic!("{status}"),
    }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

fn reused() -> (Code, String) {
    (Code::AlreadyExists, "REQUEST_REUSED".to_owned())
}

#[tokio::test]
async fn a_repeated_deletion_by_name_removes_no_second_sweep_and_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    for sweep in [1, 2] {
        server.submit().await;
        cancel(&server, &new_id(), &sweep.to_string()).await.unwrap();
    }
    let request = new_id();
    let first = delete(&server, &request, "tiny").await.unwrap();
    assert_eq!(first.sweep.as_ref().unwrap().id, 2, "the latest of that name");
    assert!(first.log_entries > 0);
    assert_eq!(delete(&server, &request, "tiny").await.unwrap(), first);
    assert!(get(&server, 1).await.is_some(), "the other sweep of that name stays");

    server.stop().await;
    let server = Server::start(directory.path()).await;
    assert_eq!(delete(&server, &request, "tiny").await.unwrap(), first, "also after a restart");
    assert!(get(&server, 1).await.is_some());
    let other = delete(&server, &request, "1").await;
    assert_eq!(refusal(other), reused());
    let gone = delete(&server, &new_id(), "2").await;
    assert_eq!(refusal(gone), (Code::NotFound, "UNKNOWN_SWEEP".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_cancellation_does_not_cancel_what_was_run_again_since() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let request = new_id();
    cancel(&server, &request, "tiny").await.unwrap();
    retry(&server, &new_id(), "1").await.unwrap();
    let again = cancel(&server, &request, "tiny").await.unwrap();
    assert_eq!((again.status(), again.pending), (v1::SweepStatus::Running, 4));
    // The same name means another sweep by now.
    server.submit().await;
    assert_eq!(cancel(&server, &request, "tiny").await.unwrap().id, 1);
    server.stop().await;
    let server = Server::start(directory.path()).await;
    assert_eq!(cancel(&server, &request, "tiny").await.unwrap().id, 1, "also after a restart");
    assert_eq!(get(&server, 2).await.unwrap().pending, 4);
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_that_comes_again_with_other_content_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let submitted = submission(new_id());
    server.upload(common::DATA, "data").await.unwrap();
    server.sweeps().submit_sweep(submitted.clone()).await.unwrap();
    server.submit().await;
    let request = new_id();
    pause(&server, &request, "1").await.unwrap();

    let mut server = server;
    for _ in 0..2 {
        pause(&server, &request, "1").await.unwrap();
        assert_eq!(refusal(pause(&server, &request, "2").await), reused());
        assert_eq!(refusal(cancel(&server, &request, "1").await), reused());
        assert_eq!(refusal(retry(&server, &request, "1").await), reused());
        assert_eq!(refusal(delete(&server, &request, "1").await), reused());
        let resume = v1::ResumeSweepRequest { request_id: request.clone(), sweep: "1".to_owned() };
        assert_eq!(refusal(server.sweeps().resume_sweep(resume).await), reused());
        let trial = Some(v1::TrialId { sweep: 1, index: 0 });
        let trial = v1::CancelTrialRequest { request_id: request.clone(), trial };
        assert_eq!(refusal(server.sweeps().cancel_trial(trial).await), reused());
        for weight in [None, Some(2)] {
            let request = v1::ChangeSweepRequest {
                request_id: request.clone(),
                sweep: "1".to_owned(),
                weight,
                ..Default::default()
            };
            assert_eq!(refusal(change(&server, request).await), reused());
        }
        assert_eq!(refusal(pause(&server, &submitted.request_id, "1").await), reused());
        let other = v1::SubmitSweepRequest { request_id: request.clone(), ..submitted.clone() };
        assert_eq!(refusal(server.sweeps().submit_sweep(other).await), reused());
        server.stop().await;
        server = Server::start(directory.path()).await;
    }
    assert_eq!(get(&server, 1).await.unwrap().status(), v1::SweepStatus::Paused);

    // Also once the sweep is gone.
    cancel(&server, &new_id(), "1").await.unwrap();
    delete(&server, &new_id(), "1").await.unwrap();
    let other = v1::SubmitSweepRequest { spec: SPEC.replace("0.4", "0.5"), ..submitted.clone() };
    assert_eq!(refusal(server.sweeps().submit_sweep(other).await), reused());
    let same = server.sweeps().submit_sweep(submitted).await;
    assert_eq!(refusal(same), (Code::NotFound, "UNKNOWN_SWEEP".to_owned()));
    assert_eq!(refusal(pause(&server, &request, "2").await), reused());
    server.stop().await;
}

#[tokio::test]
async fn a_change_is_made_as_a_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let request = v1::ChangeSweepRequest {
        sweep: "tiny".to_owned(),
        weight: Some(7),
        add_seeds: (1_000..1_999).collect(),
        ..Default::default()
    };
    let changed = change(&server, request.clone()).await.unwrap();
    assert_eq!((changed.weight, changed.trials), (7, 4 + 2 * 999));

    let late = v1::ChangeSweepRequest {
        weight: Some(9),
        budget_gpu_hours: Some(1e-6),
        add_seeds: vec![5_000],
        ..request
    };
    let worker = server.register(1).await;
    server.exchange(&worker, Vec::new(), vec![0]).await;
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    // Its budget is used up as soon as it is given: more trials would be cancelled at once.
    assert_eq!(
        refusal(change(&server, late).await),
        (Code::FailedPrecondition, "BUDGET_SPENT".to_owned())
    );
    let sweep = get(&server, 1).await.unwrap();
    assert_eq!((sweep.weight, sweep.trials, sweep.budget_gpu_hours), (7, 2_002, None));
    server.stop().await;
}

#[tokio::test]
async fn a_sweep_gets_the_points_of_another_space() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let of = |text: &str, format: &str| v1::ChangeSweepRequest {
        sweep: "tiny".to_owned(),
        add_space: Some(v1::AddedSpace { text: text.to_owned(), format: format.to_owned() }),
        ..Default::default()
    };
    let status = change(&server, of("", "yaml")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "INVALID_FIELD".into()));
    assert!(status.message().contains("add_space.format"), "{}", status.message());
    let status = change(&server, of("[space]\nprompt_lr = 0\n", "toml")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "SPEC_INVALID".into()));
    assert!(status.message().contains("space:2:13"), "{}", status.message());
    assert_eq!(get(&server, 1).await.unwrap().trials, 4);
    let request = of(r#"{"space": {"prompt_lr": [0.61, 0.62], "seeds": 77}}"#, "json");
    let changed = change(&server, request.clone()).await.unwrap();
    assert!(changed.trials > 4, "{changed:?}");
    // Nothing of it is new any more.
    assert_eq!(change(&server, request.clone()).await.unwrap().trials, changed.trials);
    let spaces = get(&server, 1).await.unwrap().added_spaces;
    assert_eq!(spaces, [request.add_space.unwrap()]);
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_added_to_a_sweep_whose_budget_is_used_up() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let worker = server.register(1).await;
    server.exchange(&worker, Vec::new(), vec![0]).await;
    let of = |budget, seeds: &[u64]| v1::ChangeSweepRequest {
        sweep: "1".to_owned(),
        budget_gpu_hours: budget,
        add_seeds: seeds.to_vec(),
        ..Default::default()
    };
    // 3.6 ms.
    change(&server, of(Some(1e-6), &[])).await.unwrap();
    while get(&server, 1).await.unwrap().status() != v1::SweepStatus::Cancelled {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let spent = (Code::FailedPrecondition, "BUDGET_SPENT".to_owned());
    let status = retry(&server, &new_id(), "1").await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), spent);
    assert!(status.message().contains("raise"), "{}", status.message());
    assert_eq!(refusal(change(&server, of(None, &[77])).await), spent);
    assert_eq!(get(&server, 1).await.unwrap().trials, 4);
    // Raised in the same request, it is enough.
    let changed = change(&server, of(Some(10.0), &[77])).await.unwrap();
    assert_eq!((changed.trials, changed.status()), (6, v1::SweepStatus::Running));
    assert_eq!(retry(&server, &new_id(), "1").await.unwrap().trials, 10);
    server.stop().await;
}

#[tokio::test]
async fn numbers_beyond_what_is_stored_or_makes_sense_are_refused_at_the_edge() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.submit().await;
    let invalid = (Code::InvalidArgument, "INVALID_FIELD".to_owned());
    let seeds = |seed| v1::ChangeSweepRequest {
        sweep: "1".to_owned(),
        add_seeds: vec![7, seed],
        ..Default::default()
    };
    let status = change(&server, seeds(1 << 63)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), invalid);
    assert!(status.message().contains("add_seeds[1]"), "{}", status.message());
    assert_eq!(get(&server, 1).await.unwrap().trials, 4);
    assert_eq!(change(&server, seeds((1 << 63) - 1)).await.unwrap().trials, 8);
    let parallel = |most| v1::ChangeSweepRequest {
        sweep: "1".to_owned(),
        max_parallel: Some(most),
        ..Default::default()
    };
    assert_eq!(refusal(change(&server, parallel(1_000_001)).await), invalid);
    let changed = change(&server, parallel(1_000_000)).await.unwrap();
    assert_eq!(changed.max_parallel, Some(1_000_000));
    server.stop().await;
}

#[tokio::test]
async fn no_sweep_gets_a_name_that_reads_as_a_number() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    server.upload(common::DATA, "data").await.unwrap();
    let named = |name: &str| v1::SubmitSweepRequest {
        spec: SPEC.replace("name = \"tiny\"", &format!("name = \"{name}\"")),
        ..submission(new_id())
    };
    for name in ["7", "007", "7.12", "99999999999999999999"] {
        let status = server.sweeps().submit_sweep(named(name)).await.unwrap_err();
        assert_eq!(reason(&status), "SPEC_INVALID", "{name}");
        assert!(status.message().contains("number"), "{}", status.message());
    }
    for name in ["7b", "v1.2", "1.2.3", "1.", "-7"] {
        server.sweeps().submit_sweep(named(name)).await.unwrap();
    }
    // No trial of a sweep that is not there is one of a sweep with another number.
    let trial = Some(v1::TrialId { sweep: 70, index: 0 });
    let request = v1::CancelTrialRequest { request_id: new_id(), trial };
    let status = server.sweeps().cancel_trial(request).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "UNKNOWN_SWEEP".to_owned()));
    server.stop().await;
}

#[tokio::test]
async fn workers_are_listed_in_pages_and_asked_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path()).await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(server.register(2).await);
    }
    ids.sort();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListWorkersRequest { page_size: 2, page_token };
        let page = server.admin().list_workers(request).await.unwrap().into_inner();
        seen.extend(page.workers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let listed: Vec<&String> = seen.iter().map(|worker| &worker.worker_id).collect();
    assert_eq!(listed, ids.iter().collect::<Vec<_>>());
    assert!(seen.iter().all(|worker| worker.slots.len() == 2 && !worker.draining));

    let drain = v1::DrainWorkerRequest { worker_id: ids[1].clone() };
    for _ in 0..2 {
        server.admin().drain_worker(drain.clone()).await.unwrap();
    }
    let page = server.admin().list_workers(v1::ListWorkersRequest::default()).await.unwrap();
    let draining: Vec<bool> = page.into_inner().workers.iter().map(|it| it.draining).collect();
    assert_eq!(draining, [false, true, false]);
    let unknown = v1::DrainWorkerRequest { worker_id: new_id() };
    let refused = server.admin().drain_worker(unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    let nonsense = v1::DrainWorkerRequest { worker_id: "node7".to_owned() };
    let refused = server.admin().drain_worker(nonsense).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}
