//! What a person can choose about a coordinator, with the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use deptune_sweep::scheduler::Config;

/// The options of [`serve`](super::serve). Start from [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Directory of the token, the address file, artifacts and logs, and by default the database.
    /// Made when it is not there.
    pub data_dir: PathBuf,
    /// The SQLite database. Default: `deptune.db` in the data directory.
    pub database: Option<PathBuf>,
    /// Whether plaintext beyond this machine is allowed. Default: no.
    pub insecure: bool,
    /// The scheduler's times and bounds.
    pub scheduler: Config,
    /// How long a worker that asks for trials is kept waiting when there are none. Default 10 s.
    pub patience: Duration,
    /// Time between two looks for expired leases. Default 250 ms.
    pub tick: Duration,
    /// How long requests under way may take at shutdown. Default 5 s.
    pub drain: Duration,
    /// Connections at the same time; further ones wait. Default 4096.
    pub max_connections: usize,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Options {
        Options {
            listen,
            data_dir,
            database: None,
            insecure: false,
            scheduler: Config::default(),
            patience: Duration::from_secs(10),
            tick: Duration::from_millis(250),
            drain: Duration::from_secs(5),
            max_connections: 4096,
        }
    }
}
