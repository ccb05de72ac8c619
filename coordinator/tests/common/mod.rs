//! A coordinator on port 0 in a temporary directory, and clients for it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::Path;
use std::time::Duration;

use deptune_coordinator::{Options, Running, ServeError, serve};
use deptune_proto::v1;
use deptune_proto::v1::admin_service_client::AdminServiceClient;
use deptune_proto::v1::artifact_service_client::ArtifactServiceClient;
use deptune_proto::v1::sweep_service_client::SweepServiceClient;
use deptune_proto::v1::worker_service_client::WorkerServiceClient;
use deptune_sweep::id::ArtifactHash;
use tokio_util::sync::CancellationToken;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

pub const DATA: &[u8] = b"{\"text\": \"good\", \"label\": \"yes\"}\n";

pub const MODEL_CONFIG: &str = r#"{"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128,
    "num_layers": 2, "num_heads": 4, "vocab_size": 256}"#;

/// 2 × 1 × 1 configurations × 2 seeds.
pub const SPEC: &str = r#"
name = "tiny"

[model]
path = "models/tiny"

[task]
name = "own"
train = "train.jsonl"
template = "review: {text}"
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
seeds = [42, 43]

[train]
steps = 10
max_length = 32
"#;

/// Shows the token.
#[derive(Clone)]
pub struct Bearer(pub Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

pub type Client = InterceptedService<Channel, Bearer>;

pub struct Server {
    pub running: Running,
    stop: CancellationToken,
    pub channel: Channel,
    pub bearer: Bearer,
}

impl Server {
    pub async fn start(directory: &Path) -> Server {
        Server::start_with(directory, |_| {}).await.unwrap()
    }

    pub async fn start_with(
        directory: &Path,
        change: impl FnOnce(&mut Options),
    ) -> Result<Server, ServeError> {
        let mut options =
            Options::new("127.0.0.1:0".parse().unwrap(), directory.join("coordinator"));
        options.tick = Duration::from_millis(20);
        change(&mut options);
        let stop = CancellationToken::new();
        let running = serve(options, stop.clone().cancelled_owned()).await?;
        let token = std::fs::read_to_string(&running.token_file).unwrap();
        let bearer = Bearer(Some(format!("Bearer {}", token.trim()).parse().unwrap()));
        let endpoint = Endpoint::from_shared(format!("http://{}", running.address)).unwrap();
        let channel = endpoint.connect_lazy();
        Ok(Server { running, stop, channel, bearer })
    }

    pub async fn stop(self) {
        self.stop.cancel();
        drop(self.channel);
        self.running.wait().await.unwrap();
    }

    pub fn sweeps(&self) -> SweepServiceClient<Client> {
        SweepServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Client> {
        AdminServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn workers(&self) -> WorkerServiceClient<Client> {
        WorkerServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub fn artifacts(&self) -> ArtifactServiceClient<Client> {
        ArtifactServiceClient::with_interceptor(self.channel.clone(), self.bearer.clone())
    }

    pub async fn upload(&self, content: &[u8], kind: &str) -> Result<bool, Status> {
        let hash = ArtifactHash::of(content).to_string();
        self.put(&hash, content.len() as u64, kind, content).await
    }

    pub async fn put(
        &self,
        hash: &str,
        size: u64,
        kind: &str,
        content: &[u8],
    ) -> Result<bool, Status> {
        use v1::put_artifact_request::{Header, Part};
        let header = Header { hash: hash.to_owned(), size, kind: kind.to_owned() };
        let chunks = content.chunks(200 << 10).map(|chunk| Part::Chunk(chunk.to_vec()));
        let parts: Vec<_> = std::iter::once(Part::Header(header))
            .chain(chunks)
            .map(|part| v1::PutArtifactRequest { part: Some(part) })
            .collect();
        let answer = self.artifacts().put_artifact(tokio_stream::iter(parts)).await?;
        Ok(answer.into_inner().existed)
    }

    /// Uploads the data and submits the sweep.
    pub async fn submit(&self) -> v1::Sweep {
        self.upload(DATA, "data").await.unwrap();
        let answer = self.sweeps().submit_sweep(submission(new_id())).await.unwrap();
        answer.into_inner().sweep.unwrap()
    }

    /// Registers a worker with this many slots and returns its id.
    pub async fn register(&self, slots: u32) -> String {
        let worker_id = new_id();
        let slot = |slot| v1::Slot {
            slot,
            kind: "cpu".to_owned(),
            threads: 1,
            device: "test".to_owned(),
            max_pack: 1,
            memory_bytes: None,
        };
        let request = v1::RegisterWorkerRequest {
            worker_id: worker_id.clone(),
            name: "node1".to_owned(),
            version: "0.1.0".to_owned(),
            slots: (0..slots).map(slot).collect(),
            lost: Vec::new(),
            labels: Vec::new(),
        };
        self.workers().register_worker(request).await.unwrap();
        worker_id
    }

    pub async fn exchange(
        &self,
        worker_id: &str,
        reports: Vec<v1::Report>,
        free_slots: Vec<u32>,
    ) -> v1::CompleteAndLeaseResponse {
        let request = v1::CompleteAndLeaseRequest {
            worker_id: worker_id.to_owned(),
            request_id: new_id(),
            reports,
            free_slots,
        };
        self.workers().complete_and_lease(request).await.unwrap().into_inner()
    }

    /// Leases and finishes trials until there are none.
    pub async fn run_all(&self, worker_id: &str) {
        let adapter = b"adapter";
        self.upload(adapter, "adapter").await.unwrap();
        let mut reports = Vec::new();
        loop {
            let free = Vec::from([0]);
            let answer = self.exchange(worker_id, std::mem::take(&mut reports), free).await;
            let Some(lease) = answer.leases.into_iter().next() else { return };
            let metric = lease.lease.unwrap().trial.unwrap().index as f64;
            reports.push(succeeded(&lease, metric, adapter));
        }
    }
}

pub fn new_id() -> String {
    Uuid::new_v4().to_string()
}

pub fn submission(request_id: String) -> v1::SubmitSweepRequest {
    v1::SubmitSweepRequest {
        request_id,
        spec: SPEC.to_owned(),
        format: "toml".to_owned(),
        model_config: MODEL_CONFIG.to_owned(),
        model_dir: "/models/tiny".to_owned(),
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

pub fn evaluation(step: u64, value: f64) -> v1::Evaluation {
    let metric = |value| v1::Metric { name: "accuracy".to_owned(), value };
    v1::Evaluation {
        step,
        split: "validation".to_owned(),
        loss: 0.5,
        train_loss: Some(0.6),
        metrics: vec![metric(value)],
        constant: vec![metric(50.0)],
        rows: 10,
        seconds: 0.1,
        per_class: Vec::new(),
    }
}

pub fn succeeded(lease: &v1::Lease, metric: f64, adapter: &[u8]) -> v1::Report {
    let result = v1::TrialResult {
        metric_name: "accuracy".to_owned(),
        metric,
        best_step: 10,
        test: None,
        constant_metric: 50.0,
        steps: 10,
        trainable_parameters: 640,
        train_seconds: 1.5,
        peak_memory_bytes: Some(300 << 20),
        mean_utilization: Some(0.75),
        mean_power_watts: Some(412.5),
        stopped_early: false,
        predictions: Vec::new(),
    };
    v1::Report {
        lease: lease.lease,
        evaluations: vec![evaluation(10, metric)],
        last_step: 10,
        end: Some(v1::report::End::Succeeded(v1::report::Succeeded {
            result: Some(result),
            adapter_hash: ArtifactHash::of(adapter).to_string(),
        })),
    }
}

/// The reason in a status's `ErrorInfo`, whose domain must be ours.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info().expect("an ErrorInfo");
    assert_eq!(info.domain, "deptune");
    info.reason
}
