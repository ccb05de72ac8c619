//! Models of the hub on this node.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deptune_hub::{Error as HubError, Watch};
use deptune_proto::convert::Assignment;
use deptune_sweep::hub::HubModel;
use deptune_sweep::outcome::FailureClass;

use super::{Cache, Error, io_error};

/// Time between two lines about a download.
const SAY_EVERY: Duration = Duration::from_secs(10);

impl Cache {
    /// A model of the hub: under a model root as `ORG/NAME`, else in the hub's cache, else from
    /// the hub. A download stops when the caller does; the next one goes on from there.
    pub(super) async fn from_hub(
        &self,
        lease: &Assignment,
        model: &HubModel,
    ) -> Result<PathBuf, Error> {
        let missing = match self.find(&model.repo, None) {
            Ok(dir) => match self.check(&dir, &lease.model_files).await {
                Ok(()) => return Ok(dir),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let Some(hub) = self.hub.clone() else { return Err(missing) };
        if let Error::ModelChanged { path, .. } = &missing {
            tracing::warn!(
                path = %path.display(),
                "this is another version of the model than the submitted one; the hub's is used"
            );
        }
        let stop = Stop(Arc::default());
        let news = News { stop: Arc::clone(&stop.0), said: Mutex::new(None) };
        let model = model.clone();
        let found = tokio::task::spawn_blocking(move || hub.model(&model, &news)).await;
        drop(stop);
        let lost = |error| io_error("fetch a model into", &self.dir)(std::io::Error::other(error));
        Ok(found.map_err(lost)??)
    }
}

/// What an error of the hub means for a trial.
pub(super) fn class(error: &HubError) -> FailureClass {
    match error {
        HubError::UnknownRepo { .. }
        | HubError::Gated { .. }
        | HubError::Refused { .. }
        | HubError::UnknownRevision { .. }
        | HubError::NoFile { .. }
        | HubError::OnlyPickle { .. }
        | HubError::NotCached { .. } => FailureClass::UserError,
        _ => FailureClass::Infra,
    }
}

/// Stops the download when its caller is dropped.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lines in the worker's log.
struct News {
    stop: Arc<AtomicBool>,
    /// The file that was last spoken of, and when.
    said: Mutex<Option<(String, Instant)>>,
}

impl Watch for News {
    fn progress(&self, file: &str, done: u64, total: u64) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let recent =
            said.as_ref().is_some_and(|(known, at)| known == file && at.elapsed() < SAY_EVERY);
        if !recent || done == total {
            tracing::info!(file, done, total, "fetching from the hub");
            *said = Some((file.to_owned(), Instant::now()));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
