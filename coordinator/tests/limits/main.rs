//! Each limit is exceeded by one client while another one's calls go through.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "../common/mod.rs"]
mod common;

mod bystander;
mod connections;
mod content;
mod requests;
mod wire;
