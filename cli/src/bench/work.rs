//! The work of a benchmark: a grid of distinct points, and reports that say that one is done. No
//! training takes place; what is measured is everything around it.

use std::fmt::Write as _;

use deptune_proto::v1;
use deptune_sweep::id::ArtifactHash;
use uuid::Uuid;

use super::unexpected;
use crate::client::Client;
use crate::output::error::Error;

/// Data file of the sweep: there must be one, and nobody reads it.
const DATA: &[u8] = b"{\"text\": \"good\", \"label\": \"yes\"}\n";

/// What every trial claims to have learnt.
const ADAPTER: &[u8] = b"the adapter of a benchmark";

/// A model's configuration: the spec is checked against one.
const MODEL_CONFIG: &str = r#"{"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128,
    "num_layers": 2, "num_heads": 4, "vocab_size": 256}"#;

/// Seeds in one configuration at most.
const SEEDS: u64 = 100;

/// Trials of the grid that has at least this many.
#[cfg(test)]
fn rounded(trials: u64) -> u64 {
    let seeds = trials.clamp(1, SEEDS);
    trials.div_ceil(seeds).max(1) * seeds
}

/// A grid of at least so many points: learning rates × seeds.
fn spec(trials: u64) -> String {
    let seeds = trials.clamp(1, SEEDS);
    let rates = trials.div_ceil(seeds).max(1);
    let mut list = String::new();
    for rate in 1..=rates {
        // Distinct values between 0 and 1.
        let _ = write!(list, "{:.7}, ", f64::from(u32::try_from(rate).unwrap_or(u32::MAX)) / 1e7);
    }
    let seeds: Vec<String> = (1..=seeds).map(|seed| seed.to_string()).collect();
    format!(
        "name = \"bench\"\n\
         [model]\npath = \"bench\"\n\
         [task]\nname = \"own\"\ntrain = \"train.jsonl\"\ntemplate = \"{{text}}\"\n\
         label = \"label\"\nlabels = [\"yes\", \"no\"]\nmetrics = [\"accuracy\"]\n\
         [method]\nkind = \"dept\"\n\
         [space]\nprompt_lr = [{list}]\nlowrank_lr = [5e-4]\nprompt_length = [4]\nrank = [4]\n\
         seeds = [{}]\n\
         [train]\nsteps = 10\nmax_length = 32\n",
        seeds.join(", ")
    )
}

/// Other sweeps of the same database would get a share of the workers.
///
/// # Errors
/// When one is running.
pub(crate) async fn refuse_company(client: &Client) -> Result<(), Error> {
    let request = v1::ListSweepsRequest {
        status: v1::SweepStatus::Running.into(),
        page_size: 1,
        ..Default::default()
    };
    let answer = client.sweeps().list_sweeps(request).await;
    let answer = answer.map_err(|status| client.refused("list the sweeps", status))?;
    if answer.into_inner().sweeps.is_empty() {
        return Ok(());
    }
    Err(Error::Usage {
        what: "the database has sweeps that are running".to_owned(),
        hint: "give the benchmark an empty database of its own".to_owned(),
    })
}

/// Submits a sweep of at least so many trials, and sends what its reports will name.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn submit(client: &Client, trials: u64) -> Result<v1::Sweep, Error> {
    put(client, DATA, "data").await?;
    put(client, ADAPTER, "adapter").await?;
    let request = v1::SubmitSweepRequest {
        request_id: Uuid::new_v4().to_string(),
        spec: spec(trials),
        format: "toml".to_owned(),
        model_config: MODEL_CONFIG.to_owned(),
        model_dir: "/bench".to_owned(),
        model_files: Vec::new(),
        model_uploaded: false,
        model_hub: None,
        data: vec![v1::DataRef {
            split: "train".to_owned(),
            name: "train.jsonl".to_owned(),
            hash: ArtifactHash::of(DATA).to_string(),
            size: DATA.len() as u64,
        }],
    };
    let answer = client.sweeps().submit_sweep(request).await;
    let answer = answer.map_err(|status| client.refused("submit the sweep", status))?;
    answer.into_inner().sweep.ok_or_else(|| unexpected("the submission", "no sweep"))
}

async fn put(client: &Client, content: &[u8], kind: &str) -> Result<(), Error> {
    use v1::put_artifact_request::{Header, Part};
    let header = Header {
        hash: ArtifactHash::of(content).to_string(),
        size: content.len() as u64,
        kind: kind.to_owned(),
    };
    let parts = [Part::Header(header), Part::Chunk(content.to_vec())];
    let parts = parts.map(|part| v1::PutArtifactRequest { part: Some(part) });
    let sent = client.artifacts().put_artifact(tokio_stream::iter(parts)).await;
    sent.map_err(|status| client.refused("upload a file", status))?;
    Ok(())
}

/// Registers a worker of so many slots and returns its id.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn register(client: &Client, name: &str, slots: u32) -> Result<String, Error> {
    let worker_id = Uuid::new_v4().to_string();
    let slot = |slot| v1::Slot {
        slot,
        kind: "cpu".to_owned(),
        threads: 1,
        device: "bench".to_owned(),
        max_pack: 1,
        memory_bytes: None,
    };
    let request = v1::RegisterWorkerRequest {
        worker_id: worker_id.clone(),
        name: name.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        slots: (0..slots).map(slot).collect(),
        lost: Vec::new(),
        labels: Vec::new(),
    };
    let answer = client.workers().register_worker(request).await;
    answer.map_err(|status| client.refused("register a worker", status))?;
    Ok(worker_id)
}

/// One exchange; every report must be accepted.
///
/// # Errors
/// The coordinator's refusal, of the call or of a report.
pub(crate) async fn exchange(
    client: &Client,
    worker_id: &str,
    reports: Vec<v1::Report>,
    free_slots: Vec<u32>,
) -> Result<Vec<v1::Lease>, Error> {
    let request = v1::CompleteAndLeaseRequest {
        worker_id: worker_id.to_owned(),
        request_id: Uuid::new_v4().to_string(),
        reports,
        free_slots,
    };
    let answer = client.workers().complete_and_lease(request).await;
    let answer = answer.map_err(|status| client.refused("report and lease", status))?.into_inner();
    let accepted = i32::from(v1::report_ack::Verdict::Accepted);
    match answer.acks.iter().find(|ack| ack.verdict != accepted) {
        Some(ack) => Err(unexpected("a report", ack.reason.clone())),
        None => Ok(answer.leases),
    }
}

/// The report that a lease's trial has succeeded.
pub(crate) fn finished(lease: &v1::Lease) -> v1::Report {
    let index = lease.lease.and_then(|lease| lease.trial).map_or(0, |trial| trial.index);
    let result = v1::TrialResult {
        metric_name: "accuracy".to_owned(),
        // Any value will do, as long as the trials differ.
        metric: f64::from(u32::try_from(index % 10_007).unwrap_or(0)) / 100.07,
        best_step: 10,
        test: None,
        constant_metric: 50.0,
        steps: 10,
        trainable_parameters: 640,
        train_seconds: 0.0,
        peak_memory_bytes: None,
        mean_utilization: None,
        mean_power_watts: None,
        stopped_early: false,
        predictions: Vec::new(),
    };
    v1::Report {
        lease: lease.lease,
        evaluations: Vec::new(),
        last_step: 10,
        end: Some(v1::report::End::Succeeded(v1::report::Succeeded {
            result: Some(result),
            adapter_hash: ArtifactHash::of(ADAPTER).to_string(),
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use deptune_sweep::model::ModelConfig;
    use deptune_sweep::spec::{Format, Spec};

    #[test]
    fn grids_have_the_trials_that_they_should() {
        let model = ModelConfig::parse("config.json", MODEL_CONFIG).unwrap();
        for trials in [1, 7, 100, 2_000, 100_000] {
            let spec = Spec::parse(&spec(trials), Format::Toml, Some(&model)).unwrap();
            assert_eq!(spec.total(), rounded(trials));
            assert!((trials..trials + SEEDS).contains(&rounded(trials)));
        }
    }
}
