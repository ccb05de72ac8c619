//! From options to a serving coordinator, and to its end.

mod address_file;
mod belonging;
mod candidate;
mod descriptors;
mod listen;
mod options;
mod routes;
mod service;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::Connected;

use crate::artifact;
use crate::auth::{self, Token};
use crate::runtime::Fatal;
use crate::store::{
    Address, Identity, MemoryDatabase, MemoryStore, OpenError, PostgresDatabase, SqliteStore, Store,
};

pub use address_file::{ADDRESS_FILE, AddressFile};
pub(crate) use belonging::database_of;
pub use options::{Options, Storage};
use service::{Leave, Service};

/// Name of the token file in the data directory.
pub const TOKEN_FILE: &str = "token";
/// Name of the SQLite database in the data directory, where no other is named.
pub const DATABASE_FILE: &str = "deptune.db";
/// What stands for the database's name where there is none.
const IN_MEMORY: &str = "(memory)";

/// For how long a leader that is not heard leads on: short, because all work waits for the next
/// one, and long enough for a database that is busy.
const LEAD: Duration = Duration::from_secs(4);

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
    /// A database beyond this machine without permission.
    #[error(
        "the connection to {0} would not be encrypted on the way: neither its password nor the \
         results; allow it with --insecure on a network that you trust"
    )]
    PlainDatabase(Address),
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
    /// Where the results are: the file of SQLite, or the address of Postgres without its password.
    pub database: String,
    /// The file that tells clients on this machine all of this, while this coordinator leads.
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

/// Starts the coordinator. It serves when this returns (or stands by, where another one leads on
/// the same Postgres database), until `shutdown` completes; then requests
/// under way are finished (within the options' time) and [`Running::wait`] returns.
///
/// Every connection takes a file descriptor: this process may open as many files from here on as
/// its hard limit says.
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
    descriptors::raise(options.limits.connections);
    create_data_dir(&options.data_dir)?;
    let token_file = options.data_dir.join(TOKEN_FILE);
    let token = Token::load_or_create(&token_file)?;
    let listener = listen(options.listen).await?;
    let address = listener
        .local_addr()
        .map_err(|source| ServeError::Listen { address: options.listen, source })?;
    let address_file = options.data_dir.join(ADDRESS_FILE);
    let storage = options.storage.clone();
    let post = Post { listener: Arc::new(listener), address, token, token_file, options };
    let token_file = post.token_file.clone();
    let (database, task) = match storage {
        Storage::File(file) => {
            let file = file.unwrap_or_else(|| post.options.data_dir.join(DATABASE_FILE));
            let store = SqliteStore::open(&file, &post.identity()).await?;
            let database = store.path().display().to_string();
            let service = Service::start(&post, Arc::new(store), &database).await?;
            let drain = post.options.drain;
            let told = async move {
                shutdown.await;
                Leave::InPeace(drain)
            };
            (database, tokio::spawn(service.run(told)))
        }
        Storage::Postgres(place) => {
            if !place.is_local() && !post.options.insecure {
                return Err(ServeError::PlainDatabase(place));
            }
            let database = PostgresDatabase::open(place, LEAD).await?;
            let shown = database.address().to_string();
            (shown, candidate::start(post, database, shutdown).await?)
        }
        Storage::Memory => {
            let store = MemoryStore::open(&MemoryDatabase::default());
            let service = Service::start(&post, Arc::new(store), IN_MEMORY).await?;
            let drain = post.options.drain;
            let told = async move {
                shutdown.await;
                Leave::InPeace(drain)
            };
            (IN_MEMORY.to_owned(), tokio::spawn(service.run(told)))
        }
    };
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
    let service = Service::over(options, token, store, connections).await?;
    service.run(std::future::pending()).await
}

/// What a coordinator has from its start to its end, whether it leads or not.
#[derive(Debug)]
struct Post {
    listener: Arc<TcpListener>,
    address: SocketAddr,
    token: Token,
    token_file: PathBuf,
    options: Options,
}

impl Post {
    fn identity(&self) -> Identity {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost");
        let address = self.options.advertise.clone().unwrap_or_else(|| self.address.to_string());
        Identity { pid: std::process::id(), host: host.to_owned(), address }
    }
}

fn create_data_dir(path: &Path) -> Result<(), ServeError> {
    // Closed to others: it holds the token and everybody's data.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| ServeError::DataDir { path: path.to_owned(), source })
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|source| ServeError::Listen { address, source })
}
