//! How running trials stand.

use deptune_sweep::metric::Number;
use deptune_sweep::scheduler::{Event, LeaseProgress, RunningTrial, SweepProgress, TrialProgress};

use super::error::InvalidField;
use super::field;
use super::worker::MAX_LEASES;
use crate::v1;

/// Most evaluations of one trial in one message.
pub(super) const MAX_EVALUATIONS: usize = 1024;

impl From<LeaseProgress> for v1::LeaseProgress {
    fn from(progress: LeaseProgress) -> Self {
        Self {
            lease: Some(progress.lease.into()),
            step: progress.step,
            loss: progress.loss.get(),
            steps_per_second: progress.steps_per_second,
        }
    }
}

impl TryFrom<v1::LeaseProgress> for LeaseProgress {
    type Error = InvalidField;

    fn try_from(wire: v1::LeaseProgress) -> Result<Self, InvalidField> {
        Ok(LeaseProgress {
            lease: field::nested(wire.lease, "lease")?,
            step: field::count(wire.step, "step")?,
            loss: Number::from(wire.loss),
            steps_per_second: field::amount(wire.steps_per_second, "steps_per_second")?,
        })
    }
}

impl From<TrialProgress> for v1::TrialProgress {
    fn from(progress: TrialProgress) -> Self {
        Self {
            lease: Some(progress.lease.into()),
            evaluations: progress.evaluations.into_iter().map(Into::into).collect(),
            checkpoint: progress.checkpoint.map(Into::into),
        }
    }
}

impl TryFrom<v1::TrialProgress> for TrialProgress {
    type Error = InvalidField;

    fn try_from(wire: v1::TrialProgress) -> Result<Self, InvalidField> {
        let checkpoint = wire.checkpoint.map(TryInto::try_into).transpose();
        Ok(TrialProgress {
            lease: field::nested(wire.lease, "lease")?,
            evaluations: field::list(wire.evaluations, "evaluations", MAX_EVALUATIONS)?,
            checkpoint: checkpoint.map_err(|e: InvalidField| e.within("checkpoint"))?,
        })
    }
}

impl TryFrom<v1::ReportProgressRequest> for Event {
    type Error = InvalidField;

    fn try_from(wire: v1::ReportProgressRequest) -> Result<Self, InvalidField> {
        Ok(Event::Progress {
            worker: field::worker_id(&wire.worker_id, "worker_id")?,
            trials: field::list(wire.trials, "trials", MAX_LEASES)?,
        })
    }
}

impl From<RunningTrial> for v1::RunningTrial {
    fn from(running: RunningTrial) -> Self {
        Self {
            trial: Some(running.trial.into()),
            epoch: running.epoch.0,
            worker: running.worker,
            step: running.step,
            steps: running.steps,
            loss: running.loss.unwrap_or(Number::NaN).get(),
            steps_per_second: running.steps_per_second,
        }
    }
}

impl From<SweepProgress> for v1::Progress {
    /// Everything but the counts, which come from the store.
    fn from(progress: SweepProgress) -> Self {
        Self {
            sweep: None,
            running: progress.running.into_iter().map(Into::into).collect(),
            steps_per_second: progress.steps_per_second,
            steps_done: progress.steps_done,
            steps_total: progress.steps_total,
        }
    }
}
