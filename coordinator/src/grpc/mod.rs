//! The `deptune.v1` services. A handler has four lines of thought: the gate has authenticated,
//! convert, ask the [`Api`](crate::api::Api), map. No SQL, no decision about a trial.

mod admin;
mod answer;
mod artifact;
mod gate;
mod paced;
mod row;
mod status;
mod sweep;
mod worker;

pub use status::{DOMAIN, Reason};

pub(crate) use admin::Admin;
pub(crate) use artifact::Artifacts;
pub(crate) use gate::GateLayer;
pub(crate) use sweep::Sweeps;
pub(crate) use worker::Workers;

/// Largest message that is accepted, in bytes.
pub(crate) const MAX_MESSAGE: usize = 4 << 20;
/// Largest message that is sent, in bytes: what our own clients accept.
pub(crate) const MAX_ANSWER: usize = 64 << 20;
