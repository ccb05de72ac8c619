//! Enumerations.

use deptune_sweep::outcome::{FailureClass, Outcome, SweepStatus};
use deptune_sweep::scheduler::Ack;

use super::error::{InvalidField, Problem};
use crate::v1;

impl From<FailureClass> for v1::FailureClass {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Preempted => Self::Preempted,
            FailureClass::WorkerLost => Self::WorkerLost,
            FailureClass::Oom => Self::Oom,
            FailureClass::Crashed => Self::Crashed,
            FailureClass::Timeout => Self::Timeout,
            FailureClass::Diverged => Self::Diverged,
            FailureClass::Data => Self::Data,
            FailureClass::UserError => Self::UserError,
            FailureClass::Infra => Self::Infra,
        }
    }
}

impl From<Outcome> for v1::Outcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Succeeded,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Pruned => Self::Pruned,
        }
    }
}

impl From<SweepStatus> for v1::SweepStatus {
    fn from(status: SweepStatus) -> Self {
        match status {
            SweepStatus::Running => Self::Running,
            SweepStatus::Paused => Self::Paused,
            SweepStatus::Finished => Self::Finished,
            SweepStatus::Cancelled => Self::Cancelled,
        }
    }
}

impl v1::FailureClass {
    /// The class; `None` when it is not given.
    #[must_use]
    pub fn class(self) -> Option<FailureClass> {
        Some(match self {
            Self::Unspecified => return None,
            Self::Preempted => FailureClass::Preempted,
            Self::WorkerLost => FailureClass::WorkerLost,
            Self::Oom => FailureClass::Oom,
            Self::Crashed => FailureClass::Crashed,
            Self::Timeout => FailureClass::Timeout,
            Self::Diverged => FailureClass::Diverged,
            Self::Data => FailureClass::Data,
            Self::UserError => FailureClass::UserError,
            Self::Infra => FailureClass::Infra,
        })
    }
}

impl v1::Outcome {
    /// The outcome; `None` when there is none yet.
    #[must_use]
    pub fn outcome(self) -> Option<Outcome> {
        Some(match self {
            Self::Unspecified => return None,
            Self::Succeeded => Outcome::Succeeded,
            Self::Failed => Outcome::Failed,
            Self::Cancelled => Outcome::Cancelled,
            Self::Pruned => Outcome::Pruned,
        })
    }
}

impl v1::SweepStatus {
    /// The status; `None` when it is not given.
    #[must_use]
    pub fn status(self) -> Option<SweepStatus> {
        Some(match self {
            Self::Unspecified => return None,
            Self::Running => SweepStatus::Running,
            Self::Paused => SweepStatus::Paused,
            Self::Finished => SweepStatus::Finished,
            Self::Cancelled => SweepStatus::Cancelled,
        })
    }
}

/// The number of a class on the wire; 0 for none.
pub(super) fn class_number(class: Option<FailureClass>) -> i32 {
    class.map_or(0, |c| v1::FailureClass::from(c) as i32)
}

/// A failure class that must be given.
pub(super) fn required_class(number: i32, field: &str) -> Result<FailureClass, InvalidField> {
    let class = v1::FailureClass::try_from(number).ok().and_then(v1::FailureClass::class);
    class.ok_or_else(|| {
        let expected = "one of FailureClass, not FAILURE_CLASS_UNSPECIFIED";
        InvalidField::new(field, Problem::Unknown { found: number.to_string(), expected })
    })
}

impl From<Ack> for v1::ReportAck {
    fn from(ack: Ack) -> Self {
        use v1::report_ack::Verdict;
        let (verdict, reason) = match ack {
            Ack::Accepted => (Verdict::Accepted, String::new()),
            Ack::Stale { current, reason } => {
                let reason = format!("{reason}: the trial's epoch is {current} now");
                (Verdict::Stale, reason)
            }
            Ack::Rejected { reason } => (Verdict::Rejected, reason),
        };
        Self { verdict: verdict as i32, reason }
    }
}
