//! A coordinator on a database that several share: it stands by until it leads, and again when it
//! does not lead any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::service::{Leave, Service};
use super::{Post, ServeError, listen, routes};
use crate::runtime::Fatal;
use crate::store::{Campaign, PostgresDatabase, PostgresStore};

/// Time between two tries to take the lead.
const CAMPAIGN_EVERY: Duration = Duration::from_millis(500);
/// Renewals within one lease.
const RENEWALS: u32 = 4;
/// Time for the requests under way when the role changes, and for giving up the lead.
const CHANGE: Duration = Duration::from_secs(1);
/// Longest wait for the database's answer to one try.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pause after a lead that failed at its beginning.
const PAUSE: Duration = Duration::from_secs(2);

/// Starts the coordinator; it leads or stands by when this returns.
pub(super) async fn start(
    post: Post,
    database: PostgresDatabase,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<JoinHandle<Result<(), ServeError>>, ServeError> {
    let stop = CancellationToken::new();
    let (ready, told) = oneshot::channel();
    let candidate = Candidate { post, database, stop: stop.clone(), ready: Some(ready) };
    let task = tokio::spawn(async move {
        let stopper = tokio::spawn(async move {
            shutdown.await;
            stop.cancel();
        });
        let ended = candidate.run().await;
        stopper.abort();
        ended
    });
    match told.await {
        Ok(()) => Ok(task),
        // It ended before.
        Err(_) => match task.await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(())) => Ok(tokio::spawn(async { Ok(()) })),
            Err(error) => Err(ServeError::Owner(Fatal::Died(error))),
        },
    }
}

struct Candidate {
    post: Post,
    database: PostgresDatabase,
    stop: CancellationToken,
    /// Told once, when it leads or stands by for the first time.
    ready: Option<oneshot::Sender<()>>,
}

impl Candidate {
    async fn run(mut self) -> Result<(), ServeError> {
        while !self.stop.is_cancelled() {
            let Some(store) = self.stand_by().await? else { return Ok(()) };
            match self.lead(store).await {
                Ok(()) => {}
                Err(ServeError::Owner(error @ Fatal::Deposed(_))) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no longer leading");
                }
                Err(ServeError::Owner(error @ Fatal::Load(_))) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot lead");
                    let _ = self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tries to take the lead until it has it; meanwhile tells who asks where the leader is.
    /// `None`: told to end.
    async fn stand_by(&mut self) -> Result<Option<PostgresStore>, ServeError> {
        let (leader, seen) = watch::channel(None);
        let served = CancellationToken::new();
        let mut server = None;
        let won = loop {
            let identity = self.post.identity();
            let campaign = timeout(PATIENCE, self.database.campaign(&identity));
            let Some(campaign) = self.stop.run_until_cancelled(campaign).await else { break None };
            match campaign {
                Err(_) => tracing::warn!("standing by: the database does not answer"),
                Ok(Ok(Campaign::Won(store))) => break Some(*store),
                Ok(Ok(Campaign::Lost(other))) => {
                    if leader.send_if_modified(|known| {
                        let news = known.as_ref() != Some(&other.address);
                        *known = Some(other.address.clone());
                        news
                    }) {
                        let (address, host) = (other.address, other.host);
                        tracing::info!(leader = address, host, "standing by");
                    }
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "standing by");
                }
            }
            if server.is_none() {
                let routes = routes::standby(self.post.token.clone(), seen.clone()).await;
                let (listener, limit) = (self.post.listener.clone(), self.post.options.limits);
                let incoming = listen::accept(listener, limit, served.clone());
                let ended = served.clone().cancelled_owned();
                server = Some(tokio::spawn(routes.serve_with_incoming_shutdown(incoming, ended)));
                self.is_ready();
            }
            let pause = tokio::time::sleep(CAMPAIGN_EVERY);
            if self.stop.run_until_cancelled(pause).await.is_none() {
                break None;
            }
        };
        served.cancel();
        if let Some(mut server) = server
            && timeout(CHANGE, &mut server).await.is_err()
        {
            server.abort();
        }
        Ok(won)
    }

    /// Serves until told to end, or until another coordinator leads or may lead.
    async fn lead(&mut self, store: PostgresStore) -> Result<(), ServeError> {
        tracing::info!(generation = store.generation(), "leading");
        let store = Arc::new(store);
        let lost = CancellationToken::new();
        let keeper = tokio::spawn(keep(store.clone(), lost.clone()));
        let ended = self.serve(&store, &lost).await;
        keeper.abort();
        // The service's end wrote its last; the next one need not wait for the lease.
        if !lost.is_cancelled() {
            match timeout(CHANGE, store.resign()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the lead runs out by itself");
                }
                Err(_) => {
                    tracing::warn!("the lead runs out by itself: the database does not answer");
                }
            }
        }
        ended
    }

    async fn serve(
        &mut self,
        store: &Arc<PostgresStore>,
        lost: &CancellationToken,
    ) -> Result<(), ServeError> {
        let database = self.database.address().to_string();
        let starting = Service::start(&self.post, store.clone(), &database);
        let Some(started) = lost.run_until_cancelled(starting).await else { return Ok(()) };
        let service = started?;
        self.is_ready();
        let drain = self.post.options.drain;
        let told = async {
            tokio::select! {
                () = self.stop.cancelled() => Leave::InPeace(drain),
                () = lost.cancelled() => Leave::AtOnce(CHANGE),
            }
        };
        service.run(told).await
    }

    fn is_ready(&mut self) {
        if let Some(ready) = self.ready.take() {
            // Who started it may have gone.
            let _ = ready.send(());
        }
    }
}

/// Renews the lease until it cannot be sure to have it any more; then cancels `lost`.
async fn keep(store: Arc<PostgresStore>, lost: CancellationToken) {
    let lease = store.lease();
    // The lease was taken a moment ago: what passed since is little beside the time that a
    // takeover takes, and safety does not hang on it.
    let mut until = Instant::now() + lease;
    loop {
        tokio::time::sleep(lease / RENEWALS).await;
        let asked = Instant::now();
        match timeout_at(until, store.renew()).await {
            Ok(Ok(true)) => until = asked + lease,
            Ok(Ok(false)) => {
                tracing::warn!("another coordinator has taken the lead");
                break;
            }
            Ok(Err(error)) if Instant::now() < until => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot renew the lead");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::error!("the lead could not be renewed in time");
                break;
            }
        }
    }
    lost.cancel();
}
