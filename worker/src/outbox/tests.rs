use std::fs;

use deptune_sweep::child::TrialResult;
use deptune_sweep::id::{Epoch, SweepId, TrialId, WorkerId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::scheduler::ReportEnd;

use super::*;

fn lease(index: u64) -> LeaseKey {
    LeaseKey { trial: TrialId { sweep: SweepId(1), index }, epoch: Epoch(2) }
}

fn identity() -> Identity {
    Identity { worker: WorkerId(uuid::Uuid::from_u128(7)), slots: Vec::new() }
}

fn evaluation(step: u64) -> Evaluation {
    Evaluation {
        step,
        split: "validation".to_owned(),
        loss: Number::NaN,
        train_loss: Some(Number::Finite(0.1)),
        metrics: vec![("accuracy".to_owned(), Number::Finite(91.0))],
        constant: Vec::new(),
        rows: 10,
        seconds: 0.5,
        per_class: Vec::new(),
    }
}

fn succeeded(index: u64, adapter: Kept) -> Report {
    let result = TrialResult {
        metric_name: "accuracy".to_owned(),
        metric: Number::Finite(91.0),
        best_step: 5,
        test: Some(evaluation(5)),
        constant_metric: Number::Finite(50.0),
        steps: 10,
        trainable_parameters: 3,
        train_seconds: 1.5,
        peak_memory_bytes: Some(300 << 20),
        mean_utilization: Some(0.75),
        mean_power_watts: Some(412.5),
        stopped_early: false,
        predictions: Vec::new(),
    };
    let end = ReportEnd::Succeeded { result, adapter: adapter.hash };
    Report { lease: lease(index), evaluations: vec![evaluation(5)], last_step: 10, end }
}

struct Fixture {
    dir: tempfile::TempDir,
    outbox: Outbox,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(&dir.path().join("state")).unwrap();
    Fixture { dir, outbox }
}

impl Fixture {
    fn made(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn set_aside(&self) -> usize {
        fs::read_dir(self.outbox.root.join("set-aside")).unwrap().count()
    }
}

#[test]
fn a_directory_serves_one_agent_at_a_time() {
    let f = fixture();
    let root = f.outbox.root.clone();
    match Outbox::open(&root) {
        Err(Error::StateDirBusy { holder: Some(holder), .. }) => {
            assert!(holder.contains(&format!("process {}", std::process::id())), "{holder}");
        }
        other => panic!("{other:?}"),
    }
    drop(f.outbox);
    assert!(Outbox::open(&root).is_ok());
}

#[test]
fn a_later_agent_finds_what_an_earlier_one_left() {
    let f = fixture();
    f.outbox.save_leases(&identity(), &[lease(0), lease(1), lease(2), lease(3)]).unwrap();
    let adapter = f.outbox.keep_adapter(lease(0), 10, &f.made("adapter", "best")).unwrap();
    let report = succeeded(0, adapter.clone());
    f.outbox.save_report(&report).unwrap();
    let end = ReportEnd::Failed { class: FailureClass::Oom, message: "no memory".to_owned() };
    let failed = Report { lease: lease(1), evaluations: Vec::new(), last_step: 3, end };
    f.outbox.save_report(&failed).unwrap();
    for step in [5, 10] {
        let path = f.made("checkpoint", &format!("state at {step}"));
        f.outbox.keep_checkpoint(lease(2), step, &path, vec![evaluation(step)]).unwrap();
        fs::remove_file(path).unwrap();
    }

    let estate = f.outbox.estate().unwrap();
    assert_eq!(estate.identity, identity());
    let [first, second, third, fourth] = estate.trials.as_slice() else { panic!() };
    assert_eq!(first.adapter, Some(adapter));
    // NaN is not equal to itself as a number, but it is as a word.
    assert_eq!(format!("{:?}", first.report), format!("{:?}", Some(report)));
    assert_eq!(second.report, Some(failed));
    assert_eq!(third.checkpoint.as_ref().map(|c| c.step), Some(10));
    let steps: Vec<u64> = third.evaluations.iter().map(|e| e.step).collect();
    assert_eq!(steps, [10, 5]);
    assert!(fourth.report.is_none() && fourth.checkpoint.is_none());
    assert!(!f.outbox.checkpoint(lease(2), 5).exists());

    for trial in &estate.trials {
        f.outbox.forget(trial.lease);
    }
    assert_eq!(fs::read_dir(f.outbox.root.join("outbox")).unwrap().count(), 0);
    assert_eq!(f.set_aside(), 0);
}

#[test]
fn torn_and_foreign_files_are_set_aside() {
    let f = fixture();
    f.outbox.save_leases(&identity(), &[lease(0), lease(1)]).unwrap();
    let path = f.made("adapter", "best");
    let adapter = f.outbox.keep_adapter(lease(0), 10, &path).unwrap();
    f.outbox.save_report(&succeeded(0, adapter)).unwrap();
    // Links share their content: a child that writes on spoils the kept file too.
    fs::write(&path, "spoiled").unwrap();
    let checkpoint = f.made("checkpoint", "state");
    f.outbox.keep_checkpoint(lease(1), 5, &checkpoint, Vec::new()).unwrap();
    let record = f.outbox.checkpoint_record(lease(1), 5);
    let text = fs::read(&record).unwrap();
    fs::write(&record, &text[..text.len() / 2]).unwrap();
    fs::write(f.outbox.entry("notes.txt"), "mine").unwrap();
    fs::write(f.outbox.entry("report-1.9-1.json"), "{\"version\": 99}").unwrap();

    let estate = f.outbox.estate().unwrap();
    assert_eq!(estate.trials.len(), 2);
    assert!(estate.trials.iter().all(|t| t.report.is_none() && t.checkpoint.is_none()));
    assert_eq!(f.set_aside(), 4);
    assert_eq!(fs::read_dir(f.outbox.root.join("outbox")).unwrap().count(), 0);
}

#[test]
fn a_torn_list_of_leases_is_no_estate() {
    let f = fixture();
    assert!(f.outbox.estate().is_none());
    fs::write(f.outbox.root.join("leases.json"), "{\"vers").unwrap();
    assert!(f.outbox.estate().is_none());
    assert_eq!(f.set_aside(), 1);
}
