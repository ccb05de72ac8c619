//! Carries out the protocol's calls.

use std::sync::Arc;
use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::report_ack::Verdict;
use deptune_sweep::crash::{Point, point};
use deptune_sweep::id::{Epoch, RequestId};
use deptune_sweep::scheduler::{Ack, Stop, StopReason};

use super::Shared;
use super::artifact;
use crate::protocol::{Answer, Call, CallError, CallKind, Event, FileKind};

/// Deadline of calls that only write a little.
const SHORT: Duration = Duration::from_secs(10);
/// Deadline of calls that commit results.
const LONG: Duration = Duration::from_secs(30);
/// Deadline of an exchange that only asks: the coordinator lets it wait for work.
const PATIENT: Duration = Duration::from_secs(90);

/// Makes the call and says how it went.
pub(super) async fn perform(shared: Arc<Shared>, call: Call) -> Event {
    let kind = kind(&call);
    match answer(&shared, call).await {
        Ok(answer) => Event::Answered(answer),
        Err(error) => Event::CallFailed { call: kind, error },
    }
}

fn kind(call: &Call) -> CallKind {
    match call {
        Call::Register { .. } => CallKind::Register,
        Call::Exchange { request_id, .. } => CallKind::Exchange(*request_id),
        Call::Heartbeat { .. } => CallKind::Heartbeat,
        Call::Progress { .. } => CallKind::Progress,
        Call::Upload { lease, file, kept } => {
            CallKind::Upload { lease: *lease, file: *file, hash: kept.hash.clone() }
        }
        Call::Leave { .. } => CallKind::Leave,
    }
}

/// Sends a request with a deadline that holds on this side, too.
macro_rules! send {
    ($shared:ident . $method:ident ( $content:expr ), $deadline:expr) => {{
        let (at, mut client) = $shared.client.worker()?;
        let request = $shared.client.request($content, $deadline)?;
        match tokio::time::timeout($deadline, client.$method(request)).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err($shared.client.error(at, &status)),
            Err(_) => return Err($shared.client.silence(at, "no answer in time")),
        }
    }};
}

async fn answer(shared: &Shared, call: Call) -> Result<Answer, CallError> {
    match call {
        Call::Register { worker, slots, lost } => {
            let request = v1::RegisterWorkerRequest {
                worker_id: worker.to_string(),
                name: shared.setup.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                slots: slots.into_iter().map(Into::into).collect(),
                lost: lost.into_iter().map(Into::into).collect(),
                labels: shared.setup.labels.clone(),
            };
            let response = send!(shared.register_worker(request), SHORT);
            if response.version != env!("CARGO_PKG_VERSION") {
                let (theirs, ours) = (response.version, env!("CARGO_PKG_VERSION"));
                tracing::info!(theirs, ours, "the coordinator has another version");
            }
            Ok(Answer::Registered { heartbeat: response.heartbeat_ms })
        }
        Call::Exchange { worker, request_id, reports, free_slots } => {
            let reporting = !reports.is_empty();
            let deadline = if reporting { LONG } else { PATIENT };
            let request = v1::CompleteAndLeaseRequest {
                worker_id: worker.to_string(),
                request_id: request_id.to_string(),
                reports: reports.into_iter().map(Into::into).collect(),
                free_slots,
            };
            if reporting {
                point(Point::BeforeReport);
            }
            let response = send!(shared.complete_and_lease(request), deadline);
            if reporting {
                point(Point::AfterReport);
            }
            exchanged(request_id, response)
        }
        Call::Heartbeat { worker, leases } => {
            let request = v1::HeartbeatRequest {
                worker_id: worker.to_string(),
                leases: leases.into_iter().map(Into::into).collect(),
            };
            let response = send!(shared.heartbeat(request), SHORT);
            let drain = response.drain;
            Ok(Answer::HeartbeatHeard { stops: stops(response.stops), drain })
        }
        Call::Progress { worker, trials } => {
            let request = v1::ReportProgressRequest {
                worker_id: worker.to_string(),
                trials: trials.into_iter().map(Into::into).collect(),
            };
            let response = send!(shared.report_progress(request), LONG);
            Ok(Answer::ProgressRecorded { stops: stops(response.stops) })
        }
        Call::Upload { lease, file, kept } => {
            let (path, name) = match file {
                FileKind::Checkpoint => (shared.outbox.checkpoint(lease, kept.step), "checkpoint"),
                FileKind::Adapter => (shared.outbox.adapter(lease), "adapter"),
            };
            artifact::put(&shared.client, &path, &kept.hash, name).await?;
            Ok(Answer::Uploaded { lease, file, hash: kept.hash })
        }
        Call::Leave { worker } => {
            let request = v1::LeaveWorkerRequest { worker_id: worker.to_string() };
            send!(shared.leave_worker(request), SHORT);
            Ok(Answer::Left)
        }
    }
}

fn exchanged(
    request_id: RequestId,
    response: v1::CompleteAndLeaseResponse,
) -> Result<Answer, CallError> {
    let mut leases = Vec::new();
    for lease in response.leases {
        match lease.try_into() {
            Ok(lease) => leases.push(lease),
            // Its lease expires, and the coordinator says why nobody can run it.
            Err(error) => {
                tracing::error!(%error, "the coordinator sent a lease that makes no sense")
            }
        }
    }
    let acks = response.acks.into_iter().map(ack).collect();
    Ok(Answer::Exchanged { request_id, acks, leases, retry_after: response.retry_after_ms })
}

fn ack(wire: v1::ReportAck) -> Ack {
    match wire.verdict() {
        Verdict::Accepted => Ack::Accepted,
        Verdict::Stale => {
            let reason = wire.reason.parse().unwrap_or(StopReason::Superseded);
            Ack::Stale { current: Epoch::default(), reason }
        }
        Verdict::Rejected | Verdict::Unspecified => Ack::Rejected { reason: wire.reason },
    }
}

fn stops(wire: Vec<v1::Stop>) -> Vec<Stop> {
    wire.into_iter().filter_map(|stop| stop.try_into().ok()).collect()
}
