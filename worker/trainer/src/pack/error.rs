//! What can go wrong with a pack.

use tch::TchError;

use crate::batch::BatchError;
use crate::weights::WeightsError;

/// Why a pack cannot be made or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pack has no members.
    #[error("a pack needs at least one trial")]
    NoMembers,
    /// A member's or the pack's setting is out of range.
    #[error("{field} = {value} is out of range (expected {expected})")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// The accepted range.
        expected: &'static str,
    },
    /// Prompt, text and answer do not fit the model's positions.
    #[error(
        "prompt_length {prompt_length} and max_length {max_length} leave no room for an answer: \
         the model has {available} positions; lower one of them"
    )]
    Positions {
        /// m, the longest of the pack.
        prompt_length: usize,
        /// s
        max_length: usize,
        /// What the model has.
        available: usize,
    },
    /// A batch that the model cannot take.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// All updates of the schedule have been made.
    #[error("the run has ended: all {steps} steps are done")]
    Finished {
        /// Updates of the whole run.
        steps: u64,
    },
    /// There is no such trial in the pack.
    #[error("the pack has {members} trials, there is no number {trial}")]
    NoTrial {
        /// The number asked for, from 0.
        trial: usize,
        /// K
        members: usize,
    },
    /// A tensor does not fit the trial that it was given to.
    #[error("trial {trial} of the pack takes {name} as {expected:?}, not as {found:?}")]
    Parameter {
        /// Number of the trial, from 0.
        trial: usize,
        /// Name of the tensor.
        name: String,
        /// The shape given.
        found: Vec<i64>,
        /// The shape that fits.
        expected: Vec<i64>,
    },
    /// A tensor that a trial needs was not given.
    #[error("trial {trial} of the pack needs a tensor {name} of shape {expected:?}")]
    MissingParameter {
        /// Number of the trial, from 0.
        trial: usize,
        /// Name of the tensor.
        name: String,
        /// The shape that fits.
        expected: Vec<i64>,
    },
    /// A tensor that a trial has no place for.
    #[error("trial {trial} of the pack has no tensor {name}; is the adapter of another method?")]
    UnknownParameter {
        /// Number of the trial, from 0.
        trial: usize,
        /// Name of the tensor.
        name: String,
    },
    /// The model cannot be built from the weights that are trained.
    #[error("cannot build the model from its trained weights")]
    Rebuild(#[source] WeightsError),
    /// Full fine-tuning was asked of a pack on a frozen model.
    #[error("full fine-tuning trains weights of its own; make the pack with Pack::fine_tuning")]
    Frozen,
    /// The states of a pack were saved at different steps.
    #[error("the trials of a pack resume at one step, not at {steps:?}")]
    StateSteps {
        /// Steps of the given states.
        steps: Vec<u64>,
    },
    /// libtorch failed, most often for want of memory.
    #[error("cannot {doing}")]
    Tensor {
        /// What was being done.
        doing: &'static str,
        /// What libtorch said.
        #[source]
        source: TchError,
    },
}

/// Says what was being done when libtorch failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, TchError> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Tensor { doing, source })
    }
}
