//! I2: an outcome is the word of the holder of the epoch that was the trial's when it was
//! recorded. The simulated children write their attempt's epoch into what they report.

use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct EpochOfOutcome;

impl Invariant for EpochOfOutcome {
    fn id(&self) -> &'static str {
        "I2"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::Outcome(record), _) => {
                let Some(line) = ledger.trials.get(&record.id) else {
                    return Err(format!("an outcome of trial {}, which has no row", record.id));
                };
                let (id, epoch) = (record.id, record.epoch);
                if epoch != line.record.epoch {
                    return Err(format!("trial {id} ends at epoch {epoch}, it is another's"));
                }
                if let Some(worker) = record.worker
                    && line.holders.get(&epoch) != Some(&worker)
                {
                    return Err(format!("trial {id} ends by {worker}, who never held {epoch}"));
                }
                let made = record.result.as_ref().map(|result| result.train_seconds);
                if made.is_some_and(|made| made != f64::from(epoch.0)) {
                    return Err(format!(
                        "trial {id} at epoch {epoch} has attempt {made:?}'s result"
                    ));
                }
                Ok(())
            }
            Seen::Write(Write::Evaluation { lease, evaluation, .. }, _)
                if evaluation.seconds != f64::from(lease.epoch.0) =>
            {
                let made = evaluation.seconds;
                Err(format!("trial {} records attempt {made}'s evaluation", lease.trial))
            }
            _ => Ok(()),
        }
    }
}
