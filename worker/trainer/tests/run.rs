//! The real child process on the quickstart's model and data: jobs in, messages out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use deptune_sweep::child::{DataFile, Device, FileHash, Job, Member, Message, PROTOCOL};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::model::ModelConfig;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::spec::{Format, Settings, Spec};

fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart")
}

/// Settings of a short trial: 12 updates, evaluated after 4, 8 and 12.
fn settings(edit: impl Fn(String) -> String) -> Settings {
    let spec = r#"
name = "short"
[model]
path = "model"
[task]
name = "opinion"
train = "data/train.jsonl"
validation = "data/validation.jsonl"
test = "data/test.jsonl"
template = "sentence: {text}"
label = "sentiment"
labels = ["negative", "positive"]
metrics = ["accuracy"]
train_limit = 40
validation_limit = 10
test_limit = 10
[method]
kind = "dept"
[space]
prompt_lr = 0.3
lowrank_lr = 5e-3
prompt_length = 8
rank = 4
seeds = 42
[train]
steps = 12
batch_size = 4
max_length = 32
warmup_steps = 2
eval_every = 4
"#;
    let config = std::fs::read_to_string(quickstart().join("model/config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let spec = Spec::parse(&edit(spec.to_owned()), Format::Toml, Some(&config)).unwrap();
    spec.settings(0).unwrap()
}

fn job(settings: Settings, scratch: &Path, resume: Option<PathBuf>) -> Job {
    let data = |split: &str| DataFile {
        split: split.to_owned(),
        name: format!("data/{split}.jsonl"),
        path: quickstart().join(format!("data/{split}.jsonl")),
    };
    let trial = TrialId { sweep: SweepId(1), index: 0 };
    Job {
        protocol: PROTOCOL,
        model: quickstart().join("model"),
        model_files: vec![],
        data: ["train", "validation", "test"].map(data).to_vec(),
        adapters: vec![],
        scratch: scratch.to_owned(),
        device: Device::Cpu,
        threads: 1,
        trials: vec![Member { trial, settings, resume }],
    }
}

fn start(job: &Job) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_deptune-trainer"))
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(job).unwrap();
    line.push(b'\n');
    child.stdin.take().unwrap().write_all(&line).unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn run(job: &Job) -> Vec<Message> {
    let (mut child, out) = start(job);
    let messages = out.lines().map(|l| serde_json::from_str(&l.unwrap()).unwrap()).collect();
    assert!(child.wait().unwrap().success());
    messages
}

/// Evaluations (without their wall time), the result (likewise) and the adapter's bytes.
fn essence(messages: &[Message]) -> (Vec<String>, String, Vec<u8>) {
    let mut evaluations = vec![];
    let mut done = None;
    for message in messages {
        match message {
            Message::Eval { evaluation, .. } => {
                let mut evaluation = evaluation.clone();
                evaluation.seconds = 0.0;
                evaluations.push(serde_json::to_string(&evaluation).unwrap());
            }
            Message::Done { result, adapter, .. } => {
                let mut result = result.clone();
                result.train_seconds = 0.0;
                if let Some(test) = &mut result.test {
                    test.seconds = 0.0;
                }
                done = Some((
                    serde_json::to_string(&result).unwrap(),
                    std::fs::read(adapter).unwrap(),
                ));
            }
            Message::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
    let (result, adapter) = done.expect("the trial is done");
    (evaluations, result, adapter)
}

/// The one failure that ends a run.
fn only_failure(messages: &[Message]) -> (FailureClass, String) {
    assert!(!messages.iter().any(|m| matches!(m, Message::Done { .. })));
    match messages.last() {
        Some(Message::Failed { class, message, .. }) => (*class, message.clone()),
        other => panic!("expected a failure at the end, got {other:?}"),
    }
}

#[test]
fn a_killed_run_ends_with_the_same_bits() {
    let (straight, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = settings(|s| s);
    let expected = essence(&run(&job(settings.clone(), straight.path(), None)));
    assert_eq!(expected.0.len(), 4, "three validations and a test");

    let (mut child, out) = start(&job(settings.clone(), killed.path(), None));
    let mut checkpoint = None;
    let mut first = vec![];
    for line in out.lines() {
        let message: Message = serde_json::from_str(&line.unwrap()).unwrap();
        if let Message::Checkpoint { step, path, .. } = &message {
            checkpoint = Some((*step, path.clone()));
            child.kill().unwrap();
            break;
        }
        first.push(message);
    }
    child.wait().unwrap();
    let (step, path) = checkpoint.expect("a checkpoint before the end");
    assert_eq!(step, 4);
    let rest = run(&job(settings, killed.path(), Some(path)));
    assert!(matches!(&rest[0], Message::Started { first_steps, .. } if *first_steps == [4]));
    first.extend(rest);
    assert_eq!(essence(&first), expected);
}

#[test]
fn sigterm_leaves_a_checkpoint_and_exits_cleanly() {
    let scratch = tempfile::tempdir().unwrap();
    let long = settings(|s| {
        s.replace("steps = 12", "steps = 5000").replace("eval_every = 4", "eval_every = 5000")
    });
    let (mut child, out) = start(&job(long.clone(), scratch.path(), None));
    let mut messages = vec![];
    for line in out.lines() {
        let message: Message = serde_json::from_str(&line.unwrap()).unwrap();
        if matches!(message, Message::Progress { .. }) && messages.len() < 2 {
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        }
        messages.push(message);
    }
    assert!(child.wait().unwrap().success());
    let Some(Message::Checkpoint { step, path, .. }) = messages.last() else {
        panic!("the last message is a checkpoint: {messages:?}")
    };
    assert!(path.exists() && (1..5000).contains(step));
}

#[test]
fn a_checkpoint_of_other_settings_is_not_used() {
    let scratch = tempfile::tempdir().unwrap();
    let messages = run(&job(settings(|s| s), scratch.path(), None));
    let checkpoint = messages.iter().find_map(|m| match m {
        Message::Checkpoint { path, .. } => Some(path.clone()),
        _ => None,
    });
    let other = settings(|s| s.replace("seeds = 42", "seeds = 43"));
    let messages = run(&job(other, scratch.path(), checkpoint));
    assert!(matches!(&messages[0], Message::Started { first_steps, .. } if *first_steps == [0]));
}

#[test]
fn a_trial_that_diverges_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    // Overflow needs rates far beyond what a spec accepts.
    let mut wild = settings(|s| s);
    wild.prompt_lr = Some(1e38);
    let messages = run(&job(wild, scratch.path(), None));
    let (class, message) = only_failure(&messages);
    assert_eq!(class, FailureClass::Diverged);
    assert!(message.contains("smaller learning rates"), "{message}");
}

#[test]
fn bad_rows_and_changed_models_are_data_failures() {
    let scratch = tempfile::tempdir().unwrap();
    let bad = scratch.path().join("bad.jsonl");
    std::fs::write(&bad, "{\"text\": \"fine\", \"sentiment\": \"positive\"}\n{\"text\": \"no\"}\n")
        .unwrap();
    let mut broken = job(settings(|s| s), scratch.path(), None);
    broken.data[0].path = bad;
    let (class, message) = only_failure(&run(&broken));
    assert_eq!(class, FailureClass::Data);
    assert!(message.contains("data/train.jsonl:2"), "{message}");

    let mut changed = job(settings(|s| s), scratch.path(), None);
    changed.model_files = vec![FileHash { name: "config.json".into(), hash: "0".repeat(64) }];
    let (class, message) = only_failure(&run(&changed));
    assert_eq!(class, FailureClass::Data);
    assert!(message.contains("changed after submit"), "{message}");
}

#[test]
fn a_pack_of_two_gives_two_results() {
    let scratch = tempfile::tempdir().unwrap();
    let mut both = job(settings(|s| s), scratch.path(), None);
    let slow = settings(|s| s.replace("prompt_lr = 0.3", "prompt_lr = 0.1"));
    let trial = TrialId { sweep: SweepId(1), index: 1 };
    both.trials.push(Member { trial, settings: slow, resume: None });
    let messages = run(&both);
    let done = messages.iter().filter(|m| matches!(m, Message::Done { .. })).count();
    assert_eq!(done, 2);
}
