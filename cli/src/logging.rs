//! What the programs say about their work, for people who look for a problem.

use std::path::Path;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::output::error::Error;

/// Overrides what is logged, in the syntax of `tracing_subscriber::EnvFilter`.
const VARIABLE: &str = "DEPTUNE_LOG";

/// How much is logged where nothing else is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Talk {
    /// Short commands: problems only.
    Client,
    /// Programs that stay: what happens.
    Service,
}

/// Starts logging, to `file` if given (appended), else to standard error. A second call changes
/// nothing.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn start(
    talk: Talk,
    verbose: u8,
    color: bool,
    file: Option<&Path>,
) -> Result<(), Error> {
    let level = match (talk, verbose) {
        (Talk::Client, 0) => "warn",
        (Talk::Service, 0) => {
            "warn,deptune=info,deptune_coordinator=info,deptune_hub=info,deptune_worker=info"
        }
        (_, 1) => {
            "info,deptune=debug,deptune_coordinator=debug,deptune_hub=debug,deptune_worker=debug"
        }
        // Addresses of the hub's contents are signed; whoever reads one in a log may use it.
        _ => "debug,ureq=info,ureq_proto=info",
    };
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(level));
    let writer = match file {
        None => BoxMakeWriter::new(std::io::stderr),
        Some(path) => {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| Error::Write { path: path.to_owned(), source })?;
            BoxMakeWriter::new(std::sync::Mutex::new(file))
        }
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(color && file.is_none())
        .with_target(false)
        .try_init();
    Ok(())
}
