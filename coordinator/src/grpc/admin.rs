//! `AdminService`.

use deptune_proto::v1;
use deptune_proto::v1::admin_service_server::AdminService;
use tonic::{Request, Response, Status};

use super::worker::event;
use crate::api::Api;

/// See the [module](self).
#[derive(Debug, Clone)]
pub(crate) struct Admin(pub(crate) Api);

#[tonic::async_trait]
impl AdminService for Admin {
    async fn list_workers(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        let request = request.into_inner();
        let page = self.0.list_workers(request.page_size, &request.page_token).await?;
        Ok(Response::new(v1::ListWorkersResponse {
            workers: page.items.into_iter().map(Into::into).collect(),
            next_page_token: page.next,
        }))
    }

    async fn drain_worker(
        &self,
        request: Request<v1::DrainWorkerRequest>,
    ) -> Result<Response<v1::DrainWorkerResponse>, Status> {
        self.0.tell(event(request)?).await?;
        Ok(Response::new(v1::DrainWorkerResponse {}))
    }
}
