//! What an artifact is for; decides how large it may be.

use std::fmt;

use deptune_sweep::record::LARGEST_STATE;

/// What an artifact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A task's data file.
    Data,
    /// A file of a model.
    Model,
    /// The state of a running trial.
    Checkpoint,
    /// What a finished trial has learnt.
    Adapter,
    /// What a finished trial answers to the rows of a split.
    Predictions,
}

impl Kind {
    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Kind> {
        [Kind::Data, Kind::Model, Kind::Checkpoint, Kind::Adapter, Kind::Predictions]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Data => "data",
            Kind::Model => "model",
            Kind::Checkpoint => "checkpoint",
            Kind::Adapter => "adapter",
            Kind::Predictions => "predictions",
        }
    }

    /// Most bytes of one file.
    #[must_use]
    pub fn limit(self) -> u64 {
        match self {
            Kind::Data => 2 << 30,
            Kind::Model => 64 << 30,
            Kind::Checkpoint => LARGEST_STATE,
            // All weights of a model, after full fine-tuning.
            Kind::Adapter => 64 << 30,
            Kind::Predictions => 1 << 30,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
