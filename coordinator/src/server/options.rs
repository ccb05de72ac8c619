//! What a person can choose about a coordinator, with the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use deptune_sweep::scheduler::Config;

use crate::limit::Limits;

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
    /// Keeps results in memory, whatever `database` says, and forgets them at its end: to measure
    /// what a database costs. Default: no.
    pub in_memory: bool,
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
    /// For how long a file stays that nothing needs: superseded checkpoints from before a restart,
    /// uploads that no sweep came for. Default one day.
    pub keep_unused: Duration,
    /// How much callers may take.
    pub limits: Limits,
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> Options {
        Options {
            listen,
            data_dir,
            database: None,
            in_memory: false,
            insecure: false,
            scheduler: Config::default(),
            patience: Duration::from_secs(10),
            tick: Duration::from_millis(250),
            drain: Duration::from_secs(5),
            keep_unused: Duration::from_secs(86_400),
            limits: Limits::default(),
        }
    }
}
