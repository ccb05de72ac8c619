//! The coordinator within this process.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::output::error::{Error, Exit};

/// A running coordinator.
pub(crate) struct Coordinator {
    /// `host:port`.
    pub(crate) address: String,
    /// Where its token is.
    pub(crate) token_file: PathBuf,
    /// Where its results are.
    pub(crate) database: PathBuf,
}

impl Coordinator {
    pub(crate) async fn start(dir: PathBuf, listen: &str, insecure: bool) -> Result<Coordinator, Error> {
        Err(Error::Coordinator { exit: Exit::Internal, hint: None, source: format!("{dir:?} {listen} {insecure}").into() })
    }
    pub(crate) async fn until(self, stop: CancellationToken) -> Result<(), Error> {
        stop.cancelled().await;
        self.stop().await
    }
    pub(crate) async fn stop(self) -> Result<(), Error> { Ok(()) }
}
