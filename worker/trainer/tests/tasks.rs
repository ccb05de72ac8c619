//! Every built-in task that real files are at hand for: 50 steps on its rows, with finite losses and
//! every validation row evaluated; and 50 steps on one batch without dropout, after which the loss
//! that they minimise is lower. The files lie in the folder that `DEPTUNE_DATA` names; the model is
//! the quickstart's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test")]

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use deptune_sweep::child::{DataFile, Device, Evaluation, Job, Member, Message, PROTOCOL};
use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{Format, Spec};
use deptune_trainer::run::Orders;
use deptune_trainer::run::emit::Emitter;

/// Files by split.
type Files = [(&'static str, &'static str)];

fn quickstart() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/quickstart")
}

/// A trial of 50 steps.
fn job(
    data: &Path,
    task: &str,
    files: &Files,
    scratch: &Path,
    limits: &str,
    training: &str,
) -> Job {
    let listed = |split: &str| {
        let names =
            files.iter().filter(|(of, _)| *of == split).map(|(_, name)| format!("{name:?}"));
        format!("{split} = [{}]\n", names.collect::<Vec<_>>().join(", "))
    };
    let spec = format!(
        r#"
name = "{task}"
[model]
path = "model"
[task]
name = "{task}"
{}{}test_limit = 8
{limits}
[method]
kind = "dept"
[space]
prompt_lr = 0.3
lowrank_lr = 5e-3
prompt_length = 20
rank = 8
seeds = 42
[train]
steps = 50
warmup_steps = 5
{training}
batch_size = 8
max_length = 64
eval_batch_size = 64
"#,
        listed("train"),
        listed("validation"),
    );
    let config = std::fs::read_to_string(quickstart().join("model/config.json")).unwrap();
    let config = ModelConfig::parse("config.json", &config).unwrap();
    let spec = Spec::parse(&spec, Format::Toml, Some(&config)).unwrap();
    let data = files.iter().map(|(split, name)| DataFile {
        split: (*split).to_owned(),
        name: (*name).to_owned(),
        path: data.join(name),
    });
    let trial = TrialId { sweep: SweepId(1), index: 0 };
    Job {
        protocol: PROTOCOL,
        model: quickstart().join("model"),
        model_files: vec![],
        data: data.collect(),
        adapters: vec![],
        scratch: scratch.to_owned(),
        device: Device::Cpu,
        threads: 1,
        trials: vec![Member { trial, settings: spec.settings(0).unwrap(), resume: None }],
    }
}

/// The evaluations of the validation part.
fn evaluations(job: &Job) -> Vec<Evaluation> {
    let mut lines = Vec::new();
    deptune_trainer::run::run(job, &mut Emitter::new(&mut lines), &Orders::default()).unwrap();
    let messages: Vec<Message> = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(messages.iter().any(|message| matches!(message, Message::Done { .. })));
    let validation = |message| match message {
        Message::Failed { message, .. } => panic!("{message}"),
        Message::Eval { evaluation, .. } if evaluation.split == "validation" => Some(evaluation),
        _ => None,
    };
    messages.into_iter().filter_map(validation).collect()
}

/// Trains a task; `rows` are those of its validation part.
fn learns(task: &str, files: &Files, rows: RangeInclusive<u64>) {
    let Some(data) = std::env::var_os("DEPTUNE_DATA").map(PathBuf::from) else {
        println!("SKIPPED: DEPTUNE_DATA is not set, {task} was not trained");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let job = |limits, training| job(&data, task, files, scratch.path(), limits, training);

    let all = evaluations(&job("train_limit = 1600", "eval_every = 50"));
    let [only] = all.as_slice() else { panic!("{all:?}") };
    assert!(rows.contains(&only.rows), "{only:?}");
    let held_out = only.loss.finite().unwrap();

    // One batch: each step sees the rows that the one before was made on.
    let limits = "train_limit = 8\nvalidation_limit = 8";
    let each = evaluations(&job(limits, "eval_every = 1\ndropout = 0.0"));
    let losses: Vec<f64> = each.iter().map(|e| e.train_loss.unwrap().finite().unwrap()).collect();
    assert_eq!(losses.len(), 50);
    let (before, after) = (losses[0], losses[49]);
    println!(
        "{task}: loss {before:.4} at the first step, {after:.4} at the 50th; on {} validation rows {held_out:.4}",
        only.rows
    );
    assert!(after < before, "{task}: {before} then {after}");
}

/// A test per task.
macro_rules! tasks {
    ($($task:ident: $files:expr, $rows:expr;)*) => {$(
        #[test]
        #[ignore = "trains for minutes; needs DEPTUNE_DATA"]
        fn $task() {
            learns(stringify!($task), &$files, $rows);
        }
    )*};
}

tasks! {
    boolq: [("train", "boolq/val.jsonl")], 327..=327;
    cb: [("train", "cb/train.jsonl"), ("validation", "cb/val.jsonl")], 28..=28;
    cola: [("train", "cola/train.tsv"), ("validation", "cola/dev.tsv")], 521..=521;
    mrpc: [("train", "mrpc/train.tsv"), ("validation", "mrpc/dev.tsv")], 204..=204;
    // Questions stay whole, so that a half has about half of the 4848 rows.
    multirc: [("train", "multirc/train.jsonl"), ("validation", "multirc/val.jsonl")], 2200..=2650;
    paws: [("train", "paws/dev.tsv")], 800..=800;
    qnli: [("train", "qnli/dev.tsv")], 546..=546;
    rte: [("train", "rte/train.jsonl"), ("validation", "rte/val.jsonl")], 138..=138;
    scitail: [("train", "scitail/test.jsonl")], 212..=212;
    sst2: [("train", "sst2/train.tsv"), ("validation", "sst2/dev.tsv")], 1000..=1000;
    stsb: [("train", "stsb/train.tsv"), ("validation", "stsb/dev.tsv")], 750..=750;
    wic: [
        ("train", "wic/train.data.txt"),
        ("train", "wic/train.gold.txt"),
        ("validation", "wic/val.jsonl"),
    ], 319..=319;
    wsc: [("train", "wsc/train.jsonl"), ("validation", "wsc/val.jsonl")], 52..=52;
}
