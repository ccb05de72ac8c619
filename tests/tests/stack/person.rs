//! The person: submits a sweep, follows it to its end, and looks at what was recorded.

use std::collections::BTreeMap;
use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::log_entry::What as Entry;
use deptune_proto::v1::sweep_service_client::SweepServiceClient;
use deptune_proto::v1::watch_sweep_response::What;
use deptune_sweep::id::ArtifactHash;
use tonic::transport::Channel;

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::net::{call, channel, request};

pub(crate) const DATA: &[u8] = b"{\"text\": \"good\", \"label\": \"yes\"}\n";

const MODEL_CONFIG: &str = r#"{"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128,
    "num_layers": 2, "num_heads": 4, "vocab_size": 256}"#;

/// 2 configurations × 12 seeds.
const SPEC: &str = r#"
name = "stack"
[model]
path = "tiny"
[task]
name = "own"
train = "train.jsonl"
template = "{text}"
label = "label"
labels = ["yes", "no"]
metrics = ["accuracy"]
[method]
kind = "dept"
[space]
prompt_lr = [0.3, 0.4]
lowrank_lr = [5e-4]
prompt_length = [4]
rank = [4]
seeds = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
[train]
steps = 10
max_length = 32
[limits]
max_attempts = 100
"#;

pub(crate) const TRIALS: u64 = 24;

/// Does all of it; fails where anything is not as it was promised.
pub(crate) async fn run(mut dice: Dice, ledger: Ledger) {
    let channel = channel();
    let sweeps = SweepServiceClient::new(channel.clone());
    let submission = submission(dice.uuid());
    let submitted = call(&ledger, || {
        let (mut sweeps, submission) = (sweeps.clone(), submission.clone());
        async move { sweeps.submit_sweep(request(submission)).await }
    });
    let sweep = submitted.await.unwrap().sweep.unwrap();
    assert_eq!(sweep.trials, TRIALS);
    let ended = follow(&channel, sweep.id).await;
    ledger.trace("finished");
    assert_eq!(ended.len() as u64, TRIALS, "not every trial ended");

    // However often it was asked for, it was submitted once.
    let list = call(&ledger, || {
        let mut sweeps = sweeps.clone();
        async move { sweeps.list_sweeps(request(v1::ListSweepsRequest::default())).await }
    });
    assert_eq!(list.await.unwrap().sweeps.len(), 1);
    let trials = call(&ledger, || {
        let mut sweeps = sweeps.clone();
        let list = v1::ListTrialsRequest {
            sweep: sweep.id.to_string(),
            page_size: 1000,
            page_token: String::new(),
        };
        async move { sweeps.list_trials(request(list)).await }
    });
    let mut recorded = BTreeMap::new();
    for trial in trials.await.unwrap().trials {
        recorded.insert(trial.id.unwrap().index, end(trial.failure_class(), trial.result));
    }
    assert_eq!(recorded, ended, "the log and the results differ");
    for (trial, metric) in &ledger.entries().accepted {
        assert_eq!(recorded[trial], Some(*metric), "trial {trial} lost its accepted result");
    }
}

/// The metric of a success; none where the worker was lost too often, which is the only failure
/// that this world has.
fn end(class: v1::FailureClass, result: Option<v1::TrialResult>) -> Option<f64> {
    if result.is_none() {
        assert_eq!(class, v1::FailureClass::WorkerLost);
    }
    result.map(|result| result.metric)
}

/// Follows the log over as many streams as it takes: every entry comes once, in order. Returns the
/// [`end`] of each trial.
async fn follow(channel: &Channel, sweep: u64) -> BTreeMap<u64, Option<f64>> {
    let (mut cursor, mut ended) = (0, BTreeMap::new());
    loop {
        let watch = v1::WatchSweepRequest { sweep: sweep.to_string(), cursor };
        let mut sweeps = SweepServiceClient::new(channel.clone());
        let stream =
            tokio::time::timeout(Duration::from_secs(5), sweeps.watch_sweep(request(watch)));
        let Ok(Ok(stream)) = stream.await else {
            tokio::time::sleep(Duration::from_millis(500)).await;
            continue;
        };
        let mut stream = stream.into_inner();
        // Progress comes every second; a stream that says nothing for long is broken.
        let patience = Duration::from_secs(6);
        while let Ok(Ok(Some(news))) = tokio::time::timeout(patience, stream.message()).await {
            let Some(What::Entry(entry)) = news.what else { continue };
            assert!(entry.cursor > cursor, "entry {} came again", entry.cursor);
            cursor = entry.cursor;
            match entry.what {
                Some(Entry::Ended(ending)) => {
                    let trial = entry.trial.unwrap().index;
                    let end = end(ending.failure_class(), ending.result);
                    let before = ended.insert(trial, end);
                    assert!(before.is_none(), "trial {trial} ended twice");
                }
                Some(Entry::Finished(_)) => return ended,
                _ => {}
            }
        }
    }
}

fn submission(request_id: String) -> v1::SubmitSweepRequest {
    v1::SubmitSweepRequest {
        request_id,
        spec: SPEC.to_owned(),
        format: "toml".to_owned(),
        model_config: MODEL_CONFIG.to_owned(),
        model_dir: "/tiny".to_owned(),
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: vec![v1::DataRef {
            split: "train".to_owned(),
            name: "train.jsonl".to_owned(),
            hash: ArtifactHash::of(DATA).to_string(),
            size: DATA.len() as u64,
        }],
    }
}
