//! The coordinator within this process.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use deptune_coordinator::store::OpenError;
use deptune_coordinator::{ADDRESS_FILE, DATABASE_FILE, Limits, Options, ServeError, serve};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::args::Globals;
use crate::output::error::{Error, Exit};
use crate::paths;

/// A running coordinator.
pub(crate) struct Coordinator {
    /// `host:port`.
    pub(crate) address: String,
    /// Where its token is.
    pub(crate) token_file: PathBuf,
    /// Where its results are.
    pub(crate) database: String,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Coordinator {
    /// Starts it.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(crate) async fn start(options: Options) -> Result<Coordinator, Error> {
        let shutdown = CancellationToken::new();
        let running = serve(options, shutdown.clone().cancelled_owned()).await.map_err(failure)?;
        Ok(Coordinator {
            address: running.address.to_string(),
            token_file: running.token_file.clone(),
            database: running.database.clone(),
            shutdown,
            task: tokio::spawn(running.wait()),
        })
    }

    /// Starts one for the length of a command that reads results, where none runs on the data
    /// directory and there is a database in it.
    ///
    /// # Errors
    /// Why it cannot start.
    pub(crate) async fn for_reading(globals: &Globals) -> Result<Option<Coordinator>, Error> {
        if !globals.server.is_empty() {
            return Ok(None);
        }
        let dir = paths::data_dir(globals)?;
        if dir.join(ADDRESS_FILE).exists() || !dir.join(DATABASE_FILE).is_file() {
            return Ok(None);
        }
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options::new(any_port, dir);
        // Nobody else comes.
        options.limits = Limits { connections: 16, ..Limits::default() };
        Coordinator::start(options).await.map(Some)
    }

    /// Waits until it ends, for a reason of its own or because of [`Coordinator::shut_down`].
    ///
    /// # Errors
    /// The reason of its own.
    pub(crate) async fn ended(&mut self) -> Result<(), Error> {
        match (&mut self.task).await {
            Ok(ended) => ended.map_err(failure),
            Err(source) => Err(Error::Task { task: "the coordinator", source: source.into() }),
        }
    }

    /// Tells it to finish what is under way and to end.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

/// The coordinator's error as the command's.
fn failure(error: ServeError) -> Error {
    let (exit, hint) = match &error {
        ServeError::NotLoopback(_) => (Exit::Usage, None),
        ServeError::Store(OpenError::InUse { .. }) => (
            Exit::Refused,
            Some(
                "'deptune submit' and the other commands use the running one; another --data-dir \
                 makes a second one"
                    .to_owned(),
            ),
        ),
        ServeError::Listen { .. } => (
            Exit::Usage,
            Some("choose another --listen HOST:PORT; port 0 is any free one".to_owned()),
        ),
        ServeError::PlainDatabase(_) => (Exit::Usage, None),
        ServeError::Store(OpenError::Sql { database, .. }) if database.contains("://") => (
            Exit::Refused,
            Some(
                "is the database running, and are user and password right (DATABASE_URL, \
                 PGPASSWORD or ~/.pgpass)?"
                    .to_owned(),
            ),
        ),
        ServeError::Store(OpenError::Foreign { database } | OpenError::Newer { database, .. })
            if database.contains("://") =>
        {
            (Exit::Usage, Some("deptune needs a database of its own".to_owned()))
        }
        ServeError::Store(_) | ServeError::Token(_) | ServeError::DataDir { .. } => {
            (Exit::Usage, Some("'--data-dir DIR' names another directory".to_owned()))
        }
        _ => (Exit::Internal, None),
    };
    Error::Coordinator { exit, hint, source: Box::new(error) }
}

/// Reads an address to listen on; a name is resolved.
///
/// # Errors
/// What was expected.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let resolved = text.to_socket_addrs().map_err(|error| {
        format!("expected HOST:PORT, as in 127.0.0.1:7077 or login1:7077 ({error})")
    })?;
    // 127.0.0.1 rather than ::1 where a name means both.
    let mut addresses: Vec<SocketAddr> = resolved.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| "the name has no address".to_owned())
}
