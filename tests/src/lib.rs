//! What the cross-process tests share: the real programs started, watched and killed, in
//! directories of their own, and the database read from outside.
//!
//! Everything has a deadline, and nothing sleeps for a fixed time in the hope that it was enough.
//! A program that panicked fails the test that started it, whatever else it did.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "this is test code: what goes wrong here ends the test that asked for it"
)]

mod database;
mod finished;
mod hub_server;
mod oracle;
mod postgres;
mod process;
mod program;
mod project;
mod proxy;
pub mod sim;
mod store;
mod twice;
mod wait;
mod world;

pub use database::Database;
pub use finished::Finished;
pub use hub_server::{Access, HubServer, Seen};
pub use oracle::expected_metrics;
pub use postgres::{PASSWORD, Postgres, PostgresDatabase};
pub use process::Process;
pub use program::{fake_trainer, program, trainer};
pub use project::{Project, copy_dir, quickstart};
pub use proxy::{Proxy, Weather};
pub use store::{Store, assert_whole};
pub use twice::Twice;
pub use wait::{PATIENCE, until};
pub use world::{Coordinator, World};
