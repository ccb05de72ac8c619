//! How trials and attempts end.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text that names no value of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{text}'")]
pub struct Unknown {
    /// What was expected, e.g. `outcome`.
    pub what: &'static str,
    /// What was found.
    pub text: String,
}

macro_rules! names {
    ($type:ident, $what:literal, $($variant:ident => $name:literal),+ $(,)?) => {
        impl $type {
            /// Every value.
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            /// The name used in SQL, on the wire and by the command line.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $($type::$variant => $name),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = Unknown;

            fn from_str(text: &str) -> Result<Self, Unknown> {
                match text {
                    $($name => Ok($type::$variant),)+
                    _ => Err(Unknown { what: $what, text: text.chars().take(64).collect() }),
                }
            }
        }
    };
}

pub(crate) use names;

/// The one recorded end of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Trained and evaluated to its last step.
    Succeeded,
    /// Ended for a reason that is not retried, or retried too often.
    Failed,
    /// Cancelled by a person before it ended.
    Cancelled,
    /// Stopped by the search because it could not win.
    Pruned,
}

names!(Outcome, "outcome",
    Succeeded => "succeeded", Failed => "failed", Cancelled => "cancelled", Pruned => "pruned");

/// Why an attempt failed; decides whether the trial is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The worker was told to go and handed the trial back. Never counts.
    Preempted,
    /// The lease expired without a report. Counts only when it happens three times.
    WorkerLost,
    /// Out of memory, on the device or the host.
    Oom,
    /// The child died without saying why.
    Crashed,
    /// The child made no step for too long.
    Timeout,
    /// The loss or the gradients were no longer finite. Not retried.
    Diverged,
    /// A data or model file is missing, damaged or changed. Not retried.
    Data,
    /// The spec asks for something that cannot be done. Not retried.
    UserError,
    /// The node failed: disk, network, a missing program.
    Infra,
}

names!(FailureClass, "failure class",
    Preempted => "preempted", WorkerLost => "worker_lost", Oom => "oom", Crashed => "crashed",
    Timeout => "timeout", Diverged => "diverged", Data => "data", UserError => "user_error",
    Infra => "infra");

impl FailureClass {
    /// Whether another attempt could end differently.
    #[must_use]
    pub fn is_retried(self) -> bool {
        !matches!(self, FailureClass::Diverged | FailureClass::Data | FailureClass::UserError)
    }
}

/// The state of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweepStatus {
    /// Some trial has no outcome yet.
    Running,
    /// Nothing is leased until a person resumes it; what runs goes on to its end.
    Paused,
    /// Every trial has an outcome.
    Finished,
    /// Cancelled; every trial has an outcome.
    Cancelled,
}

names!(SweepStatus, "sweep status",
    Running => "running", Paused => "paused", Finished => "finished", Cancelled => "cancelled");

impl SweepStatus {
    /// Whether every trial has an outcome.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, SweepStatus::Finished | SweepStatus::Cancelled)
    }
}
