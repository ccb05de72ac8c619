//! `WorkerService`.

use std::collections::BTreeSet;

use deptune_proto::v1;
use deptune_proto::v1::worker_service_server::WorkerService;
use deptune_sweep::scheduler::Event;
use tonic::{Request, Response, Status};

use crate::api::{Api, Error};

/// When a worker that got nothing should ask again, in milliseconds: at once where the coordinator
/// has waited for it, a little later where it could not.
const RETRY_AFTER: u64 = 250;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Workers(pub(crate) Api);

pub(super) fn event<T>(request: Request<T>) -> Result<Event, Status>
where
    Event: TryFrom<T, Error = deptune_proto::convert::InvalidField>,
{
    Ok(Event::try_from(request.into_inner()).map_err(Error::from)?)
}

#[tonic::async_trait]
impl WorkerService for Workers {
    async fn register_worker(
        &self,
        request: Request<v1::RegisterWorkerRequest>,
    ) -> Result<Response<v1::RegisterWorkerResponse>, Status> {
        self.0.tell(event(request)?).await?;
        Ok(Response::new(v1::RegisterWorkerResponse {
            lease_ttl_ms: self.0.lease_ttl,
            heartbeat_ms: self.0.heartbeat(),
            version: crate::VERSION.to_owned(),
        }))
    }

    async fn complete_and_lease(
        &self,
        request: Request<v1::CompleteAndLeaseRequest>,
    ) -> Result<Response<v1::CompleteAndLeaseResponse>, Status> {
        let wanted = request.get_ref().free_slots.len();
        let exchanged = self.0.exchange(event(request)?).await?;
        let filled: BTreeSet<u32> = exchanged.grants.iter().map(|grant| grant.slot).collect();
        let retry_after_ms = if filled.len() < wanted { RETRY_AFTER } else { 0 };
        Ok(Response::new(v1::CompleteAndLeaseResponse {
            acks: exchanged.acks.into_iter().map(Into::into).collect(),
            leases: exchanged.grants.into_iter().map(Into::into).collect(),
            retry_after_ms,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        let (stops, drain) = self.0.hear(event(request)?).await?;
        let stops = stops.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::HeartbeatResponse { stops, drain }))
    }

    async fn report_progress(
        &self,
        request: Request<v1::ReportProgressRequest>,
    ) -> Result<Response<v1::ReportProgressResponse>, Status> {
        let (stops, _) = self.0.hear(event(request)?).await?;
        let stops = stops.into_iter().map(Into::into).collect();
        Ok(Response::new(v1::ReportProgressResponse { stops }))
    }

    async fn leave_worker(
        &self,
        request: Request<v1::LeaveWorkerRequest>,
    ) -> Result<Response<v1::LeaveWorkerResponse>, Status> {
        self.0.tell(event(request)?).await?;
        Ok(Response::new(v1::LeaveWorkerResponse {}))
    }
}
