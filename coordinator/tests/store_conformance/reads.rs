//! What the service reads.

use deptune_coordinator::store::{EvaluationKey, SweepFilter, TrialPhase};
use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::{FailureClass, SweepStatus};
use deptune_sweep::record::{AttemptEnd, CheckpointRef, LogEntry};
use deptune_sweep::scheduler::Write;

use crate::bench::Bench;
use crate::sample::{
    NOW, attempt_started, end, evaluated, evaluation, failure, first_lease, key, leased, logged,
    success, sweep, sweep_record, trial_id, worker,
};

pub(crate) async fn sweeps_are_found_and_listed(bench: Bench) {
    let store = bench.open().await;
    let other = sweep_record(2, "3", "# another text, another hash\n");
    let other_hash = other.spec_hash.clone();
    let writes = [
        sweep(1),
        Write::Sweep(Box::new(other)),
        sweep(3),
        Write::SweepStatus {
            sweep: SweepId(1),
            status: SweepStatus::Finished,
            finished: Some(NOW + 1),
        },
    ];
    store.commit(&writes).await.unwrap();
    let found = |text: &'static str| store.find_sweep(text);
    assert_eq!(found("1").await.unwrap(), Some(SweepId(1)));
    assert_eq!(found("sample").await.unwrap(), Some(SweepId(3)), "the latest of that name");
    assert_eq!(found("3").await.unwrap(), Some(SweepId(3)), "digits are a number");
    assert_eq!(found("4").await.unwrap(), None);
    // Earlier versions allowed such names; who means the number must not get another sweep.
    store.commit(&[Write::Sweep(Box::new(sweep_record(4, "12", "")))]).await.unwrap();
    assert_eq!(found("12").await.unwrap(), None);
    assert_eq!(found("+1").await.unwrap(), None, "no number");
    assert_eq!(found("").await.unwrap(), None);
    assert_eq!(found("' or 1=1 --").await.unwrap(), None);

    let ids = |filter: SweepFilter| {
        let store = &store;
        async move {
            let page = store.sweeps(&filter, None, 0).await.unwrap();
            assert!(!page.more);
            page.items.iter().map(|s| s.id.0).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids(SweepFilter::default()).await, [4, 3, 2, 1]);
    let running = SweepFilter { status: Some(SweepStatus::Running), spec_hash: None };
    assert_eq!(ids(running).await, [4, 3, 2]);
    let by_hash = SweepFilter { status: None, spec_hash: Some(other_hash) };
    assert_eq!(ids(by_hash).await, [2]);

    let one = store.sweep(SweepId(1)).await.unwrap().unwrap();
    assert_eq!((one.status, one.finished), (SweepStatus::Finished, Some(NOW + 1)));
    assert_eq!((one.name.as_str(), one.submitted), ("sample", NOW));
    assert!(store.sweep(SweepId(9)).await.unwrap().is_none());
    let spec = store.spec(SweepId(2)).await.unwrap().unwrap();
    assert!(spec.ends_with("another hash\n"));
    assert!(store.spec(SweepId(9)).await.unwrap().is_none());
}

pub(crate) async fn pages_neither_repeat_nor_hide(bench: Bench) {
    let store = bench.open().await;
    let mut writes = vec![worker(1), sweep(1), sweep(2)];
    for index in [0, 1, 2, 4, 5] {
        let id = trial_id(1, index);
        writes.extend(first_lease(id));
        writes.push(evaluated(id, 1, evaluation(25, "validation", 60.0)));
        writes.push(evaluated(id, 1, evaluation(50, "test", 61.0)));
        writes.push(evaluated(id, 1, evaluation(50, "validation", 62.0)));
        let what = LogEntry::Evaluated { evaluation: evaluation(25, "validation", 60.0) };
        writes.push(Write::Log(logged(index * 2 + 1, 1, Some(index), what)));
        let elsewhere = LogEntry::Submitted { trials: 1 };
        writes.push(Write::Log(logged(index * 2 + 2, 2, None, elsewhere)));
    }
    store.commit(&writes).await.unwrap();

    let first = store.trials(SweepId(1), None, 2).await.unwrap();
    assert_eq!(indices(first.items.iter().map(|t| t.id)), [0, 1]);
    assert!(first.more);
    // A row that comes in between is seen, none twice.
    store.commit(&first_lease(trial_id(1, 6))).await.unwrap();
    let rest = store.trials(SweepId(1), Some(1), 4).await.unwrap();
    assert_eq!(indices(rest.items.iter().map(|t| t.id)), [2, 4, 5, 6]);
    assert!(!rest.more);
    assert_eq!(rest.items[0].phase, TrialPhase::Leased);
    assert_eq!(rest.items[0].attempts, 1);
    assert_eq!(rest.items[0].worker.as_deref(), Some("node-1"));

    let mut keys = Vec::new();
    let mut after: Option<EvaluationKey> = None;
    loop {
        let page = store.evaluations(SweepId(1), None, after, 4).await.unwrap();
        for row in &page.items {
            assert_eq!(row.evaluation.metrics.len(), 2);
            assert_eq!(row.evaluation.constant.len(), 2);
        }
        keys.extend(page.items.iter().map(|row| row.key()));
        after = page.items.last().map(|row| row.key());
        if !page.more {
            break;
        }
    }
    assert_eq!(keys.len(), 15);
    assert!(keys.is_sorted_by(|a, b| a < b));
    let of_one = store.evaluations(SweepId(1), Some(4), None, 2).await.unwrap();
    assert!(of_one.more);
    assert_eq!(of_one.items[1].evaluation, evaluation(50, "test", 61.0));
    let last = of_one.items.last().map(|row| row.key());
    let of_one = store.evaluations(SweepId(1), Some(4), last, 2).await.unwrap();
    assert!(!of_one.more);
    assert_eq!(of_one.items[0].evaluation, evaluation(50, "validation", 62.0));

    let page = store.log(SweepId(1), 3, 2).await.unwrap();
    assert_eq!(page.items.iter().map(|e| e.cursor).collect::<Vec<_>>(), [5, 9]);
    assert!(page.more);
    let page = store.log(SweepId(1), 9, 2).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert!(!page.more);
    let page = store.sweeps(&SweepFilter::default(), Some(SweepId(2)), 1).await.unwrap();
    assert_eq!(page.items[0].id, SweepId(1));
    assert!(!page.more);
}

fn indices(ids: impl Iterator<Item = TrialId>) -> Vec<u64> {
    ids.map(|id| id.index).collect()
}

pub(crate) async fn an_evaluation_again_replaces_the_first(bench: Bench) {
    let store = bench.open().await;
    let id = trial_id(1, 0);
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(id));
    let first = evaluation(25, "validation", 60.0);
    writes.push(evaluated(id, 1, first.clone()));
    writes.push(evaluated(id, 1, first));
    store.commit(&writes).await.unwrap();
    // The trial is leased again, resumes before that step, and evaluates again: with a rounding
    // difference, and one metric less.
    let mut again = evaluation(25, "validation", 60.5);
    again.metrics.pop();
    again.constant.clear();
    again.train_loss = None;
    let writes = [Write::Trial(leased(id, 2)), evaluated(id, 2, again.clone())];
    store.commit(&writes).await.unwrap();
    let page = store.evaluations(SweepId(1), None, None, 0).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].evaluation, again);
}

pub(crate) async fn numbers_that_are_not_finite_survive(bench: Bench) {
    let store = bench.open().await;
    let mut writes = vec![worker(1), sweep(1)];
    let odd = [
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        0.1 + 0.2,
        f64::MIN_POSITIVE,
        f64::MAX,
        -1e-300,
    ];
    let odd = odd.map(Number::from);
    let strange = |number: Number| {
        let mut evaluation = evaluation(25, "validation", 1.0);
        evaluation.loss = number;
        evaluation.train_loss = Some(number);
        evaluation.metrics[0].1 = number;
        evaluation.constant[1].1 = number;
        evaluation
    };
    let outcome = |index: usize, number: Number| {
        let mut outcome = success(trial_id(1, index as u64), 1, 1.0);
        let result = outcome.result.as_mut().unwrap();
        result.metric = number;
        result.constant_metric = number;
        result.test = Some(strange(number));
        outcome
    };
    for (index, &number) in odd.iter().enumerate() {
        let id = trial_id(1, index as u64);
        writes.extend(first_lease(id));
        writes.push(evaluated(id, 1, strange(number)));
        let what = LogEntry::Evaluated { evaluation: strange(number) };
        writes.push(Write::Log(logged(index as u64 + 1, 1, Some(index as u64), what)));
        writes.extend(end(outcome(index, number)));
    }
    store.commit(&writes).await.unwrap();
    let evaluations = store.evaluations(SweepId(1), None, None, 0).await.unwrap().items;
    let trials = store.trials(SweepId(1), None, 0).await.unwrap().items;
    let log = store.log(SweepId(1), 0, 0).await.unwrap().items;
    for (index, &number) in odd.iter().enumerate() {
        assert_eq!(evaluations[index].evaluation, strange(number));
        assert_eq!(trials[index].result, outcome(index, number).result);
        assert_eq!(log[index].what, LogEntry::Evaluated { evaluation: strange(number) });
    }
}

pub(crate) async fn attempts_tell_their_story(bench: Bench) {
    let store = bench.open().await;
    let id = trial_id(1, 0);
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(id));
    // Progress never goes back.
    writes.push(Write::AttemptProgress { lease: key(id, 1), last_step: 40 });
    writes.push(Write::AttemptProgress { lease: key(id, 1), last_step: 30 });
    writes.push(Write::AttemptEnded {
        lease: key(id, 1),
        end: AttemptEnd::Expired,
        class: Some(FailureClass::WorkerLost),
        message: "not heard".to_owned(),
        last_step: 30,
        at: NOW + 5,
    });
    store.commit(&writes).await.unwrap();
    let rows = store.attempts(id).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].end, Some(AttemptEnd::Expired));
    assert_eq!(rows[0].class, Some(FailureClass::WorkerLost));
    assert_eq!((rows[0].message.as_str(), rows[0].ended), ("not heard", Some(NOW + 5)));
    assert_eq!((rows[0].first_step, rows[0].last_step), (0, 40));

    // Its worker is heard after all: the same attempt goes on.
    store.commit(&[attempt_started(id, 1)]).await.unwrap();
    let rows = store.attempts(id).await.unwrap();
    assert_eq!((rows[0].end, rows[0].ended, rows[0].class), (None, None, None));
    assert_eq!((rows[0].message.as_str(), rows[0].last_step), ("", 40));
    assert_eq!((rows[0].worker.as_str(), rows[0].slot, rows[0].started), ("node-1", 0, NOW));

    let mut ends = end(failure(id, 2));
    let Write::AttemptEnded { last_step, .. } = &mut ends[0] else { panic!("not an end") };
    *last_step = 7;
    let mut writes = vec![Write::Trial(leased(id, 2)), attempt_started(id, 2)];
    writes.extend(ends);
    store.commit(&writes).await.unwrap();
    let rows = store.attempts(id).await.unwrap();
    assert_eq!(rows.iter().map(|a| a.epoch.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rows[1].last_step, 7, "an end says how far the attempt came");
    assert_eq!(rows[1].class, Some(FailureClass::Diverged));
    let trial = &store.trials(SweepId(1), None, 0).await.unwrap().items[0];
    assert_eq!((trial.attempts, trial.class), (2, Some(FailureClass::Diverged)));
    assert_eq!(trial.message, "the loss was NaN at step 7");
    assert!(store.attempts(trial_id(9, 9)).await.unwrap().is_empty());
}

pub(crate) async fn artifacts_in_use_are_known(bench: Bench) {
    let store = bench.open().await;
    let (a, b) = (trial_id(1, 0), trial_id(1, 1));
    let checkpoint =
        |content: &[u8]| Some(CheckpointRef { step: 25, hash: ArtifactHash::of(content) });
    let mut writes = vec![worker(1), sweep(1)];
    writes.extend(first_lease(a));
    writes.extend(first_lease(b));
    let mut record = leased(a, 1);
    record.checkpoint = checkpoint(b"first");
    writes.push(Write::Trial(record.clone()));
    record.checkpoint = checkpoint(b"second");
    writes.push(Write::Trial(record));
    writes.extend(end(success(b, 1, 60.0)));
    store.commit(&writes).await.unwrap();
    let expected: [(&[u8], bool); 7] = [
        (b"train", true),
        (b"validation", true),
        (b"model", true),
        (b"second", true),
        (b"first", false),
        (&1_u64.to_le_bytes(), true),
        (b"never seen", false),
    ];
    for (content, referenced) in expected {
        let hash = ArtifactHash::of(content);
        assert_eq!(store.is_artifact_referenced(&hash).await.unwrap(), referenced);
    }
}
