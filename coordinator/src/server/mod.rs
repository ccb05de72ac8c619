//! From options to a serving coordinator, and to its end.

mod address_file;
mod listen;
mod options;
mod routes;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use crate::api::Api;
use crate::artifact::{self, Artifacts, Collector, Logs, Retention};
use crate::auth::{self, Token};
use crate::runtime::{self, Ending, Fatal};
use crate::store::{Identity, MemoryDatabase, MemoryStore, OpenError, SqliteStore, Store};

pub use address_file::{ADDRESS_FILE, AddressFile};
pub use options::Options;

/// Name of the token file in the data directory.
pub const TOKEN_FILE: &str = "token";
/// Name of the SQLite database in the data directory, where no other is named.
pub const DATABASE_FILE: &str = "deptune.db";
/// What stands for the database's name where there is none.
const IN_MEMORY: &str = "(memory)";

/// Why the coordinator did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Plaintext beyond this machine without permission.
    #[error(
        "{0} can be reached from other machines, and neither the token nor the data would be \
         encrypted on the way; listen on 127.0.0.1 and forward the port with ssh, or allow it \
         with --insecure on a network that you trust"
    )]
    NotLoopback(SocketAddr),
    /// The data directory cannot be made.
    #[error("cannot create the data directory {path}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The token.
    #[error(transparent)]
    Token(#[from] auth::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; is another program using the port?")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The artifact directory.
    #[error(transparent)]
    Artifacts(#[from] artifact::Error),
    /// The owner loop.
    #[error(transparent)]
    Owner(#[from] Fatal),
    /// The address file.
    #[error("cannot write the address file {path}")]
    AddressFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The reflection service.
    #[error("cannot build the reflection service")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The gRPC server.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// A coordinator that serves.
#[derive(Debug)]
pub struct Running {
    /// Where it listens; the port is the real one when the options asked for port 0.
    pub address: SocketAddr,
    /// The token file that clients and workers need.
    pub token_file: PathBuf,
    /// The SQLite database with the results.
    pub database: PathBuf,
    /// The file that tells clients on this machine all of this.
    pub address_file: PathBuf,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    /// Waits until the coordinator has ended, by its shutdown or for a reason of its own.
    ///
    /// # Errors
    /// When it ended for a reason of its own.
    pub async fn wait(self) -> Result<(), ServeError> {
        self.task.await.map_err(|error| ServeError::Owner(Fatal::Died(error)))?
    }
}

/// Starts the coordinator. It serves when this returns, until `shutdown` completes; then requests
/// under way are finished (within the options' time) and [`Running::wait`] returns.
///
/// # Errors
/// When it cannot start; see [`ServeError`].
pub async fn serve(
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    if !options.listen.ip().is_loopback() {
        if !options.insecure {
            return Err(ServeError::NotLoopback(options.listen));
        }
        tracing::warn!(
            address = %options.listen,
            "serving without encryption beyond this machine: whoever can read the network can \
             read the token"
        );
    }
    create_data_dir(&options.data_dir)?;
    let token_file = options.data_dir.join(TOKEN_FILE);
    let token = Token::load_or_create(&token_file)?;
    let listener = listen(options.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|source| ServeError::Listen { address: options.listen, source })?;

    let (store, database) = open_store(&options, address).await?;
    let Begun { api, ending, owner } = begin(&options, store, &database).await?;
    let routes = routes::routes(&api, token).await?;
    let incoming = listen::accept(listener, options.limits, ending.drain.clone());
    let drained = ending.drain.clone().cancelled_owned();
    let server = tokio::spawn(routes.serve_with_incoming_shutdown(incoming, drained));

    let collector = Collector {
        store: api.store.clone(),
        artifacts: api.artifacts.clone(),
        logs: api.logs.clone(),
        grace: options.keep_unused,
    };
    tokio::spawn(collector.run(ending.drain.clone()));

    let file = AddressFile::new(address, &token_file, &database);
    let address_file = file.write(&options.data_dir)?;
    tracing::info!(%address, database = %database.display(), "serving");
    let life = Life { ending, owner, server, feeders: api.feeders.clone(), drain: options.drain };
    let written = address_file.clone();
    let task = tokio::spawn(async move {
        let ended = life.run(shutdown).await;
        file.remove(&written);
        ended
    });
    Ok(Running { address, token_file, database, address_file, task })
}

/// Serves connections that come from elsewhere than a port of this machine, over a store that is
/// open already: a simulated network's. Returns when the connections end, or when the coordinator
/// must end. The data directory must be there.
///
/// # Errors
/// When it cannot start, or ended for a reason of its own.
pub async fn serve_connections<C, E>(
    options: &Options,
    store: Arc<dyn Store>,
    connections: impl Stream<Item = Result<C, E>> + Send + 'static,
) -> Result<(), ServeError>
where
    C: AsyncRead
        + AsyncWrite
        + Connected<ConnectInfo: Clone + Send + Sync>
        + Unpin
        + Send
        + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    let token = Token::load_or_create(&options.data_dir.join(TOKEN_FILE))?;
    let Begun { api, ending, owner } = begin(options, store, Path::new(IN_MEMORY)).await?;
    let routes = routes::routes(&api, token).await?;
    let server = tokio::spawn(routes.serve_with_incoming(connections));
    let life = Life { ending, owner, server, feeders: api.feeders.clone(), drain: options.drain };
    life.run(std::future::pending()).await
}

/// A coordinator that works and does not serve yet.
struct Begun {
    api: Api,
    ending: Ending,
    owner: JoinHandle<Result<(), Fatal>>,
}

async fn begin(
    options: &Options,
    store: Arc<dyn Store>,
    database: &Path,
) -> Result<Begun, ServeError> {
    let artifacts = Artifacts::open(&options.data_dir)?;
    let ending = Ending::default();
    let logs = Logs::new(&options.data_dir);
    let settings = runtime::Settings { scheduler: options.scheduler, tick: options.tick };
    let (handle, owner) = runtime::start(store.clone(), settings, ending.clone()).await?;
    let api = Api {
        handle,
        store,
        artifacts,
        logs,
        retention: Retention::default(),
        patience: options.patience,
        lease_ttl: options.scheduler.lease_ttl,
        database: database.display().to_string().into(),
        stop: ending.drain.clone(),
        feeders: TaskTracker::new(),
    };
    Ok(Begun { api, ending, owner })
}

/// Opens the store that the options ask for; with its name for people.
async fn open_store(
    options: &Options,
    address: SocketAddr,
) -> Result<(Arc<dyn Store>, PathBuf), OpenError> {
    if options.in_memory {
        let store = MemoryStore::open(&MemoryDatabase::default());
        return Ok((Arc::new(store), PathBuf::from(IN_MEMORY)));
    }
    let database = options.database.clone().unwrap_or_else(|| options.data_dir.join(DATABASE_FILE));
    let store = SqliteStore::open(&database, &identity(address)).await?;
    let database = store.path().to_owned();
    Ok((Arc::new(store), database))
}

/// The coordinator's tasks and how they end.
struct Life {
    ending: Ending,
    owner: JoinHandle<Result<(), Fatal>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    feeders: TaskTracker,
    drain: std::time::Duration,
}

impl Life {
    async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let early = tokio::select! {
            () = shutdown => None,
            ended = &mut self.owner => Some(flat(ended, Fatal::Died).map_err(ServeError::Owner)),
            ended = &mut self.server => {
                let ended = ended.map_err(|e| ServeError::Owner(Fatal::Died(e)));
                Some(ended.and_then(|ended| ended.map_err(ServeError::Transport)))
            }
        };
        self.ending.drain.cancel();
        self.feeders.close();
        let finished = async {
            self.feeders.wait().await;
            if !self.server.is_finished() {
                let _ = (&mut self.server).await;
            }
        };
        if tokio::time::timeout(self.drain, finished).await.is_err() {
            tracing::warn!("some requests were cut off at shutdown");
            self.server.abort();
        }
        self.ending.close.cancel();
        match early {
            Some(ended) => ended,
            None => flat(self.owner.await, Fatal::Died).map_err(ServeError::Owner),
        }
    }
}

fn flat<T, E>(
    ended: Result<Result<T, E>, tokio::task::JoinError>,
    died: impl FnOnce(tokio::task::JoinError) -> E,
) -> Result<T, E> {
    ended.unwrap_or_else(|error| Err(died(error)))
}

fn create_data_dir(path: &Path) -> Result<(), ServeError> {
    // Closed to others: it holds the token and everybody's data.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServeError::DataDir { path: path.to_owned(), source })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}

fn identity(address: SocketAddr) -> Identity {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost").to_owned();
    Identity { pid: std::process::id(), host, address: address.to_string() }
}
