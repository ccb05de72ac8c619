//! I3: a trial's epochs strictly increase with its leases, it has at most one live lease, and a
//! live lease names a registered worker.

use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct EpochsRise;

impl Invariant for EpochsRise {
    fn id(&self) -> &'static str {
        "I3"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::AttemptStarted(record), _) => {
                let (id, epoch, worker) = (record.id, record.epoch, record.worker);
                let Some(line) = ledger.trials.get(&id) else {
                    return Err(format!("an attempt of trial {id}, which has no row"));
                };
                if !ledger.workers.get(&worker).is_some_and(|(_, here)| *here) {
                    return Err(format!("trial {id} is leased to {worker}, who is not here"));
                }
                match line.holders.last_key_value() {
                    Some((&last, &held)) if last == epoch && held == worker => Ok(()),
                    Some((&last, &held)) if last >= epoch => Err(format!(
                        "trial {id} is leased to {worker} at epoch {epoch}, after {last} of {held}"
                    )),
                    _ => Ok(()),
                }
            }
            Seen::Write(Write::Trial(record), _) => {
                let Some(line) = ledger.trials.get(&record.id) else { return Ok(()) };
                let (id, before, after) = (record.id, line.record.epoch, record.epoch);
                if after < before {
                    return Err(format!("trial {id} falls from epoch {before} to {after}"));
                }
                let (old, new) = (line.record.phase.holder(), record.phase.holder());
                if let (Some(old), Some(new)) = (old, new)
                    && (old != new || after != before)
                {
                    return Err(format!("trial {id} is leased while it is leased"));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
