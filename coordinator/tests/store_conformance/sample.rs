//! A small sweep and the writes about it.

use deptune_sweep::child::{ClassReport, Evaluation, FileHash, Predictions, TrialResult};
use deptune_sweep::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::{FailureClass, Outcome, SweepStatus};
use deptune_sweep::record::{
    AttemptEnd, AttemptRecord, DataRef, Holder, LogEntry, LogRecord, OutcomeRecord, Phase,
    SlotKind, SlotRecord, Submission, SweepRecord, TrialRecord, WorkerRecord,
};
use deptune_sweep::scheduler::{LeaseKey, Write};
use deptune_sweep::spec::Spec;
use uuid::Uuid;

const SPEC: &str = r#"
name = "sample"
[model]
path = "model"
[task]
name = "sst2"
train = "train.tsv"
validation = "validation.tsv"
[method]
kind = "dept"
[space]
prompt_lr = [0.3, 0.4]
lowrank_lr = [1e-4]
prompt_length = [4]
rank = [3]
dropout = [0.0, 0.1]
seeds = [1, 2, 3]
[train]
steps = 100
batch_size = 8
max_length = 32
warmup_steps = 10
eval_every = 25
"#;

const CONFIG: &str = r#"{"model_type":"t5","d_model":64,"d_kv":16,"d_ff":128,"num_layers":2,
"num_decoder_layers":2,"num_heads":4,"vocab_size":384,"feed_forward_proj":"relu",
"dropout_rate":0.0,"layer_norm_epsilon":1e-6,"relative_attention_num_buckets":32,
"relative_attention_max_distance":128,"tie_word_embeddings":true,"decoder_start_token_id":0,
"pad_token_id":0,"eos_token_id":1}"#;

/// Trials of the sample: 2 × 2 configurations, 3 seeds each.
pub(crate) const TOTAL: u64 = 12;

/// A moment in November 2023, in milliseconds.
pub(crate) const NOW: i64 = 1_700_000_000_123;

pub(crate) fn submission(extra: &str) -> Submission {
    let data = |split: &str| DataRef {
        split: split.to_owned(),
        name: format!("{split}.tsv"),
        hash: ArtifactHash::of(split.as_bytes()),
        size: 123,
    };
    Submission {
        spec: format!("{SPEC}{extra}"),
        format: "toml".to_owned(),
        model_config: CONFIG.to_owned(),
        model_dir: Some("/models/t5".to_owned()),
        model_files: vec![FileHash {
            name: "model.safetensors".to_owned(),
            hash: ArtifactHash::of(b"model").to_string(),
        }],
        model_uploaded: true,
        model_hub: Some(deptune_sweep::hub::HubModel {
            repo: "google-t5/t5-small".to_owned(),
            commit: "0123456789abcdef0123456789abcdef01234567".to_owned(),
        }),
        // Not in alphabetical order: the order is kept.
        data: vec![data("validation"), data("train")],
    }
}

pub(crate) fn spec() -> Spec {
    submission("").parse().unwrap()
}

pub(crate) fn sweep_record(id: u64, name: &str, extra: &str) -> SweepRecord {
    let submission = submission(extra);
    SweepRecord {
        id: SweepId(id),
        request_id: RequestId(Uuid::from_u128(u128::from(id))),
        name: name.to_owned(),
        spec_hash: submission.hash(),
        submission,
        total: TOTAL,
        next_index: 0,
        status: SweepStatus::Running,
        submitted: NOW,
        finished: None,
        controls: None,
        used: 0,
    }
}

pub(crate) fn sweep(id: u64) -> Write {
    Write::Sweep(Box::new(sweep_record(id, "sample", "")))
}

pub(crate) fn worker_id(n: u128) -> WorkerId {
    WorkerId(Uuid::from_u128(n))
}

pub(crate) fn worker_record(n: u128) -> WorkerRecord {
    let slot = |slot: u32, device: &str| SlotRecord {
        slot,
        kind: SlotKind::Cuda,
        threads: 4,
        device: device.to_owned(),
        max_pack: 8,
        memory: Some(80 << 30),
    };
    WorkerRecord {
        id: worker_id(n),
        name: format!("node-{n}"),
        version: "0.1.0".to_owned(),
        labels: vec!["pool=a".to_owned(), "x".to_owned()],
        draining: n.is_multiple_of(2),
        slots: vec![slot(0, "GPU A"), slot(1, "GPU B")],
        registered: NOW,
        left: None,
    }
}

pub(crate) fn worker(n: u128) -> Write {
    Write::Worker(worker_record(n))
}

pub(crate) fn trial_id(sweep: u64, index: u64) -> TrialId {
    TrialId { sweep: SweepId(sweep), index }
}

pub(crate) fn key(id: TrialId, epoch: u32) -> LeaseKey {
    LeaseKey { trial: id, epoch: Epoch(epoch) }
}

pub(crate) fn holder(n: u128) -> Holder {
    Holder { worker: worker_id(n), slot: 0, request_id: RequestId(Uuid::from_u128(77)) }
}

pub(crate) fn leased(id: TrialId, epoch: u32) -> TrialRecord {
    TrialRecord {
        id,
        epoch: Epoch(epoch),
        phase: Phase::Leased(holder(1)),
        failures: 0,
        losses: 0,
        alone: false,
        pack_members: 2,
        checkpoint: None,
        added: None,
    }
}

pub(crate) fn new_trial(record: TrialRecord) -> Write {
    let spec = spec();
    // Trials beyond the grid have its settings again.
    let index = record.id.index % TOTAL;
    Write::NewTrial {
        configuration: spec.configuration(index),
        settings: Box::new(spec.settings(index).unwrap()),
        record,
    }
}

pub(crate) fn attempt_started(id: TrialId, epoch: u32) -> Write {
    Write::AttemptStarted(AttemptRecord {
        id,
        epoch: Epoch(epoch),
        worker: worker_id(1),
        slot: 0,
        members: 2,
        first_step: 0,
        started: NOW,
    })
}

/// The first lease of a trial.
pub(crate) fn first_lease(id: TrialId) -> Vec<Write> {
    vec![
        new_trial(leased(id, 1)),
        Write::NextIndex { sweep: id.sweep, next_index: id.index + 1 },
        attempt_started(id, 1),
    ]
}

pub(crate) fn ended(id: TrialId, epoch: u32, outcome: Outcome) -> TrialRecord {
    TrialRecord { phase: Phase::Ended { outcome }, ..leased(id, epoch) }
}

pub(crate) fn result(metric: f64) -> TrialResult {
    TrialResult {
        metric_name: "accuracy".to_owned(),
        metric: Number::from(metric),
        best_step: 50,
        test: Some(Evaluation {
            train_loss: None,
            metrics: vec![("accuracy".to_owned(), Number::from(metric - 1.5))],
            constant: vec![("accuracy".to_owned(), Number::from(50.25))],
            ..evaluation(50, "test", metric)
        }),
        constant_metric: Number::from(52.5),
        steps: 100,
        trainable_parameters: 544,
        train_seconds: 12.5,
        peak_memory_bytes: Some(300 << 20),
        mean_utilization: Some(0.75),
        mean_power_watts: Some(412.5),
        stopped_early: false,
        predictions: vec![Predictions {
            split: "test".to_owned(),
            hash: ArtifactHash::of(b"predictions"),
        }],
    }
}

pub(crate) fn success(id: TrialId, epoch: u32, metric: f64) -> OutcomeRecord {
    OutcomeRecord {
        id,
        epoch: Epoch(epoch),
        outcome: Outcome::Succeeded,
        class: None,
        message: String::new(),
        result: Some(result(metric)),
        adapter: Some(ArtifactHash::of(&id.index.to_le_bytes())),
        worker: Some(worker_id(1)),
        at: NOW + 60_000,
    }
}

pub(crate) fn failure(id: TrialId, epoch: u32) -> OutcomeRecord {
    OutcomeRecord {
        outcome: Outcome::Failed,
        class: Some(FailureClass::Diverged),
        message: "the loss was NaN at step 7".to_owned(),
        result: None,
        adapter: None,
        ..success(id, epoch, 0.0)
    }
}

pub(crate) fn cancellation(id: TrialId, epoch: u32) -> OutcomeRecord {
    OutcomeRecord {
        outcome: Outcome::Cancelled,
        class: None,
        message: String::new(),
        worker: None,
        ..failure(id, epoch)
    }
}

/// The end of a trial that is leased.
pub(crate) fn end(outcome: OutcomeRecord) -> Vec<Write> {
    vec![
        Write::AttemptEnded {
            lease: LeaseKey { trial: outcome.id, epoch: outcome.epoch },
            end: match outcome.outcome {
                Outcome::Succeeded => AttemptEnd::Succeeded,
                Outcome::Cancelled => AttemptEnd::Cancelled,
                Outcome::Failed | Outcome::Pruned => AttemptEnd::Failed,
            },
            class: outcome.class,
            message: outcome.message.clone(),
            last_step: outcome.result.as_ref().map_or(0, |result| result.steps),
            at: outcome.at,
        },
        Write::Trial(ended(outcome.id, outcome.epoch.0, outcome.outcome)),
        Write::Outcome(Box::new(outcome)),
    ]
}

pub(crate) fn evaluation(step: u64, split: &str, metric: f64) -> Evaluation {
    Evaluation {
        step,
        split: split.to_owned(),
        loss: Number::from(0.1 + 0.2),
        train_loss: Some(Number::from(1.0 / 3.0)),
        metrics: vec![
            ("accuracy".to_owned(), Number::from(metric)),
            ("f1".to_owned(), Number::from(metric / 7.0)),
        ],
        constant: vec![
            ("accuracy".to_owned(), Number::from(52.5)),
            ("f1".to_owned(), Number::from(0.0)),
        ],
        rows: 400,
        seconds: 0.75,
        per_class: ["negative", "positive"]
            .map(|label| ClassReport {
                label: label.to_owned(),
                precision: 200.0 / 3.0,
                recall: 50.0,
                f1: 400.0 / 7.0,
                support: 200,
            })
            .to_vec(),
    }
}

pub(crate) fn evaluated(id: TrialId, epoch: u32, evaluation: Evaluation) -> Write {
    Write::Evaluation { lease: key(id, epoch), at: NOW, evaluation }
}

pub(crate) fn logged(cursor: u64, sweep: u64, trial: Option<u64>, what: LogEntry) -> LogRecord {
    LogRecord {
        cursor,
        sweep: SweepId(sweep),
        trial: trial.map(|index| trial_id(sweep, index)),
        at: NOW,
        what,
    }
}
