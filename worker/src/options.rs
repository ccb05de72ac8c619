//! What a person can choose about an agent, with the defaults.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The options of [`run`](crate::run). Start from [`Options::new`] and change what differs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses of the coordinator, `host:port` or `http://host:port`, tried in turn. At least
    /// one.
    pub servers: Vec<String>,
    /// The shared token.
    pub token: Token,
    /// Whether a plaintext connection to an address that is not loopback is allowed.
    pub insecure: bool,
    /// Name for people; default: the host name. Letters, digits, `-`, `_`, `.`; at most 100.
    pub name: Option<String>,
    /// Words by which a sweep may ask for this worker: letters, digits, `-`, `_`, `.`, `=`; at most
    /// 32.
    pub labels: Vec<String>,
    /// Where finished reports, leases and attempts are kept. Default
    /// `<XDG_STATE_HOME or ~/.local/state>/deptune/worker-<name>`.
    pub state_dir: Option<PathBuf>,
    /// The hub that models are fetched from, and its cache. Default: none.
    pub hub: Option<deptune_hub::Settings>,
    /// Where data and models are kept by hash; may be shared by workers of a node. Default
    /// `<XDG_CACHE_HOME or ~/.cache>/deptune`.
    pub cache_dir: Option<PathBuf>,
    /// Most bytes that they may take; files used in the last ten minutes stay all the same. Models
    /// of the hub are not counted: they are in the hub's cache. Default: no bound.
    pub max_cache_bytes: Option<u64>,
    /// Directory that the workers of a pool share, for checkpoints too large for the coordinator.
    /// Default: none; they stay in the state directory, and only this worker goes on from them.
    pub artifact_dir: Option<PathBuf>,
    /// Directories under which models may be opened. Nothing outside of them is, except models
    /// that were uploaded.
    pub model_roots: Vec<PathBuf>,
    /// What it may compute with.
    pub slots: SlotOptions,
    /// The trainer's program. Default: `deptune-trainer` beside the running program, then in
    /// `../lib/deptune/`, then in `PATH`.
    pub trainer: Option<PathBuf>,
    /// How long to look for the coordinator at first. Default 60 s.
    pub register_timeout: Duration,
    /// How long to stay without work and without the coordinator. Default 5 min.
    pub idle_timeout: Duration,
    /// How long a child may go without a new step. Default 10 min.
    pub hang_timeout: Duration,
    /// How long to wait for checkpoints and reports when told to go. Default 60 s.
    pub drain_timeout: Duration,
    /// How long the process may live, from its start. Default: until `SLURM_JOB_END_TIME`, if
    /// that is set.
    pub walltime: Option<Duration>,
    /// How long before the end of the walltime to begin to drain. Default 60 s.
    pub walltime_margin: Duration,
}

impl Options {
    /// The defaults, for a coordinator at these addresses.
    #[must_use]
    pub fn new(servers: Vec<String>, token: Token) -> Options {
        Options {
            servers,
            token,
            insecure: false,
            name: None,
            labels: Vec::new(),
            state_dir: None,
            hub: None,
            cache_dir: None,
            max_cache_bytes: None,
            artifact_dir: None,
            model_roots: Vec::new(),
            slots: SlotOptions::default(),
            trainer: None,
            register_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(300),
            hang_timeout: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(60),
            walltime: None,
            walltime_margin: Duration::from_secs(60),
        }
    }
}

/// Default of the largest pack on the CPU: the largest that was measured there.
pub const CPU_PACK: u32 = 8;

/// Default of the largest pack on a CUDA device; not measured yet.
pub const CUDA_PACK: u32 = 16;

/// What the agent may compute with, within what the process was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotOptions {
    /// Number of slots. Default: one per CUDA device, or the CPUs divided by `threads`.
    pub slots: Option<u32>,
    /// Threads per slot. Default: on the CPU 4, or 1 where there are at most 4 CPUs; with CUDA
    /// the CPUs divided by the slots.
    pub threads: Option<u32>,
    /// Most trials of a pack, 1 to 256. Default: [`CPU_PACK`] on the CPU, [`CUDA_PACK`] on CUDA
    /// devices.
    pub max_pack: Option<u32>,
    /// Devices.
    pub device: DeviceChoice,
}

/// Which devices make slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// CUDA devices if there are any, else the CPU.
    #[default]
    Auto,
    /// The CPU, even where there are CUDA devices.
    Cpu,
    /// CUDA devices; an error where there are none.
    Cuda,
}

/// The token that the coordinator requires.
#[derive(Clone, PartialEq, Eq)]
pub enum Token {
    /// The token itself.
    Text(String),
    /// A file that contains it; read again at every new connection, so that a coordinator that
    /// makes its token later, or a new one, is found.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Text(_) => f.write_str("Text(…)"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Told to go, at its walltime, or idle and cut off: nothing is lost.
    Clean,
    /// It never found a coordinator within [`Options::register_timeout`].
    NeverRegistered,
}

impl Exit {
    /// The process's exit code: 0 or 3.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Exit::Clean => 0,
            Exit::NeverRegistered => 3,
        }
    }
}
