//! Why a request was not answered.

use deptune_proto::convert::InvalidField;
use deptune_sweep::id::{ArtifactHash, TrialId};
use deptune_sweep::model::ModelError;
use deptune_sweep::spec::Diagnostics;

use crate::artifact;
use crate::runtime;
use crate::store::{QueryError, ReadError};

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the message cannot be read.
    #[error("the request is not valid")]
    Field(#[source] InvalidField),
    /// The spec is not valid.
    #[error("the spec is not valid")]
    Spec(#[source] Diagnostics),
    /// The model's configuration is not valid.
    #[error("the model's config.json is not valid")]
    ModelConfig(#[source] ModelError),
    /// The spec names a data file that the submission does not list.
    #[error(
        "the spec's {split} file '{name}' is not listed in the submission; list every data file \
         of the spec with its hash"
    )]
    DataNotListed {
        /// The split.
        split: &'static str,
        /// The name in the spec.
        name: String,
    },
    /// Files that should have been uploaded before are not here.
    #[error("{} of the named files are not here; upload them first", .0.len())]
    Missing(Vec<MissingFile>),
    /// No such sweep.
    #[error("there is no sweep '{0}'; the list of sweeps names them all")]
    UnknownSweep(String),
    /// No such trial.
    #[error("there is no trial {0}")]
    UnknownTrial(TrialId),
    /// No such attempt.
    #[error("trial {trial} has no attempt {epoch}")]
    UnknownAttempt {
        /// The trial.
        trial: TrialId,
        /// The epoch.
        epoch: u32,
    },
    /// A page token that this list did not give out.
    #[error("the page token was not given out by this list; start without one")]
    PageToken,
    /// The owner did not carry it out.
    #[error(transparent)]
    Runtime(#[from] runtime::Error),
    /// An answer cannot be written down, so that it could not be given again.
    #[error("the answer cannot be written down")]
    Unwritable(#[source] serde_json::Error),
    /// A person's SQL was not answered.
    #[error("the SQL statement was not run")]
    Query(#[source] QueryError),
    /// The answers to other queries are still made or read.
    #[error("other queries are still being answered or read; try again in a moment")]
    TooManyQueries,
    /// The store could not be read.
    #[error("the store could not be read")]
    Read(#[from] ReadError),
    /// An artifact or a log.
    #[error(transparent)]
    Artifact(#[from] artifact::Error),
}

/// A file that should have been uploaded before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingFile {
    /// Its name in the spec, or what it is.
    pub name: String,
    /// Its hash.
    pub hash: ArtifactHash,
}

impl From<InvalidField> for Error {
    fn from(field: InvalidField) -> Error {
        Error::Field(field)
    }
}
