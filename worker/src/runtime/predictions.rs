//! Predictions of a trial, on their way to the coordinator.

use std::path::{Path, PathBuf};
use std::time::Duration;

use deptune_sweep::id::ArtifactHash;
use tokio::sync::watch;

use super::artifact;
use super::client::Client;
use crate::outbox;
use crate::protocol::{CallError, StopHow};

/// How long a coordinator that is away is waited for; then the trial ends without them.
const PATIENCE: Duration = Duration::from_secs(240);
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(2);

/// Sends a file and returns its hash; or why it could not be sent.
pub(super) async fn send(
    client: &Client,
    path: &Path,
    mut stop: watch::Receiver<Option<StopHow>>,
) -> Result<ArtifactHash, String> {
    let file: PathBuf = path.to_owned();
    let hash = tokio::task::spawn_blocking(move || outbox::hash_file(&file))
        .await
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let begun = tokio::time::Instant::now();
    loop {
        match artifact::put(client, path, &hash, "predictions").await {
            Ok(()) => return Ok(hash),
            Err(CallError::Unreachable(why)) if begun.elapsed() > PATIENCE => return Err(why),
            Err(CallError::Unreachable(_) | CallError::UnknownWorker) => {}
            Err(CallError::MissingFile) => return Err("the file is gone".to_owned()),
            Err(CallError::Denied(why) | CallError::Refused(why)) => return Err(why),
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(Option::is_some) => return Err("told to stop".to_owned()),
        }
    }
}
