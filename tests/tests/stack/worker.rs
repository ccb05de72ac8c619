//! A worker of one slot: leases a trial, pretends to train it with heartbeats, reports it. What it
//! has not reported dies with it.

use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::report_ack::Verdict;
use deptune_proto::v1::worker_service_client::WorkerServiceClient;
use deptune_sweep::id::ArtifactHash;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::Channel;

use crate::dice::Dice;
use crate::ledger::Ledger;
use crate::net::{call, channel, request};

pub(crate) const ADAPTER: &[u8] = b"adapter";

/// Time between heartbeats; the leases live for three of them.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(2);

struct Worker {
    id: String,
    dice: Dice,
    ledger: Ledger,
    client: WorkerServiceClient<Channel>,
}

/// Works for ever.
pub(crate) async fn run(mut dice: Dice, ledger: Ledger) {
    let id = dice.uuid();
    let client = WorkerServiceClient::new(channel());
    let mut worker = Worker { id, dice, ledger, client };
    worker.register().await;
    let mut done = None;
    loop {
        let Some(lease) = worker.exchange(done.take()).await else { continue };
        done = worker.train(&lease).await;
    }
}

impl Worker {
    async fn register(&mut self) {
        let slot = v1::Slot {
            slot: 0,
            kind: "cpu".to_owned(),
            threads: 1,
            device: "none".to_owned(),
            max_pack: 1,
            memory_bytes: None,
        };
        let register = v1::RegisterWorkerRequest {
            worker_id: self.id.clone(),
            name: "node".to_owned(),
            version: "0.1.0".to_owned(),
            slots: vec![slot],
            lost: Vec::new(),
            labels: Vec::new(),
        };
        let registered = call(&self.ledger, || {
            let (mut client, register) = (self.client.clone(), register.clone());
            async move { client.register_worker(request(register)).await }
        });
        registered.await.unwrap();
        self.ledger.trace(&format!("registered {}", self.id));
    }

    /// Reports what is done and leases a trial, under one request id for as long as it takes.
    async fn exchange(&mut self, done: Option<(v1::Report, f64)>) -> Option<v1::Lease> {
        let exchange = v1::CompleteAndLeaseRequest {
            worker_id: self.id.clone(),
            request_id: self.dice.uuid(),
            reports: done.iter().map(|(report, _)| report.clone()).collect(),
            free_slots: vec![0],
        };
        let answer = loop {
            let answer = call(&self.ledger, || {
                let (mut client, exchange) = (self.client.clone(), exchange.clone());
                async move { client.complete_and_lease(request(exchange)).await }
            });
            match answer.await {
                Ok(answer) => break answer,
                Err(status) => self.known_again(&status).await,
            }
        };
        if let Some((report, metric)) = done {
            let trial = report.lease.unwrap().trial.unwrap().index;
            match answer.acks[0].verdict() {
                Verdict::Accepted => self.ledger.accepted(trial, metric),
                Verdict::Stale => self.ledger.stale(trial),
                verdict => panic!("trial {trial}: {verdict:?} {}", answer.acks[0].reason),
            }
        }
        let lease = answer.leases.into_iter().next()?;
        let key = lease.lease.unwrap();
        self.ledger.leased(key.trial.unwrap().index, key.epoch, &self.id);
        Some(lease)
    }

    /// A coordinator that gave the worker up wants it to register again.
    async fn known_again(&mut self, status: &Status) {
        assert!(status.message().contains("worker"), "{status}");
        self.register().await;
    }

    /// Trains for a while; `None` when it is told to stop.
    async fn train(&mut self, lease: &v1::Lease) -> Option<(v1::Report, f64)> {
        let key = lease.lease.unwrap();
        let end = Instant::now() + self.dice.millis(100, 5_000);
        while Instant::now() < end {
            tokio::time::sleep_until(end.min(Instant::now() + HEARTBEAT)).await;
            let progress =
                v1::LeaseProgress { lease: Some(key), step: 1, loss: 0.5, steps_per_second: 1.0 };
            let heartbeat =
                v1::HeartbeatRequest { worker_id: self.id.clone(), leases: vec![progress] };
            let mut client = self.client.clone();
            let beat = client.heartbeat(request(heartbeat));
            let Ok(Ok(answer)) = tokio::time::timeout(HEARTBEAT, beat).await else { continue };
            if !answer.into_inner().stops.is_empty() {
                self.ledger.trace(&format!("stop {}", key.trial.unwrap().index));
                return None;
            }
        }
        // Each attempt comes to another result, so that a mix-up shows.
        let metric = key.trial.unwrap().index as f64 + f64::from(key.epoch) / 100.0;
        Some((report(lease, metric), metric))
    }
}

fn report(lease: &v1::Lease, metric: f64) -> v1::Report {
    let result = v1::TrialResult {
        metric_name: "accuracy".to_owned(),
        metric,
        best_step: 10,
        constant_metric: 50.0,
        steps: 10,
        trainable_parameters: 640,
        train_seconds: 1.0,
        peak_memory_bytes: None,
        mean_utilization: None,
        mean_power_watts: None,
        ..v1::TrialResult::default()
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
