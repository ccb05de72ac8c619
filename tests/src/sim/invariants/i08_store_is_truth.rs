//! I8: the store holds what the worker reported, byte for byte, and after every commit the
//! scheduler's memory of each trial is what the store holds.

use deptune_sweep::id::TrialId;
use deptune_sweep::record::{Phase, TrialRecord};
use deptune_sweep::scheduler::{Scheduler, Write};

use super::{Invariant, Ledger, Seen};
use crate::sim::child::result;

#[derive(Debug, Default)]
pub(super) struct StoreIsTruth;

impl Invariant for StoreIsTruth {
    fn id(&self) -> &'static str {
        "I8"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::Outcome(record), _) => {
                let made = result(record.id, record.epoch.0);
                if record.result.as_ref().is_some_and(|stored| *stored != made) {
                    return Err(format!("trial {} is stored with another result", record.id));
                }
                Ok(())
            }
            Seen::Committed(commit) => {
                for &id in &ledger.touched {
                    if let Some(line) = ledger.trials.get(&id) {
                        same(commit.scheduler, &line.record)?;
                    }
                }
                ledger.check_memories(commit.scheduler)
            }
            Seen::Scan(scan) => {
                // Both by id; that they are equally many is another invariant's.
                let mut pairs = scan.trials.iter().zip(ledger.trials.values());
                match pairs.find(|(record, line)| line.record != ***record) {
                    Some((record, _)) => {
                        Err(format!("the store holds another trial {}", record.id))
                    }
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Whether the scheduler believes of a trial what its row says.
pub(super) fn same(scheduler: &Scheduler, record: &TrialRecord) -> Result<(), String> {
    let id: TrialId = record.id;
    let Some(standing) = scheduler.standing(id) else {
        return Err(format!("the scheduler does not know trial {id}"));
    };
    let ended = matches!(record.phase, Phase::Ended { .. });
    let equal = standing.epoch == record.epoch
        && standing.phase == record.phase
        && (ended
            || (standing.failures == record.failures
                && standing.losses == record.losses
                && standing.alone == record.alone
                && standing.pack_members == record.pack_members
                && standing.checkpoint == record.checkpoint));
    if equal {
        Ok(())
    } else {
        Err(format!("the scheduler believes {standing:?} of trial {id}, the row is {record:?}"))
    }
}
