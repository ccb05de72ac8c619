//! The agent on a node: leases trials for its slots, runs a trainer child per pack, and delivers
//! results and checkpoints, whatever dies in between.
//!
//! [`run`] is the whole agent. What it decides is in the protocol, a pure state machine without
//! clock or IO; the runtime carries the decisions out over gRPC, timers and child processes.
//! Nothing here links libtorch: training happens in the child (`deptune_sweep::child`).

pub mod cache;
pub mod child;
#[cfg(test)]
mod fixture;
mod options;
pub mod outbox;
pub mod protocol;
mod runtime;
pub mod slot;

pub use options::{CPU_PACK, CUDA_PACK, DeviceChoice, Exit, Options, SlotOptions, Token};

use tokio_util::sync::CancellationToken;

/// Why an agent could not run at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other or the node.
    #[error("{0}")]
    Options(String),
    /// Another agent uses the state directory.
    #[error("the state directory {} is used by another worker{}", path.display(), holder.as_ref().map_or(String::new(), |h| format!(" ({h})")))]
    StateDirBusy {
        /// The directory.
        path: std::path::PathBuf,
        /// What the other worker wrote about itself.
        holder: Option<String>,
    },
    /// A file or directory of the agent could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The coordinator refused this worker for a reason that waiting does not change.
    #[error("the coordinator refused this worker: {reason}")]
    Refused {
        /// Its words.
        reason: String,
    },
}

/// Runs the agent until it has nothing left to do: `shutdown` was cancelled (SIGTERM, Ctrl-C) and
/// the children have stopped, the walltime is near, it never found a coordinator, or it was idle
/// and cut off for too long.
///
/// Cancelling `shutdown` drains: no more leases, the children checkpoint and stop, their trials go
/// back to the coordinator. It takes at most [`Options::drain_timeout`].
///
/// # Errors
/// When the options or the node do not allow an agent to start, or the coordinator refuses it.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<Exit, Error> {
    runtime::run(options, shutdown).await
}

/// The node's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "localhost".to_owned() } else { name.to_owned() }
}
