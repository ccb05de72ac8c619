//! A coordinator that leads: its tasks, and how they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use super::{AddressFile, Post, ServeError, listen, routes};
use crate::api::Api;
use crate::artifact::{Artifacts, Logs, Retention};
use crate::runtime::{self, Ending, Fatal};
use crate::store::Store;

/// The coordinator's tasks and how they end.
pub(super) struct Service {
    ending: Ending,
    owner: JoinHandle<Result<(), Fatal>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    feeders: TaskTracker,
    /// Time for the requests under way when it ends by itself.
    drain: Duration,
    file: AddressFile,
    written: PathBuf,
}

impl Service {
    /// Opens the files, restores the scheduler and serves.
    pub(super) async fn start(
        post: &Post,
        store: Arc<dyn Store>,
        database: &str,
    ) -> Result<Service, ServeError> {
        let options = &post.options;
        let artifacts = Artifacts::open(&options.data_dir).await?;
        let ending = Ending::default();
        let settings = runtime::Settings { scheduler: options.scheduler, tick: options.tick };
        let (handle, owner) = runtime::start(store.clone(), settings, ending.clone()).await?;
        let api = Api {
            handle,
            store,
            artifacts,
            logs: Logs::new(&options.data_dir),
            retention: Retention::default(),
            patience: options.patience,
            lease_ttl: options.scheduler.lease_ttl,
            database: database.into(),
            stop: ending.drain.clone(),
            feeders: TaskTracker::new(),
        };
        let routes = routes::routes(&api, post.token.clone()).await?;
        let stop = ending.drain.clone();
        let incoming = listen::accept(post.listener.clone(), options.max_connections, stop.clone());
        let drained = stop.cancelled_owned();
        let server = tokio::spawn(routes.serve_with_incoming_shutdown(incoming, drained));

        let file = AddressFile::new(post.address, &post.token_file, database);
        let written = file.write(&options.data_dir)?;
        tracing::info!(address = %post.address, database, "serving");
        let (feeders, drain) = (api.feeders.clone(), options.drain);
        Ok(Service { ending, owner, server, feeders, drain, file, written })
    }

    /// Serves until it is told to leave, or until it cannot go on.
    pub(super) async fn run(mut self, told: impl Future<Output = Leave>) -> Result<(), ServeError> {
        let ended = self.serve(told).await;
        self.file.remove(&self.written);
        ended
    }

    async fn serve(&mut self, told: impl Future<Output = Leave>) -> Result<(), ServeError> {
        let (leave, early) = tokio::select! {
            leave = told => (leave, None),
            ended = &mut self.owner => {
                let ended = flat(ended, Fatal::Died).map_err(ServeError::Owner);
                (Leave::InPeace(self.drain), Some(ended))
            }
            ended = &mut self.server => {
                let ended = ended.map_err(|e| ServeError::Owner(Fatal::Died(e)));
                let ended = ended.and_then(|ended| ended.map_err(ServeError::Transport));
                (Leave::InPeace(self.drain), Some(ended))
            }
        };
        self.ending.drain.cancel();
        self.feeders.close();
        let (Leave::InPeace(limit) | Leave::AtOnce(limit)) = leave;
        let finished = async {
            self.feeders.wait().await;
            if !self.server.is_finished() {
                let _ = (&mut self.server).await;
            }
        };
        if tokio::time::timeout(limit, finished).await.is_err() {
            tracing::warn!("some requests were cut off at shutdown");
            self.server.abort();
        }
        self.ending.close.cancel();
        if let Some(ended) = early {
            return ended;
        }
        let owner = &mut self.owner;
        let ended = match leave {
            Leave::InPeace(_) => owner.await,
            // It may wait for a database that does not answer.
            Leave::AtOnce(limit) => match tokio::time::timeout(limit, &mut *owner).await {
                Ok(ended) => ended,
                Err(_) => {
                    owner.abort();
                    return Ok(());
                }
            },
        };
        flat(ended, Fatal::Died).map_err(ServeError::Owner)
    }
}

/// How a service is told to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leave {
    /// Requests under way may take this long, and what was asked for is carried out.
    InPeace(Duration),
    /// Another coordinator leads, or may: what takes longer than this is cut off.
    AtOnce(Duration),
}

fn flat<T, E>(
    ended: Result<Result<T, E>, tokio::task::JoinError>,
    died: impl FnOnce(tokio::task::JoinError) -> E,
) -> Result<T, E> {
    ended.unwrap_or_else(|error| Err(died(error)))
}
