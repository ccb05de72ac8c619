//! What people do to sweeps.

use deptune_sweep::id::RequestId;
use deptune_sweep::record::Controls;
use deptune_sweep::scheduler::{Changes, Control};

use super::error::{InvalidField, Problem};
use super::field;
use crate::v1;

/// Most indexes of trials in one request.
const MAX_TRIALS: usize = 100_000;
/// Most seeds in one request.
const MAX_SEEDS: usize = 1_000;

/// Something that a person does to a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Idempotency key.
    pub request_id: RequestId,
    /// Which sweep, by id or name.
    pub sweep: String,
    /// What. None where nothing is to change.
    pub controls: Vec<Control>,
}

fn command(
    request_id: &str,
    sweep: String,
    controls: Vec<Control>,
) -> Result<Command, InvalidField> {
    Ok(Command {
        request_id: field::request_id(request_id, "request_id")?,
        sweep: field::name(sweep, "sweep")?,
        controls,
    })
}

impl TryFrom<v1::PauseSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::PauseSweepRequest) -> Result<Self, InvalidField> {
        command(&wire.request_id, wire.sweep, vec![Control::Pause])
    }
}

impl TryFrom<v1::ResumeSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::ResumeSweepRequest) -> Result<Self, InvalidField> {
        command(&wire.request_id, wire.sweep, vec![Control::Resume])
    }
}

impl TryFrom<v1::RetryTrialsRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::RetryTrialsRequest) -> Result<Self, InvalidField> {
        field::at_most(wire.trials.len(), "trials", MAX_TRIALS)?;
        command(&wire.request_id, wire.sweep, vec![Control::Retry(wire.trials)])
    }
}

impl TryFrom<v1::CancelTrialRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::CancelTrialRequest) -> Result<Self, InvalidField> {
        let trial: deptune_sweep::id::TrialId = field::nested(wire.trial, "trial")?;
        let control = Control::CancelTrial(trial.index);
        command(&wire.request_id, trial.sweep.to_string(), vec![control])
    }
}

impl TryFrom<v1::ChangeSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::ChangeSweepRequest) -> Result<Self, InvalidField> {
        field::at_most(wire.add_seeds.len(), "add_seeds", MAX_SEEDS)?;
        let changes = Changes {
            priority: wire.priority,
            weight: wire.weight,
            max_parallel: wire.max_parallel.map(|most| Some(most).filter(|most| *most > 0)),
            budget: wire.budget_gpu_hours.map(budget).transpose()?,
        };
        let mut controls = Vec::new();
        if changes != Changes::default() {
            controls.push(Control::Change(changes));
        }
        if !wire.add_seeds.is_empty() {
            controls.push(Control::AddSeeds(wire.add_seeds));
        }
        command(&wire.request_id, wire.sweep, controls)
    }
}

impl TryFrom<v1::DeleteSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::DeleteSweepRequest) -> Result<Self, InvalidField> {
        let controls = if wire.preview { Vec::new() } else { vec![Control::Delete] };
        command(&wire.request_id, wire.sweep, controls)
    }
}

/// Milliseconds as hours.
#[must_use]
pub fn hours(milliseconds: u64) -> f64 {
    milliseconds as f64 / 3_600_000.0
}

/// Hours as milliseconds; 0 is no bound.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within the range")]
fn budget(hours: f64) -> Result<Option<u64>, InvalidField> {
    let most = Controls::MAX_BUDGET as f64;
    let milliseconds = (hours * 3_600_000.0).round();
    if hours == 0.0 {
        Ok(None)
    } else if hours > 0.0 && milliseconds <= most {
        Ok(Some((milliseconds as u64).max(1)))
    } else {
        let expected = "hours from 0 to 1,000,000";
        let found = hours.to_string();
        Err(InvalidField::new("budget_gpu_hours", Problem::Unknown { found, expected }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change() -> v1::ChangeSweepRequest {
        v1::ChangeSweepRequest {
            request_id: "6f1c1f0a-6f0e-4c5e-9a51-0d8f3c0a7b11".to_owned(),
            sweep: "3".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn nought_takes_a_bound_away_and_absence_leaves_it() {
        let wire = v1::ChangeSweepRequest {
            max_parallel: Some(0),
            budget_gpu_hours: Some(1.5),
            ..change()
        };
        let changes = Changes {
            max_parallel: Some(None),
            budget: Some(Some(5_400_000)),
            ..Changes::default()
        };
        assert_eq!(Command::try_from(wire).unwrap().controls, [Control::Change(changes)]);
        assert!(Command::try_from(change()).unwrap().controls.is_empty());
    }

    #[test]
    fn a_budget_that_is_no_time_is_refused() {
        for hours in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            let wire = v1::ChangeSweepRequest { budget_gpu_hours: Some(hours), ..change() };
            assert_eq!(Command::try_from(wire).unwrap_err().field, "budget_gpu_hours");
        }
    }
}
