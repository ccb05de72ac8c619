//! A coordinator that leads: its tasks, and how they end.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::{AddressFile, Options, Post, ServeError, belonging, listen, routes};
use crate::api::{Api, Turns};
use crate::artifact::{Artifacts, Collector, Logs, RESERVE, Retention};
use crate::auth::Token;
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
    /// The address file and its path; none where connections come from elsewhere.
    file: Option<(AddressFile, PathBuf)>,
}

/// A coordinator that works and does not serve yet.
struct Begun {
    api: Api,
    ending: Ending,
    owner: JoinHandle<Result<(), Fatal>>,
}

impl Service {
    /// Opens the files, restores the scheduler and serves.
    pub(super) async fn start(
        post: &Post,
        store: Arc<dyn Store>,
        database: &str,
    ) -> Result<Service, ServeError> {
        let options = &post.options;
        let Begun { api, ending, owner } = begin(options, store, database).await?;
        let routes = routes::routes(&api, post.token.clone()).await?;
        let stop = ending.drain.clone();
        let incoming = listen::accept(post.listener.clone(), options.limits, stop.clone());
        let drained = stop.cancelled_owned();
        let server = tokio::spawn(routes.serve_with_incoming_shutdown(incoming, drained));

        let file = AddressFile::new(post.address, &post.token_file, database);
        let written = file.write(&options.data_dir)?;
        tracing::info!(address = %post.address, database, "serving");
        let collector = Collector {
            store: api.store.clone(),
            artifacts: api.artifacts.clone(),
            logs: api.logs.clone(),
            grace: options.keep_unused,
        };
        match belonging::belongs(&options.data_dir, database) {
            Ok(true) => drop(tokio::spawn(collector.run(ending.drain.clone()))),
            Ok(false) => tracing::warn!(
                data_dir = %options.data_dir.display(),
                database,
                "the files of this data directory belong to another database, which its file \
                 'database' names; none of them is removed"
            ),
            Err(error) => tracing::warn!(
                %error,
                "it is not known which database the files of the data directory belong to; none \
                 of them is removed"
            ),
        }
        let (feeders, drain) = (api.feeders.clone(), options.drain);
        Ok(Service { ending, owner, server, feeders, drain, file: Some((file, written)) })
    }

    /// The same over connections that come from elsewhere.
    pub(super) async fn over<C, E>(
        options: &Options,
        token: Token,
        store: Arc<dyn Store>,
        connections: impl Stream<Item = Result<C, E>> + Send + 'static,
    ) -> Result<Service, ServeError>
    where
        C: AsyncRead
            + AsyncWrite
            + Connected<ConnectInfo: Clone + Send + Sync>
            + Unpin
            + Send
            + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let Begun { api, ending, owner } = begin(options, store, "elsewhere").await?;
        let routes = routes::routes(&api, token).await?;
        let server = tokio::spawn(routes.serve_with_incoming(connections));
        let (feeders, drain) = (api.feeders.clone(), options.drain);
        Ok(Service { ending, owner, server, feeders, drain, file: None })
    }

    /// Serves until it is told to leave, or until it cannot go on.
    pub(super) async fn run(mut self, told: impl Future<Output = Leave>) -> Result<(), ServeError> {
        let ended = self.serve(told).await;
        if let Some((file, written)) = &self.file {
            file.remove(written);
        }
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
        // It may wait for a database that does not answer, or amid a commit that takes long: what
        // that would write was acknowledged to nobody.
        let Ok(ended) = tokio::time::timeout(limit, &mut self.owner).await else {
            tracing::warn!("the last requests were not carried out: the store did not answer");
            self.owner.abort();
            return Ok(());
        };
        flat(ended, Fatal::Died).map_err(ServeError::Owner)
    }
}

async fn begin(
    options: &Options,
    store: Arc<dyn Store>,
    database: &str,
) -> Result<Begun, ServeError> {
    let artifacts = Artifacts::open(&options.data_dir, options.max_artifact_bytes)?;
    let ending = Ending::default();
    let settings = runtime::Settings { scheduler: options.scheduler, tick: options.tick };
    let (handle, owner) = runtime::start(store.clone(), settings, ending.clone()).await?;
    let api = Api {
        handle,
        store,
        artifacts,
        logs: Logs::new(&options.data_dir, RESERVE),
        retention: Retention::default(),
        patience: options.patience,
        lease_ttl: options.scheduler.lease_ttl,
        database: database.into(),
        turns: Turns::new(),
        unread: options.limits.unread,
        stop: ending.drain.clone(),
        feeders: TaskTracker::new(),
    };
    Ok(Begun { api, ending, owner })
}

/// How a service is told to end.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leave {
    /// Requests under way may take this long, and as long again the store, so that what was asked
    /// for is carried out.
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
