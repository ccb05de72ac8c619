//! The real child process on the quickstart's model and data: jobs in, messages out.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use deptune_sweep::child::{
    AdapterFile, DataFile, Device, FileHash, Job, Member, Message, Order, PROTOCOL,
};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::model::ModelConfig;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::spec::{Format, Settings, Spec, WarmStart};
use serde::Serialize;

fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart")
}

/// Settings of a short trial: 12 updates, evaluated after 4, 8 and 12.
fn settings(edit: impl Fn(String) -> String) -> Settings {
    settings_for(&quickstart().join("model"), &edit(SPEC.to_owned()))
}

const SPEC: &str = r#"
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

fn settings_for(model: &Path, spec: &str) -> Settings {
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let spec = Spec::parse(spec, Format::Toml, Some(&config)).unwrap();
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

/// A trainer at work on a job, which hears what is written to it.
fn start_listening(job: &Job) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_deptune-trainer"))
        .arg("run")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    say(&mut stdin, job);
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, stdin, out)
}

fn say(stdin: &mut ChildStdin, what: &impl Serialize) {
    let mut line = serde_json::to_vec(what).unwrap();
    line.push(b'\n');
    stdin.write_all(&line).unwrap();
}

fn start(job: &Job) -> (Child, BufReader<ChildStdout>) {
    let (child, _, out) = start_listening(job);
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
                result.peak_memory_bytes = None;
                (result.mean_utilization, result.mean_power_watts) = (None, None);
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

/// Between two evaluations, with updates whose losses nobody had looked at.
#[test]
fn a_stopped_run_ends_with_the_same_bits_and_the_same_mean_loss() {
    let (straight, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let long = settings(|s| {
        s.replace("steps = 12", "steps = 400").replace("eval_every = 4", "eval_every = 400")
    });
    let expected = essence(&run(&job(long.clone(), straight.path(), None)));
    let (mut child, out) = start(&job(long.clone(), stopped.path(), None));
    let mut checkpoint = None;
    for line in out.lines() {
        match serde_json::from_str(&line.unwrap()).unwrap() {
            Message::Progress { .. } => {
                let pid = child.id().to_string();
                assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            }
            Message::Checkpoint { step, path, .. } => checkpoint = Some((step, path)),
            _ => {}
        }
    }
    assert!(child.wait().unwrap().success());
    let (step, path) = checkpoint.expect("a checkpoint when it stops");
    assert!((1..400).contains(&step), "it stopped at {step}");
    assert_eq!(essence(&run(&job(long, stopped.path(), Some(path)))), expected);
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
    // The last trial of a pack may diverge in the update before an evaluation.
    for eval_every in [4, 1] {
        let scratch = tempfile::tempdir().unwrap();
        let mut wild =
            settings(|s| s.replace("eval_every = 4", &format!("eval_every = {eval_every}")));
        // Overflow needs rates far beyond what a spec accepts.
        wild.prompt_lr = Some(1e38);
        let messages = run(&job(wild, scratch.path(), None));
        let (class, message) = only_failure(&messages);
        assert_eq!(class, FailureClass::Diverged);
        assert!(message.contains("smaller learning rates"), "{message}");
    }
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

#[test]
fn a_member_that_is_dropped_says_nothing_more_and_the_other_finishes() {
    let long = |spec: String| spec.replace("\nsteps = 12", "\nsteps = 400");
    let [first, second] = [0, 1].map(|index| TrialId { sweep: SweepId(1), index });
    for (dropped, kept) in [(second, first), (first, second)] {
        let scratch = tempfile::tempdir().unwrap();
        let mut both = job(settings(long), scratch.path(), None);
        both.trials.push(Member { trial: second, ..both.trials[0].clone() });
        let (mut child, mut stdin, out) = start_listening(&both);
        let (mut ended, mut evaluations) = (Vec::new(), 0);
        for line in out.lines() {
            match serde_json::from_str(&line.unwrap()).unwrap() {
                Message::Started { .. } => {
                    say(&mut stdin, &Order::Drop { trial: dropped });
                }
                Message::Done { trial, result, .. } => {
                    assert!(result.test.is_some(), "read once, at its end");
                    ended.push(trial);
                }
                Message::Failed { message, .. } => panic!("{message}"),
                Message::Eval { trial, evaluation } if trial == dropped => {
                    assert!(evaluation.step < 400, "it trained to its end");
                }
                Message::Eval { .. } => evaluations += 1,
                _ => {}
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(ended, [kept]);
        assert_eq!(evaluations, 400 / 4 + 1, "all validations and the test");
    }
}

/// The spec of a method instead of DePT.
fn with_method(kind: &str, space: &str) -> impl Fn(String) -> String {
    let head = format!("[method]\nkind = \"{kind}\"\n[space]\n{space}\nseeds = 42\n[train]\n");
    move |spec| {
        let (start, _) = spec.split_once("[method]").unwrap();
        let (_, end) = spec.split_once("[train]\n").unwrap();
        format!("{start}{head}{end}")
    }
}

const LORA: &str = "learning_rate = 1e-2\nrank = 4";
const FULL: &str = "learning_rate = 1e-3";

/// The checkpoint of step 4, after which the process is killed, and what it said until then.
fn until_killed(job: &Job) -> (PathBuf, Vec<Message>) {
    let (mut child, out) = start(job);
    let mut messages = vec![];
    for line in out.lines() {
        let message: Message = serde_json::from_str(&line.unwrap()).unwrap();
        if let Message::Checkpoint { step: 4, path, .. } = &message {
            child.kill().unwrap();
            child.wait().unwrap();
            return (path.clone(), messages);
        }
        messages.push(message);
    }
    panic!("no checkpoint of step 4: {messages:?}");
}

#[test]
fn every_method_survives_a_kill_bit_for_bit() {
    let dropout = |spec: String| spec + "dropout = 0.1\n";
    for (kind, space) in [("lora", LORA), ("full", FULL)] {
        let (straight, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let settings = settings(|spec| dropout(with_method(kind, space)(spec)));
        let expected = essence(&run(&job(settings.clone(), straight.path(), None)));
        let (path, mut messages) = until_killed(&job(settings.clone(), killed.path(), None));
        messages.extend(run(&job(settings, killed.path(), Some(path))));
        assert_eq!(essence(&messages), expected, "{kind}");
    }
}

/// Four trials of one seed with dropout, of other rates, ranks and prompts.
fn pack(scratch: &Path, resume: &[Option<PathBuf>]) -> Job {
    let changes = [
        ("prompt_lr = 0.3", "prompt_lr = 0.3"),
        ("prompt_lr = 0.3", "prompt_lr = 0.1"),
        ("rank = 4", "rank = 2"),
        ("prompt_length = 8", "prompt_length = 7"),
    ];
    let mut pack = job(settings(|spec| spec), scratch, None);
    pack.trials.clear();
    for (index, ((from, to), resume)) in (0..).zip(changes.iter().zip(resume)) {
        let settings = settings(|spec| spec.replace(from, to) + "dropout = 0.1\n");
        let trial = TrialId { sweep: SweepId(1), index };
        pack.trials.push(Member { trial, settings, resume: resume.clone() });
    }
    pack
}

/// What is said of a trial.
fn of(messages: &[Message], index: u64) -> Vec<Message> {
    let about = |message: &&Message| match message {
        Message::Eval { trial, .. } | Message::Done { trial, .. } => trial.index == index,
        _ => false,
    };
    messages.iter().filter(about).cloned().collect()
}

/// Deletes what a child has kept of a trial after this checkpoint, between its last word that was
/// heard and its end.
fn forget_later(checkpoint: &Path) {
    let step = |path: &Path| {
        let stem = path.file_stem()?.to_str()?;
        let (trial, step) = stem.rsplit_once('-')?;
        Some((trial.to_owned(), step.parse::<u64>().ok()?))
    };
    let (trial, named) = step(checkpoint).unwrap();
    for entry in std::fs::read_dir(checkpoint.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if step(&path).is_some_and(|(of, at)| of == trial && at > named) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn a_killed_pack_goes_on_from_where_all_of_it_was_with_the_same_bits() {
    let straight = tempfile::tempdir().unwrap();
    let expected = run(&pack(straight.path(), &[None, None, None, None]));
    // All four have a checkpoint of step 8, or only two of them.
    for (checkpoints, goes_on) in [(8, 8), (6, 4)] {
        let scratch = tempfile::tempdir().unwrap();
        let (mut child, out) = start(&pack(scratch.path(), &[None, None, None, None]));
        let mut latest = vec![None; 4];
        let mut seen = 0;
        for line in out.lines() {
            let message: Message = serde_json::from_str(&line.unwrap()).unwrap();
            if let Message::Checkpoint { trial, path, .. } = message {
                latest[trial.index as usize] = Some(path);
                seen += 1;
                if seen == checkpoints {
                    child.kill().unwrap();
                    break;
                }
            }
        }
        child.wait().unwrap();
        latest.iter().flatten().for_each(|named| forget_later(named));
        let rest = run(&pack(scratch.path(), &latest));
        assert!(
            matches!(&rest[0], Message::Started { first_steps, .. } if *first_steps == [goes_on; 4])
        );
        for index in 0..4 {
            let (evaluations, result, adapter) = essence(&of(&expected, index));
            let passed = goes_on as usize / 4;
            let left = (evaluations[passed..].to_vec(), result, adapter);
            assert_eq!(essence(&of(&rest, index)), left, "trial {index} from step {goes_on}");
        }
    }
}

/// A directory with one of the golden decoders and a tokenizer of a few words.
fn decoder(name: &str) -> tempfile::TempDir {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name);
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(golden.join(file), dir.path().join(file)).unwrap();
    }
    let words = ["</s>", "[UNK]", "sentence", ":", "Label", "negative", "positive", "the", "it"];
    let vocab: serde_json::Map<String, serde_json::Value> =
        words.iter().zip(1..).map(|(word, id)| ((*word).to_owned(), id.into())).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null,
        "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]"},
    });
    std::fs::write(dir.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    dir
}

#[test]
fn decoders_survive_a_kill_bit_for_bit() {
    for (name, kind, space) in [("gpt2", "lora", LORA), ("llama", "full", FULL)] {
        let model = decoder(name);
        let spec = with_method(kind, space)(SPEC.to_owned()) + "dropout = 0.1\n";
        let settings = settings_for(model.path(), &spec);
        let of = |scratch: &Path, resume| Job {
            model: model.path().to_owned(),
            ..job(settings.clone(), scratch, resume)
        };
        let (straight, killed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let expected = essence(&run(&of(straight.path(), None)));
        let (path, mut messages) = until_killed(&of(killed.path(), None));
        messages.extend(run(&of(killed.path(), Some(path))));
        assert_eq!(essence(&messages), expected, "{name}");
    }
}

#[test]
fn the_checkpoint_before_a_torn_one_is_used() {
    let scratch = tempfile::tempdir().unwrap();
    let settings = settings(|s| s);
    let whole = run(&job(settings.clone(), scratch.path(), None));
    let checkpoints: Vec<PathBuf> = whole
        .iter()
        .filter_map(|m| match m {
            Message::Checkpoint { path, .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(checkpoints.len(), 3);
    let kept: Vec<bool> = checkpoints.iter().map(|path| path.exists()).collect();
    assert_eq!(kept, [false, true, true], "the last two are kept");
    let bytes = std::fs::read(&checkpoints[2]).unwrap();
    std::fs::write(&checkpoints[2], &bytes[..bytes.len() / 2]).unwrap();
    let again = run(&job(settings, scratch.path(), Some(checkpoints[2].clone())));
    assert!(matches!(&again[0], Message::Started { first_steps, .. } if *first_steps == [8]));
    let (_, result, adapter) = essence(&again);
    assert_eq!((result, adapter), (essence(&whole).1, essence(&whole).2));
}

#[test]
fn answers_are_written_on_request_and_classes_reported() {
    let scratch = tempfile::tempdir().unwrap();
    for decoding in ["greedy", "labels"] {
        let asked = format!("save_predictions = true\ndecoding = \"{decoding}\"\n");
        let messages = run(&job(settings(|s| s + &asked), scratch.path(), None));
        let files: Vec<(&str, &Path)> = messages
            .iter()
            .filter_map(|m| match m {
                Message::Predictions { split, path, .. } => Some((split.as_str(), path.as_path())),
                _ => None,
            })
            .collect();
        assert_eq!(
            files.iter().map(|(split, _)| *split).collect::<Vec<_>>(),
            ["validation", "test"]
        );
        let Some(Message::Done { result, .. }) = messages.last() else { panic!("{messages:?}") };
        let test = result.test.as_ref().unwrap();
        for (split, path) in files {
            let text = std::fs::read_to_string(path).unwrap();
            let rows: Vec<serde_json::Value> =
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(rows.len(), 10);
            let right = rows.iter().filter(|row| row["correct"] == true).count();
            let accuracy = if split == "test" { test.metrics[0].1 } else { result.metric };
            assert_eq!(accuracy.get(), 10.0 * right as f64, "{split}");
            assert!(
                rows[3]["row"] == 3
                    && rows[3]["source"].as_str().unwrap().starts_with("sentence: ")
            );
            if decoding == "labels" {
                let known = ["negative", "positive"];
                assert!(
                    rows.iter().all(|row| known.contains(&row["prediction"].as_str().unwrap()))
                );
            }
        }
        let support: u64 = test.per_class.iter().map(|class| class.support).sum();
        assert_eq!((test.per_class.len(), support), (2, 10));
    }
}

#[test]
fn a_trial_without_gain_ends_early() {
    let scratch = tempfile::tempdir().unwrap();
    // With rates of 0 the first evaluation stays the best.
    let mut still = settings(|s| s.replace("steps = 12", "steps = 40") + "patience = 2\n");
    still.prompt_lr = Some(0.0);
    still.lowrank_lr = Some(0.0);
    let mut both = job(still.clone(), scratch.path(), None);
    let other = TrialId { sweep: SweepId(1), index: 1 };
    let moving = Settings { prompt_lr: Some(0.3), ..still };
    both.trials.push(Member { trial: other, settings: moving, resume: None });
    let messages = run(&both);
    let ends: Vec<_> = messages
        .iter()
        .filter_map(|m| match m {
            Message::Done { trial, result, .. } => {
                Some((trial.index, result.steps, result.clone()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(ends.len(), 2);
    let (_, steps, result) = ends.iter().find(|(index, ..)| *index == 0).unwrap();
    assert_eq!((*steps, result.best_step, result.stopped_early), (12, 4, true));
    assert!(result.test.is_some());
    let after =
        messages.iter().position(|m| matches!(m, Message::Done { trial, .. } if trial.index == 0));
    let later = &messages[after.unwrap() + 1..];
    let about = |m: &Message| matches!(m, Message::Eval { trial, .. } | Message::Checkpoint { trial, .. } if trial.index == 0);
    assert!(!later.iter().any(about), "nothing more is said of it");
}

#[test]
fn a_trial_starts_from_the_adapter_of_another() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, _, bytes) = essence(&run(&job(settings(|s| s), scratch.path(), None)));
    let path = scratch.path().join("source.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let first_loss = |messages: &[Message]| {
        messages.iter().find_map(|m| match m {
            Message::Eval { evaluation, .. } => Some(evaluation.loss.get()),
            _ => None,
        })
    };
    let with = |edit: &dyn Fn(&mut Settings)| {
        let scratch = tempfile::tempdir().unwrap();
        let mut settings = settings(|s| s);
        edit(&mut settings);
        let mut job = job(settings, scratch.path(), None);
        job.adapters = vec![AdapterFile { name: "source".to_owned(), path: path.clone() }];
        run(&job)
    };
    let still = |s: &mut Settings| (s.prompt_lr, s.lowrank_lr) = (Some(0.0), Some(0.0));
    let source = |s: &mut Settings| s.source = Some("source".to_owned());
    let cold = with(&|s| still(s));
    let warm = with(&|s| (still(s), source(s)).0);
    let prompt = with(&|s| {
        still(s);
        source(s);
        s.warm_start = WarmStart::Prompt;
    });
    let losses = [&cold, &warm, &prompt].map(|messages| first_loss(messages).unwrap());
    assert!(
        losses[0] != losses[1] && losses[1] != losses[2] && losses[0] != losses[2],
        "{losses:?}"
    );
    let (class, message) = only_failure(&with(&|s| {
        source(s);
        s.prompt_length = 9;
    }));
    assert_eq!(class, FailureClass::UserError);
    assert!(message.contains("[8, 64]") || message.contains("[8, "), "{message}");
    assert!(message.contains("[9, "), "{message}");
}

/// A random GPT-2 that takes the quickstart's tokens.
fn gpt2(dir: &Path, positions: i64) {
    use tch::{Device as At, Kind, Tensor};
    let (d, vocabulary) = (16, 8064);
    let config = serde_json::json!({
        "model_type": "gpt2", "n_embd": d, "n_head": 2, "n_layer": 1, "n_positions": positions,
        "vocab_size": vocabulary, "eos_token_id": 1, "pad_token_id": 0,
    });
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    std::fs::copy(quickstart().join("model/tokenizer.json"), dir.join("tokenizer.json")).unwrap();
    tch::manual_seed(1);
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, At::Cpu)) * 0.2;
    let mut tensors = vec![
        ("wte.weight".to_owned(), random(&[vocabulary, d])),
        ("wpe.weight".to_owned(), random(&[positions, d])),
    ];
    for norm in ["h.0.ln_1", "h.0.ln_2", "ln_f"] {
        tensors.push((format!("{norm}.weight"), random(&[d]) + 1));
        tensors.push((format!("{norm}.bias"), random(&[d])));
    }
    for (map, inputs, outputs) in [
        ("attn.c_attn", d, 3 * d),
        ("attn.c_proj", d, d),
        ("mlp.c_fc", d, 4 * d),
        ("mlp.c_proj", 4 * d, d),
    ] {
        tensors.push((format!("h.0.{map}.weight"), random(&[inputs, outputs])));
        tensors.push((format!("h.0.{map}.bias"), random(&[outputs])));
    }
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
    let bytes = deptune_trainer::tensors::to_bytes(&named, None).unwrap();
    std::fs::write(dir.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn a_decoder_trains_by_both_recipes_and_in_bf16() {
    let model = tempfile::tempdir().unwrap();
    gpt2(model.path(), 128);
    let edits: [fn(String) -> String; 3] = [
        |s| s,
        |s| s.replace("name = \"short\"", "name = \"short\"\nrecipe = \"reference\""),
        |s| s.replace("eval_every = 4", "eval_every = 4\nprecision = \"bf16\""),
    ];
    let mut results = vec![];
    for edit in edits {
        let scratch = tempfile::tempdir().unwrap();
        let mut job = job(settings(edit), scratch.path(), None);
        job.model = model.path().to_owned();
        let (evaluations, result, adapter) = essence(&run(&job));
        assert_eq!(evaluations.len(), 4, "three validations and a test");
        assert!(!adapter.is_empty());
        results.push((evaluations, result));
    }
    assert_ne!(results[0], results[1], "the recipes differ");
    assert_ne!(results[0], results[2], "so do the precisions");
}

#[test]
fn a_prompt_that_does_not_fit_a_decoder_is_the_users_error() {
    let (model, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Prompt 8 and text 32 leave one of 41 positions; the answers have two tokens.
    gpt2(model.path(), 41);
    let mut job = job(settings(|s| s), scratch.path(), None);
    job.model = model.path().to_owned();
    let (class, message) = only_failure(&run(&job));
    assert_eq!(class, FailureClass::UserError);
    assert!(
        message.contains("model's 41 positions") && message.contains("prompt_length 8"),
        "{message}"
    );
}
