//! What people do to sweeps.

use deptune_sweep::id::{ArtifactHash, RequestId, SweepId, TrialId};
use deptune_sweep::record::{Controls, SpaceText};
use deptune_sweep::scheduler::{Changes, Control};
use deptune_sweep::spec::MAX_SEED;
use prost::Message;

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
    /// Hash of the whole message: the same message is the same request.
    pub content: ArtifactHash,
    /// Which sweep.
    pub sweep: SweepRef,
    /// What.
    pub control: Control,
}

/// The sweep that a person means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SweepRef {
    /// By its number. Never a sweep of that name, so that nothing is done to another one when the
    /// sweep of that number is gone.
    Id(SweepId),
    /// By its name.
    Name(String),
}

/// `kind` tells messages of different services' methods with the same fields apart. Fields that a
/// later version adds are not in the bytes of messages that do not set them, so that a hash stays
/// what it was.
fn command(
    kind: &str,
    wire: &impl Message,
    request_id: &str,
    sweep: SweepRef,
    control: Control,
) -> Result<Command, InvalidField> {
    let mut bytes = kind.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend(wire.encode_to_vec());
    Ok(Command {
        request_id: field::request_id(request_id, "request_id")?,
        content: ArtifactHash::of(&bytes),
        sweep,
        control,
    })
}

fn sweep_ref(text: &str) -> Result<SweepRef, InvalidField> {
    let text = field::name(text.to_owned(), "sweep")?;
    Ok(text.parse().map_or(SweepRef::Name(text), SweepRef::Id))
}

impl TryFrom<v1::PauseSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::PauseSweepRequest) -> Result<Self, InvalidField> {
        command("pause", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, Control::Pause)
    }
}

impl TryFrom<v1::ResumeSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::ResumeSweepRequest) -> Result<Self, InvalidField> {
        command("resume", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, Control::Resume)
    }
}

impl TryFrom<v1::CancelSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::CancelSweepRequest) -> Result<Self, InvalidField> {
        command("cancel", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, Control::Cancel)
    }
}

impl TryFrom<v1::RetryTrialsRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::RetryTrialsRequest) -> Result<Self, InvalidField> {
        field::at_most(wire.trials.len(), "trials", MAX_TRIALS)?;
        let control = Control::Retry(wire.trials.clone());
        command("retry", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, control)
    }
}

impl TryFrom<v1::CancelTrialRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::CancelTrialRequest) -> Result<Self, InvalidField> {
        let trial: TrialId = field::nested(wire.trial, "trial")?;
        let sweep = SweepRef::Id(trial.sweep);
        let control = Control::CancelTrial(trial.index);
        command("cancel trial", &wire, &wire.request_id, sweep, control)
    }
}

impl TryFrom<v1::ChangeSweepRequest> for Command {
    type Error = InvalidField;

    fn try_from(wire: v1::ChangeSweepRequest) -> Result<Self, InvalidField> {
        field::at_most(wire.add_seeds.len(), "add_seeds", MAX_SEEDS)?;
        for (at, &seed) in wire.add_seeds.iter().enumerate() {
            if seed > MAX_SEED {
                let (found, expected) = (seed.to_string(), "0 to 9223372036854775807");
                let problem = Problem::OutOfRange { found, expected };
                return Err(InvalidField::new(format!("add_seeds[{at}]"), problem));
            }
        }
        let changes = Changes {
            priority: wire.priority,
            weight: wire.weight,
            max_parallel: wire.max_parallel.map(max_parallel).transpose()?,
            budget: wire.budget_gpu_hours.map(budget).transpose()?,
            add_seeds: wire.add_seeds.clone(),
            add_space: match wire.add_space.clone() {
                Some(space) => {
                    let space = SpaceText::try_from(space);
                    Some(space.map_err(|error| error.within("add_space"))?)
                }
                None => None,
            },
        };
        let control = Control::Change(changes);
        command("change", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, control)
    }
}

impl TryFrom<v1::DeleteSweepRequest> for Command {
    type Error = InvalidField;

    /// What is answered is filled in once it is known.
    fn try_from(wire: v1::DeleteSweepRequest) -> Result<Self, InvalidField> {
        let control = Control::Delete { answer: String::new() };
        command("delete", &wire, &wire.request_id, sweep_ref(&wire.sweep)?, control)
    }
}

impl From<SpaceText> for v1::AddedSpace {
    fn from(space: SpaceText) -> Self {
        v1::AddedSpace { text: space.text, format: space.format.as_str().to_owned() }
    }
}

impl TryFrom<v1::AddedSpace> for SpaceText {
    type Error = InvalidField;

    fn try_from(wire: v1::AddedSpace) -> Result<Self, InvalidField> {
        let format = wire.format.parse();
        let unknown = |_| field::unknown(&wire.format, "format", "toml or json");
        Ok(SpaceText { format: format.map_err(unknown)?, text: wire.text })
    }
}

/// 0 is no bound.
fn max_parallel(most: u32) -> Result<Option<u32>, InvalidField> {
    if most > Controls::MAX_PARALLEL {
        let (found, expected) = (most.to_string(), "0 to 1,000,000");
        return Err(InvalidField::new("max_parallel", Problem::OutOfRange { found, expected }));
    }
    Ok(Some(most).filter(|most| *most > 0))
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
        assert_eq!(Command::try_from(wire).unwrap().control, Control::Change(changes));
        let nothing = Control::Change(Changes::default());
        assert_eq!(Command::try_from(change()).unwrap().control, nothing);
    }

    #[test]
    fn digits_are_a_number_and_nothing_else() {
        let sweep = |text: &str| {
            let wire = v1::ChangeSweepRequest { sweep: text.to_owned(), ..change() };
            Command::try_from(wire).unwrap().sweep
        };
        assert_eq!(sweep("3"), SweepRef::Id(SweepId(3)));
        assert_eq!(sweep("+3"), SweepRef::Name("+3".to_owned()));
        assert_eq!(sweep("rte"), SweepRef::Name("rte".to_owned()));
    }

    #[test]
    fn the_same_message_has_the_same_content_and_another_one_another() {
        let content = |wire| Command::try_from(wire).unwrap().content;
        assert_eq!(content(change()), content(change()));
        let other = v1::ChangeSweepRequest { weight: Some(1), ..change() };
        assert_ne!(content(other), content(change()));
        let (request_id, sweep) = (change().request_id, change().sweep);
        let pause = v1::PauseSweepRequest { request_id: request_id.clone(), sweep: sweep.clone() };
        let resume = v1::ResumeSweepRequest { request_id, sweep };
        let contents =
            (Command::try_from(pause).unwrap().content, Command::try_from(resume).unwrap().content);
        assert_ne!(contents.0, contents.1);
        // Stored by earlier versions.
        let known = "350e02c9f14c5eb46b14ac835e4715f80e45f5c82e89ee4af3bb68b60fde5d51";
        assert_eq!(content(change()).as_str(), known);
    }

    #[test]
    fn a_budget_that_is_no_time_is_refused() {
        for hours in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            let wire = v1::ChangeSweepRequest { budget_gpu_hours: Some(hours), ..change() };
            assert_eq!(Command::try_from(wire).unwrap_err().field, "budget_gpu_hours");
        }
    }
}
