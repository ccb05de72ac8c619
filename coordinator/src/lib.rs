//! The coordinator: one process that accepts sweeps, gives their trials to workers, and keeps
//! what became of them.
//!
//! ```text
//!   grpc (wire) ─► api (what can be asked) ─► runtime (one owner: scheduler, group commit)
//!                   │                            └─► store (every acknowledged fact)
//!                   └─► artifact (files by hash, trial logs)
//! ```
//!
//! [`serve`] starts it; the command line embeds it.

pub mod api;
pub mod artifact;
pub mod auth;
mod grpc;
mod limit;
pub mod runtime;
mod seldom;
mod server;
pub mod store;
pub mod upkeep;

pub use grpc::{DOMAIN, Reason};
pub use limit::Limits;
pub use runtime::Handle;
pub use server::{
    ADDRESS_FILE, AddressFile, DATABASE_FILE, Options, Running, ServeError, Storage, TOKEN_FILE,
    serve, serve_connections,
};

/// Version of deptune.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
