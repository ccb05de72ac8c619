//! I5: a slot exists and works for one pack at a time: trials of one sweep that one exchange granted,
//! see the same batches and are no more than the slot takes. It fits the sweep, and its worker is
//! not about to end.

use deptune_sweep::record::Holder;
use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct Capacity;

impl Invariant for Capacity {
    fn id(&self) -> &'static str {
        "I5"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        let (record, batches) = match seen {
            Seen::Write(Write::Trial(record), _) => (record, ledger.batches(record.id)),
            Seen::Write(Write::NewTrial { record, settings, .. }, _) => {
                (record, Some((settings.seed, settings.train.batch_size)))
            }
            Seen::Scan(scan) => {
                let Some((scheduler, now)) = scan.scheduler else { return Ok(()) };
                return scheduler.audit(now).map_err(|error| error.to_string());
            }
            _ => return Ok(()),
        };
        let Some(Holder { worker, slot, request_id }) = record.phase.holder() else {
            return Ok(());
        };
        let id = record.id;
        let known = ledger.workers.get(&worker);
        let here = known.map(|(record, _)| record);
        let known = here.and_then(|record| record.slot(slot));
        let (Some(here), Some(known)) = (here, known) else {
            return Err(format!("trial {id} is leased to slot {slot}, which {worker} lacks"));
        };
        // A lease that is revived was given before.
        let line = ledger.trials.get(&id);
        if line.is_none_or(|line| line.record.epoch < record.epoch) {
            if here.draining {
                return Err(format!("trial {id} is leased to {worker}, which is to end"));
            }
            let sweep = ledger.sweeps.get(&id.sweep);
            let holder = Holder { worker, slot, request_id };
            if sweep.is_some_and(|sweep| !ledger.fits(sweep, holder)) {
                return Err(format!("trial {id} is leased to {worker}, which does not fit it"));
            }
        }
        let Some(pack) = ledger.slots.get(&(worker, slot)) else { return Ok(()) };
        for (&other, &granted_by) in pack.iter().filter(|(other, _)| **other != id) {
            if other.sweep != id.sweep || granted_by != request_id {
                return Err(format!("slot {slot} of {worker} is given to {id}, it runs {other}"));
            }
            if ledger.batches(other) != batches {
                return Err(format!("{id} and {other}, which see different batches, are one pack"));
            }
        }
        let members = pack.len() + usize::from(!pack.contains_key(&id));
        if members > known.max_pack as usize {
            return Err(format!("slot {slot} of {worker} works for {members} trials with {id}"));
        }
        Ok(())
    }
}
