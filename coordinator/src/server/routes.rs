//! The services, behind the gate, with their limits.

use std::time::Duration;

use deptune_proto::v1;
use deptune_proto::v1::admin_service_server::AdminServiceServer;
use deptune_proto::v1::artifact_service_server::ArtifactServiceServer;
use deptune_proto::v1::sweep_service_server::SweepServiceServer;
use deptune_proto::v1::worker_service_server::WorkerServiceServer;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower::layer::util::{Identity, Stack};

use super::ServeError;
use crate::api::Api;
use crate::auth::Token;
use crate::grpc::{Admin, Artifacts, GateLayer, MAX_ANSWER, MAX_MESSAGE, Sweeps, Workers};
use crate::runtime::{Handle, Health};

/// Requests at the same time on one connection.
const MAX_STREAMS: u32 = 64;
/// Longest header list of a request, in bytes.
const MAX_HEADERS: u32 = 16 << 10;
/// A connection without traffic is asked for a sign of life after this long …
const KEEPALIVE: Duration = Duration::from_secs(20);
/// … and closed when none comes within this.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Age at which a connection is asked to go once its requests are answered; clients make another.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// The names whose health is reported: the whole, and each service.
const NAMES: [&str; 4] =
    ["", "deptune.v1.SweepService", "deptune.v1.WorkerService", "deptune.v1.ArtifactService"];

/// All services behind the gate.
pub(super) async fn routes(
    api: &Api,
    token: Token,
) -> Result<Router<Stack<GateLayer, Identity>>, ServeError> {
    // Both versions describe each other too, so that either lists all that is served.
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .include_reflection_service(false)
            .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
    };
    let latest = reflection().build_v1().map_err(ServeError::Reflection)?;
    let older = reflection().build_v1alpha().map_err(ServeError::Reflection)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, ServingStatus::Serving).await;
    tokio::spawn(follow_health(reporter, api.handle.clone()));
    let router = bounded()
        .layer(GateLayer::new(token))
        .add_service(
            SweepServiceServer::new(Sweeps(api.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_ANSWER),
        )
        .add_service(
            WorkerServiceServer::new(Workers(api.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_ANSWER),
        )
        .add_service(
            AdminServiceServer::new(Admin(api.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_ANSWER),
        )
        .add_service(
            ArtifactServiceServer::new(Artifacts(api.clone()))
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_ANSWER),
        )
        .add_service(health)
        .add_service(latest)
        .add_service(older);
    Ok(router)
}

/// What a coordinator that stands by serves: that it does not serve, and which one does.
pub(super) async fn standby(
    token: Token,
    leader: watch::Receiver<Option<String>>,
) -> Router<Stack<GateLayer, Identity>> {
    let (reporter, health) = tonic_health::server::health_reporter();
    report(&reporter, ServingStatus::NotServing).await;
    bounded().layer(GateLayer::new(token).standing_by(leader)).add_service(health)
}

fn bounded() -> Server {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADERS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(MAX_AGE)
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for name in NAMES {
        reporter.set_service_status(name, status).await;
    }
}

/// Says `NOT_SERVING` while the scheduler is rebuilt and at the end.
async fn follow_health(reporter: HealthReporter, handle: Handle) {
    let mut health = handle.health();
    // This task must not keep the owner's queue open.
    drop(handle);
    loop {
        let status = match *health.borrow_and_update() {
            Health::Serving => ServingStatus::Serving,
            Health::Recovering | Health::Stopping => ServingStatus::NotServing,
        };
        report(&reporter, status).await;
        if health.changed().await.is_err() {
            return report(&reporter, ServingStatus::NotServing).await;
        }
    }
}
