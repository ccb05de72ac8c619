//! What a commit keeps, and what it refuses.

use deptune_coordinator::store::{CommitError, Store, SweepContents};
use deptune_sweep::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId};
use deptune_sweep::outcome::{FailureClass, Outcome, SweepStatus};
use deptune_sweep::record::{
    AttemptEnd, CheckpointRef, LogEntry, PackLimit, PackMemory, Phase, SpaceRecord, SpaceText,
    TrialRecord,
};
use deptune_sweep::scheduler::{Snapshot, Write};
use deptune_sweep::spec::Format;
use uuid::Uuid;

use crate::bench::Bench;
use crate::sample::{
    attempt_started, cancellation, end, ended, evaluated, evaluation, failure, first_lease, holder,
    key, leased, logged, new_trial, success, sweep, sweep_record, trial_id, worker, worker_id,
    worker_record,
};

/// Everything of a snapshot, to compare.
pub(crate) fn text(snapshot: &Snapshot) -> String {
    format!("{snapshot:#?}")
}

pub(crate) async fn loaded(store: &dyn Store) -> String {
    text(&store.load().await.unwrap())
}

/// Checks that a commit is refused as fenced, about this trial, and leaves no trace.
async fn refused(store: &dyn Store, trial: TrialId, epoch: u32, write: Write) {
    let before = loaded(store).await;
    match store.commit(&[worker(9), write]).await {
        Err(CommitError::Fenced { trial: named, epoch: of, .. }) => {
            assert_eq!((named, of), (trial, Epoch(epoch)));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(loaded(store).await, before);
}

pub(crate) async fn what_was_written_is_loaded(bench: Bench) {
    let store = bench.open().await;
    let (a, b, c, d) = (trial_id(1, 0), trial_id(1, 1), trial_id(1, 2), trial_id(1, 3));
    let waiting = TrialRecord {
        phase: Phase::Pending { last_holder: Some(holder(2)) },
        failures: 2,
        losses: 1,
        alone: true,
        checkpoint: Some(CheckpointRef { step: 25, hash: ArtifactHash::of(b"checkpoint") }),
        ..leased(b, 3)
    };
    let mut second = sweep_record(2, "other name", "");
    second.submission.model_dir = None;
    second.submission.model_files.clear();
    let mut writes = vec![worker(1), worker(2), worker(3), sweep(1)];
    writes.push(Write::Sweep(Box::new(second.clone())));
    for id in [a, b, c, d] {
        writes.extend(first_lease(id));
    }
    writes.push(Write::Trial(waiting.clone()));
    writes.extend(end(success(c, 1, 91.5)));
    writes.extend(end(cancellation(d, 1)));
    writes.push(Write::WorkerLeft { worker: worker_id(3), at: 5 });
    writes.push(Write::SweepStatus {
        sweep: SweepId(2),
        status: SweepStatus::Cancelled,
        finished: Some(99),
    });
    let space = |number| SpaceRecord {
        sweep: SweepId(1),
        number,
        space: SpaceText { text: format!("[space]\nrank = {number} # ü"), format: Format::Toml },
        at: 8,
    };
    writes.push(Write::Space { record: space(1), varied: vec![] });
    writes.push(Write::Space { record: space(2), varied: vec!["steps"] });
    let shape = ArtifactHash::of(b"shape");
    let limit = |members| PackLimit { shape: shape.clone(), device: "GPU A".to_owned(), members };
    // The later word counts.
    writes.push(Write::PackLimit { limit: limit(4), at: 6 });
    writes.push(Write::PackLimit { limit: limit(2), at: 7 });
    let memory = |members, bytes| PackMemory {
        shape: shape.clone(),
        device: "GPU A".to_owned(),
        members,
        bytes,
        estimated: 3 << 30,
        trial: c,
    };
    writes.push(Write::PackMemory { memory: memory(2, 1 << 30), at: 6 });
    writes.push(Write::PackMemory { memory: memory(4, 4 << 30), at: 6 });
    writes.push(Write::PackMemory { memory: memory(4, 5 << 30), at: 7 });
    let entry = logged(41, 1, None, LogEntry::Submitted { trials: 12 });
    writes.push(Write::Log(entry));
    store.commit(&writes).await.unwrap();
    drop(store);

    let mut first = sweep_record(1, "sample", "");
    first.next_index = 4;
    second.status = SweepStatus::Cancelled;
    second.finished = Some(99);
    let expected = Snapshot {
        sweeps: vec![first, second],
        spaces: vec![space(1), space(2)],
        trials: vec![
            leased(a, 1),
            waiting,
            ended(c, 1, Outcome::Succeeded),
            ended(d, 1, Outcome::Cancelled),
        ],
        reporters: vec![(c, worker_id(1))],
        workers: vec![worker_record(1), worker_record(2)],
        requests: vec![],
        deleted: vec![],
        pack_limits: vec![limit(2)],
        pack_memories: vec![memory(2, 1 << 30), memory(4, 5 << 30)],
        last_cursor: 41,
    };
    let store = bench.open().await;
    assert_eq!(loaded(&*store).await, text(&expected));
}

pub(crate) async fn a_stale_epoch_is_refused(bench: Bench) {
    let store = bench.open().await;
    let id = trial_id(1, 0);
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(id));
    writes.push(evaluated(id, 1, evaluation(25, "validation", 60.0)));
    // The lease expires, and the trial is leased again.
    writes.push(Write::Trial(leased(id, 2)));
    writes.push(attempt_started(id, 2));
    store.commit(&writes).await.unwrap();

    refused(&*store, id, 1, Write::Trial(leased(id, 1))).await;
    refused(&*store, id, 1, Write::Trial(ended(id, 1, Outcome::Succeeded))).await;
    refused(&*store, id, 1, Write::Outcome(Box::new(success(id, 1, 99.0)))).await;
    refused(&*store, id, 1, evaluated(id, 1, evaluation(50, "validation", 99.0))).await;
    refused(&*store, id, 1, attempt_started(id, 1)).await;
    // Of the future, or of a trial that is not there.
    refused(&*store, id, 3, Write::Outcome(Box::new(success(id, 3, 99.0)))).await;
    refused(&*store, id, 3, attempt_started(id, 3)).await;
    refused(&*store, id, 3, Write::AttemptProgress { lease: key(id, 3), last_step: 1 }).await;
    let other = trial_id(1, 5);
    refused(&*store, other, 1, Write::Trial(leased(other, 1))).await;
    refused(&*store, other, 1, evaluated(other, 1, evaluation(50, "test", 1.0))).await;
    // A trial has one row.
    refused(&*store, id, 9, new_trial(leased(id, 9))).await;

    // The holder of the current epoch is heard.
    store.commit(&end(success(id, 2, 70.0))).await.unwrap();
}

pub(crate) async fn a_trial_has_one_outcome_for_ever(bench: Bench) {
    let store = bench.open().await;
    let id = trial_id(1, 0);
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(id));
    writes.extend(end(success(id, 1, 70.0)));
    store.commit(&writes).await.unwrap();

    refused(&*store, id, 1, Write::Outcome(Box::new(success(id, 1, 70.0)))).await;
    refused(&*store, id, 1, Write::Outcome(Box::new(failure(id, 1)))).await;
    refused(&*store, id, 2, Write::Trial(leased(id, 2))).await;
    refused(&*store, id, 2, Write::Trial(ended(id, 2, Outcome::Failed))).await;
    refused(&*store, id, 1, evaluated(id, 1, evaluation(50, "validation", 99.0))).await;
}

pub(crate) async fn an_ended_trial_needs_its_outcome(bench: Bench) {
    let store = bench.open().await;
    let id = trial_id(1, 0);
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(id));
    store.commit(&writes).await.unwrap();
    let before = loaded(&*store).await;
    let alone = Write::Trial(ended(id, 1, Outcome::Succeeded));
    assert!(store.commit(std::slice::from_ref(&alone)).await.is_err());
    // Nor one of another kind.
    let wrong = Write::Outcome(Box::new(failure(id, 1)));
    assert!(store.commit(&[alone, wrong]).await.is_err());
    assert_eq!(loaded(&*store).await, before);
    store.commit(&end(failure(id, 1))).await.unwrap();
}

pub(crate) async fn an_earlier_coordinator_is_refused(bench: Bench) {
    let store = bench.open().await;
    store.commit(&[sweep(1)]).await.unwrap();
    bench.take_over().await;
    for _ in 0..2 {
        match store.commit(&[worker(1)]).await {
            Err(CommitError::Deposed { ours: 1, current: 2 }) => {}
            other => panic!("{other:?}"),
        }
    }
    // An empty commit is a commit too.
    assert!(matches!(store.commit(&[]).await, Err(CommitError::Deposed { .. })));
    assert!(store.load().await.unwrap().workers.is_empty());
}

pub(crate) async fn a_commit_is_all_or_nothing(bench: Bench) {
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    let before = loaded(&*store).await;
    // Of every kind something, and at the end a write that is refused.
    let mut writes = vec![worker(2), sweep(2)];
    for index in 0..5 {
        writes.extend(first_lease(trial_id(1, index)));
    }
    let id = trial_id(1, 0);
    writes.push(evaluated(id, 1, evaluation(25, "validation", 60.0)));
    writes.push(Write::AttemptProgress { lease: key(id, 1), last_step: 25 });
    writes.extend(end(success(id, 1, 70.0)));
    writes.push(Write::Worker(deptune_sweep::record::WorkerRecord {
        name: "renamed".to_owned(),
        slots: Vec::new(),
        ..worker_record(1)
    }));
    writes.push(Write::Log(logged(1, 1, None, LogEntry::Submitted { trials: 12 })));
    let good = writes.clone();
    writes.push(Write::Outcome(Box::new(success(id, 1, 71.0))));
    assert!(matches!(store.commit(&writes).await, Err(CommitError::Fenced { .. })));
    assert_eq!(loaded(&*store).await, before);
    assert!(store.evaluations(SweepId(1), None, None, 0).await.unwrap().items.is_empty());
    assert!(store.log(SweepId(1), 0, 0).await.unwrap().items.is_empty());
    assert!(store.attempts(id).await.unwrap().is_empty());
    assert!(store.leaderboard(SweepId(1), 0).await.unwrap().is_empty());
    // The same without that write.
    store.commit(&good).await.unwrap();
    assert_eq!(store.trials(SweepId(1), None, 0).await.unwrap().items.len(), 5);
    let snapshot = store.load().await.unwrap();
    assert_eq!(snapshot.workers[0].name, "renamed");
    assert!(snapshot.workers[0].slots.is_empty());
}

pub(crate) async fn rows_that_contradict_the_store_are_refused(bench: Bench) {
    let store = bench.open().await;
    store.commit(&[worker(1), sweep(1)]).await.unwrap();
    let before = loaded(&*store).await;
    let mut stranger = leased(trial_id(1, 0), 1);
    stranger.phase = Phase::Leased(holder(66));
    let mut same_request = sweep_record(2, "again", "");
    same_request.request_id = RequestId(Uuid::from_u128(1));
    let mut unreadable = sweep_record(3, "unreadable", "");
    unreadable.submission.spec = "name = ".to_owned();
    let status = SweepStatus::Finished;
    let wrong = [
        new_trial(stranger),
        new_trial(leased(trial_id(8, 0), 1)),
        sweep(1),
        Write::Sweep(Box::new(same_request)),
        Write::SweepStatus { sweep: SweepId(8), status, finished: Some(1) },
        Write::NextIndex { sweep: SweepId(8), next_index: 1 },
        Write::WorkerLeft { worker: worker_id(66), at: 1 },
    ];
    for write in wrong {
        let result = store.commit(&[worker(5), write.clone()]).await;
        assert!(
            matches!(result, Err(CommitError::Inconsistent { .. } | CommitError::Other { .. })),
            "{write:?}: {result:?}"
        );
    }
    let result = store.commit(&[Write::Sweep(Box::new(unreadable))]).await;
    assert!(matches!(result, Err(CommitError::Submission { sweep: SweepId(3), .. })));
    assert_eq!(loaded(&*store).await, before);
    // A late report of a known trial is kept, whatever its epoch.
    let mut writes = first_lease(trial_id(1, 0));
    writes.push(Write::StaleReport {
        lease: key(trial_id(1, 0), 0),
        worker: worker_id(1),
        report: "succeeded: accuracy 99".to_owned(),
        at: 7,
    });
    writes.push(Write::AttemptEnded {
        lease: key(trial_id(1, 0), 1),
        end: AttemptEnd::Expired,
        class: Some(FailureClass::WorkerLost),
        message: "not heard".to_owned(),
        last_step: 0,
        at: 8,
    });
    store.commit(&writes).await.unwrap();
}

pub(crate) async fn a_sweep_of_many_trials_is_deleted_whole(bench: Bench) {
    let store = bench.open().await;
    let mut writes = vec![worker(1)];
    for id in [1, 2] {
        let mut record = sweep_record(id, "large", "");
        record.total = 1203;
        writes.push(Write::Sweep(Box::new(record)));
    }
    for index in 0..1203 {
        writes.push(new_trial_like_the_first(trial_id(1, index)));
    }
    writes.extend(first_lease(trial_id(2, 0)));
    let log = |cursor, sweep| logged(cursor, sweep, None, LogEntry::Submitted { trials: 1203 });
    writes.push(Write::Log(log(1, 1)));
    writes.push(Write::Log(log(2, 2)));
    store.commit(&writes).await.unwrap();
    assert_eq!(store.trials(SweepId(1), Some(1201), 0).await.unwrap().items.len(), 1);
    store.commit(&[Write::DeleteSweep { sweep: SweepId(1), at: 7 }]).await.unwrap();
    assert_eq!(store.contents(SweepId(1)).await.unwrap(), SweepContents::default());
    assert!(store.sweep(SweepId(1)).await.unwrap().is_none());
    let other = store.contents(SweepId(2)).await.unwrap();
    assert_eq!((other.attempts, other.log_entries), (1, 1));
}

/// A new trial of any index, with the settings of the first.
fn new_trial_like_the_first(id: TrialId) -> Write {
    let Write::NewTrial { settings, configuration, .. } = new_trial(leased(trial_id(1, 0), 1))
    else {
        unreachable!("it makes a new trial")
    };
    Write::NewTrial { record: leased(id, 1), settings, configuration }
}
