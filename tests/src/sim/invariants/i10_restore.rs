//! I10: a restored scheduler believes what was committed, nothing more and nothing less, agrees
//! with itself, and gives every stored lease a whole lifetime.

use deptune_sweep::record::Phase;
use deptune_sweep::scheduler::Config;

use super::i08_store_is_truth::same;
use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct Restore;

impl Invariant for Restore {
    fn id(&self) -> &'static str {
        "I10"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        let Seen::Restored(scheduler, now) = seen else { return Ok(()) };
        scheduler.audit(*now).map_err(|error| error.to_string())?;
        let mut active = 0;
        for line in ledger.trials.values() {
            same(scheduler, &line.record)?;
            active += usize::from(!matches!(line.record.phase, Phase::Ended { .. }));
        }
        let whole = now.monotonic + Config::default().lease_ttl;
        for (id, expires) in scheduler.active() {
            active = active.checked_sub(1).ok_or_else(|| format!("{id} comes from nowhere"))?;
            if expires.is_some_and(|expires| expires < whole) {
                return Err(format!("the lease of {id} is not given a whole lifetime"));
            }
        }
        if active > 0 {
            return Err(format!("{active} trials are forgotten"));
        }
        for (&worker, (_, here)) in &ledger.workers {
            if scheduler.knows(worker) != *here {
                return Err(format!("whether worker {worker} is here is forgotten"));
            }
        }
        ledger.check_memories(scheduler)?;
        for (&id, line) in &ledger.sweeps {
            let stored = Some((line.record.status, line.controls, line.record.used));
            let believed = scheduler.sweep_standing(id);
            if believed != stored {
                return Err(format!("of sweep {id} {believed:?} is believed, stored {stored:?}"));
            }
        }
        let running: Vec<_> = ledger
            .sweeps
            .values()
            .filter(|sweep| sweep.ended < sweep.record.total)
            .map(|sweep| sweep.record.id)
            .collect();
        if scheduler.running_sweeps() == running {
            Ok(())
        } else {
            Err(format!("{running:?} run, restored {:?}", scheduler.running_sweeps()))
        }
    }
}
