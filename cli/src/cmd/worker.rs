//! `deptune worker`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use deptune_worker::{DeviceChoice, Options, SlotOptions, Token};

use crate::args::Globals;
use crate::logging::{self, Talk};
use crate::output::error::{Error, Exit};
use crate::{duration, paths, stop, trainer};

/// Runs a worker on this node
///
/// It registers with the coordinator, trains trials on what the process was given (CPUs by its
/// affinity and cgroup, CUDA devices by CUDA_VISIBLE_DEVICES), and delivers the results however
/// often the connection breaks. SIGTERM, Ctrl-C or the end of the walltime make it checkpoint its
/// trials, hand them back and exit with 0. A worker that never finds its coordinator exits with 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  deptune worker --server head:7077 --token-file ~/deptune/token --model-root /data/models")]
pub(crate) struct Args {
    /// Name for people [default: the host's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A word by which a sweep may ask for this worker ([requires] labels); may be given several
    /// times
    #[arg(
        long = "label",
        env = "DEPTUNE_LABELS",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "LABEL"
    )]
    labels: Vec<String>,
    #[command(flatten)]
    slots: Slots,
    /// Directory under which models may be opened; may be given several times
    #[arg(long = "model-root", value_name = "DIR")]
    model_roots: Vec<PathBuf>,
    /// Where leases and undelivered results are kept [default: ~/.local/state/deptune/worker-NAME]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where data and models are kept by hash [default: ~/.cache/deptune]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// GB (10⁹ bytes) that they may take; what was used least recently goes [default: no bound]
    #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    max_cache_gb: Option<u64>,
    /// Directory that all workers of the pool see, for checkpoints above 16 MiB [default: they stay
    /// with this worker]
    #[arg(long, env = "DEPTUNE_ARTIFACT_DIR", hide_env_values = true, value_name = "DIR")]
    artifact_dir: Option<PathBuf>,
    /// The trainer program [default: deptune-trainer beside this program, or in PATH]
    #[arg(long, env = "DEPTUNE_TRAINER", hide_env_values = true, value_name = "PROGRAM")]
    trainer: Option<PathBuf>,
    /// Allows a plaintext connection to a coordinator that is not on this machine
    #[arg(long)]
    insecure: bool,
    /// How long to look for the coordinator at first
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    register_timeout: Duration,
    /// How long to stay without work and without the coordinator
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    idle_timeout: Duration,
    /// How long a trainer may go without a step before it is ended
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = duration::parse)]
    hang_timeout: Duration,
    /// How long to wait for checkpoints and reports when told to go
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    drain_timeout: Duration,
    /// How long this process may live [default: until SLURM_JOB_END_TIME, if set]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    walltime: Option<Duration>,
    /// How long before the end of the walltime to hand trials back
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration::parse)]
    walltime_margin: Duration,
}

/// What a worker computes with.
#[derive(Debug, clap::Args)]
pub(crate) struct Slots {
    /// Packs at the same time [default: one per CUDA device, else CPUs divided by --threads]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    slots: Option<u32>,
    /// Threads of each pack
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// Most trials that train together on a slot, 1 to 256; 1: each by itself [default: 8, on CUDA
    /// devices 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    max_pack: Option<u32>,
    /// What to compute on
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
}

/// Kinds of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Device {
    /// CUDA devices if there are any, else the CPU
    Auto,
    /// The CPU
    Cpu,
    /// CUDA devices
    Cuda,
}

impl Slots {
    /// For the agent.
    pub(super) fn options(&self) -> SlotOptions {
        let device = self.device.choice();
        SlotOptions { slots: self.slots, threads: self.threads, max_pack: self.max_pack, device }
    }
}

impl Device {
    /// As in `--device`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
        }
    }

    /// For the agent.
    pub(super) fn choice(self) -> DeviceChoice {
        match self {
            Device::Auto => DeviceChoice::Auto,
            Device::Cpu => DeviceChoice::Cpu,
            Device::Cuda => DeviceChoice::Cuda,
        }
    }
}

/// Works.
pub(super) async fn run(globals: &Globals, args: Args) -> Result<Exit, Error> {
    let target = paths::target(globals)?;
    let token_file = target.token_file.ok_or_else(|| Error::Usage {
        what: "no token file is known".to_owned(),
        hint: "name the file that the coordinator printed at its start with --token-file"
            .to_owned(),
    })?;
    let addresses = target.addresses.join(", ");
    let mut options = Options::new(target.addresses, Token::File(token_file));
    options.insecure = args.insecure;
    options.name = args.name;
    options.labels = args.labels;
    options.state_dir = args.state_dir;
    options.cache_dir = args.cache_dir;
    options.max_cache_bytes = args.max_cache_gb.map(|gb| gb * 1_000_000_000);
    options.artifact_dir = args.artifact_dir;
    options.model_roots = args.model_roots;
    options.hub = Some(hub()?);
    options.slots = args.slots.options();
    options.trainer = Some(trainer::find(args.trainer.as_deref())?);
    options.register_timeout = args.register_timeout;
    options.idle_timeout = args.idle_timeout;
    options.hang_timeout = args.hang_timeout;
    options.drain_timeout = args.drain_timeout;
    options.walltime = args.walltime;
    options.walltime_margin = args.walltime_margin;
    logging::start(Talk::Service, globals.verbose, globals.color.on_stderr(), None)?;
    let stop = stop::on_signal("stopping: trials are checkpointed and handed back")?;
    match deptune_worker::run(options, stop).await {
        Ok(deptune_worker::Exit::Clean) => Ok(Exit::Done),
        Ok(deptune_worker::Exit::NeverRegistered) => {
            Err(Error::NeverRegistered { addresses, seconds: args.register_timeout.as_secs() })
        }
        Err(source) => Err(failure(source)),
    }
}

/// The hub of the environment.
///
/// # Errors
/// When there is no place for its cache.
pub(super) fn hub() -> Result<deptune_hub::Settings, Error> {
    deptune_hub::Settings::from_env().map_err(|error| Error::Usage {
        what: error.to_string(),
        hint: "the cache is where models of the hub are kept".to_owned(),
    })
}

/// The agent's error as the command's.
pub(super) fn failure(error: deptune_worker::Error) -> Error {
    use deptune_worker::Error as E;
    let (exit, hint) = match &error {
        E::Options(_) => (Exit::Usage, None),
        E::StateDirBusy { .. } => {
            (Exit::Usage, Some("give this worker another --state-dir or --name".to_owned()))
        }
        E::Refused { .. } => {
            (Exit::Refused, Some("is the token file the coordinator's (--token-file)?".to_owned()))
        }
        _ => (Exit::Internal, None),
    };
    Error::Worker { exit, hint, source: Box::new(error) }
}
