//! What a person can choose about a coordinator, with the defaults.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use deptune_sweep::scheduler::Config;

use crate::limit::Limits;
use crate::store::Address;

/// Where the results are kept.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In a SQLite file; by default `deptune.db` in the data directory.
    File(Option<PathBuf>),
    /// In a Postgres database, which several coordinators may share.
    Postgres(Address),
    /// In memory, forgotten at the end: to measure what a database costs.
    Memory,
}

/// The options of [`serve`](super::serve). Start from [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address to listen on; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Directory of the token, the address file, artifacts and logs, and by default the database.
    /// Made when it is not there. Coordinators on one Postgres database share it.
    pub data_dir: PathBuf,
    /// Where the results are. Default: in `deptune.db` in the data directory.
    pub storage: Storage,
    /// `host:port` where clients reach this coordinator, for others to name it. Default: the
    /// address that it listens on.
    pub advertise: Option<String>,
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
    /// Most bytes of all files that the coordinator keeps. Data and models beyond are refused; what
    /// trials make is kept all the same. Default: no bound.
    pub max_artifact_bytes: Option<u64>,
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
            storage: Storage::File(None),
            advertise: None,
            insecure: false,
            scheduler: Config::default(),
            patience: Duration::from_secs(10),
            tick: Duration::from_millis(250),
            drain: Duration::from_secs(5),
            keep_unused: Duration::from_secs(86_400),
            max_artifact_bytes: None,
            limits: Limits::default(),
        }
    }
}
