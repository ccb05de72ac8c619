//! Files by hash on this node: data and uploaded models, fetched once for all slots; and models
//! that are found under a root.

mod bound;
mod hub;
mod model;
mod verified;

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use deptune_hub::Hub;
use deptune_sweep::id::ArtifactHash;
use deptune_sweep::outcome::FailureClass;
use tokio::sync::Mutex as AsyncMutex;

use bound::Bound;
use verified::Verified;

/// Where files come from.
pub trait Source: Send + Sync {
    /// Writes the content with that hash to a file that exists and is empty.
    fn fetch(
        &self,
        hash: &ArtifactHash,
        to: &Path,
    ) -> impl Future<Output = Result<(), FetchError>> + Send;
}

/// Why a file was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The source cannot be reached now.
    #[error("the coordinator cannot send the file now: {0}")]
    Unavailable(String),
    /// The source does not have it.
    #[error("the coordinator does not have the file {0}")]
    Missing(ArtifactHash),
    /// The disk refused.
    #[error("cannot write {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Why a trial's files are not here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file was not fetched.
    #[error("cannot fetch '{name}'")]
    Fetch {
        /// The file's name.
        name: String,
        /// Why not.
        #[source]
        source: FetchError,
    },
    /// What was fetched has another hash.
    #[error("'{name}' arrived damaged: its content has another hash")]
    Damaged {
        /// The file's name.
        name: String,
    },
    /// The cache cannot be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No root has the model.
    #[error(
        "this worker does not find the model '{path}' under {roots}; submit with --upload-model, \
         or start the worker with --model-root and the directory that holds it"
    )]
    NoModel {
        /// The path in the spec.
        path: String,
        /// The roots, for people.
        roots: String,
    },
    /// A file of the model leads out of the roots.
    #[error("the model's file {} leads outside of the model roots", .0.display())]
    Escapes(PathBuf),
    /// A file of the model is not there.
    #[error("the model's directory {} has no {name}", dir.display())]
    NoModelFile {
        /// The directory.
        dir: PathBuf,
        /// The file.
        name: String,
    },
    /// A file of the model is not what was submitted.
    #[error(
        "model file {name} changed after submit: {} has another hash; submit the sweep again, or \
         put the submitted file back",
        path.display()
    )]
    ModelChanged {
        /// The file.
        name: String,
        /// Where it is.
        path: PathBuf,
    },
    /// The hub's model is not here.
    #[error(transparent)]
    Hub(#[from] deptune_hub::Error),
    /// A lease names a file that cannot be one of a model.
    #[error("'{0}' is no name of a model's file")]
    ModelFileName(String),
}

impl Error {
    /// Whether waiting may help.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Error::Fetch { source: FetchError::Unavailable(_), .. } | Error::Damaged { .. }
        )
    }

    /// What it means for the trial.
    #[must_use]
    pub fn class(&self) -> FailureClass {
        match self {
            Error::Fetch { source: FetchError::Missing(_), .. }
            | Error::Escapes(_)
            | Error::NoModelFile { .. }
            | Error::ModelChanged { .. }
            | Error::ModelFileName(_) => FailureClass::Data,
            Error::NoModel { .. } => FailureClass::UserError,
            Error::Hub(error) => hub::class(error),
            Error::Fetch { .. } | Error::Damaged { .. } | Error::Io { .. } => FailureClass::Infra,
        }
    }
}

/// The cache. Several agents of a node may share its directory: names are hashes, and files
/// appear in it whole.
#[derive(Debug)]
pub struct Cache {
    dir: PathBuf,
    roots: Vec<PathBuf>,
    hub: Option<Arc<Hub>>,
    verified: Verified,
    bound: Bound,
    /// One fetch of a file at a time.
    busy: Mutex<BTreeMap<ArtifactHash, Arc<AsyncMutex<()>>>>,
}

impl Cache {
    /// A cache in `dir`, made if it is not there, and models under `roots` and from the hub. `most`
    /// bounds the bytes of its files.
    ///
    /// # Errors
    /// When the directory cannot be made, a root cannot be opened, or the hub has no address.
    pub fn open(
        dir: &Path,
        roots: &[PathBuf],
        hub: Option<deptune_hub::Settings>,
        most: Option<u64>,
    ) -> Result<Cache, crate::Error> {
        let fail = |what, path: &Path| {
            let path = path.to_owned();
            move |source| crate::Error::Io { what, path, source }
        };
        for part in ["blobs", "models"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).map_err(fail("create the directory", &part))?;
        }
        let real = |root: &PathBuf| root.canonicalize().map_err(fail("open the model root", root));
        let roots = roots.iter().map(real).collect::<Result<_, _>>()?;
        let hub = hub.map(Hub::new).transpose();
        let hub = hub.map_err(|error| crate::Error::Options(error.to_string()))?.map(Arc::new);
        let (verified, bound) = (Verified::default(), Bound::new(dir, most));
        let busy = Mutex::new(BTreeMap::new());
        Ok(Cache { dir: dir.to_owned(), roots, hub, verified, bound, busy })
    }

    /// The file with that hash, fetched if it is not here. `name` is for messages.
    ///
    /// # Errors
    /// When it cannot be fetched or kept.
    pub async fn blob(
        &self,
        source: &impl Source,
        name: &str,
        hash: &ArtifactHash,
    ) -> Result<PathBuf, Error> {
        let turn = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(busy.entry(hash.clone()).or_default())
        };
        let _turn = turn.lock().await;
        let path = self.dir.join("blobs").join(hash.as_str());
        // Before it is looked for, so that no agent removes it once it was found.
        self.bound.mark(hash);
        if self.is(&path, hash).await {
            return Ok(path);
        }
        let dir = self.dir.join("blobs");
        let temporary = tempfile::Builder::new().prefix(".fetch-").tempfile_in(&dir);
        let temporary = temporary.map_err(io_error("write into", &dir))?;
        let fetched = source.fetch(hash, temporary.path()).await;
        fetched.map_err(|source| Error::Fetch { name: name.to_owned(), source })?;
        if !self.is(temporary.path(), hash).await {
            return Err(Error::Damaged { name: name.to_owned() });
        }
        temporary.as_file().sync_all().map_err(io_error("write into", &dir))?;
        let persisted = temporary.persist(&path).map_err(|e| e.error);
        persisted.map_err(io_error("create", &path))?;
        if let Err(error) = self.bound.tidy(SystemTime::now()) {
            tracing::warn!(%error, dir = %dir.display(), "the cache cannot be kept within its bound");
        }
        Ok(path)
    }

    /// Whether the file is there and has that content.
    async fn is(&self, path: &Path, hash: &ArtifactHash) -> bool {
        self.verified.hash(path).await.ok().as_ref() == Some(hash)
    }
}

fn io_error<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + 'a {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
