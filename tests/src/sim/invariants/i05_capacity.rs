//! I5: a slot has at most one lease, and exists.

use deptune_sweep::record::Phase;
use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct Capacity;

impl Invariant for Capacity {
    fn id(&self) -> &'static str {
        "I5"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        let record = match seen {
            Seen::Write(Write::Trial(record) | Write::NewTrial { record, .. }, _) => record,
            Seen::Scan(scan) => {
                let Some((scheduler, now)) = scan.scheduler else { return Ok(()) };
                return scheduler.audit(now).map_err(|error| error.to_string());
            }
            _ => return Ok(()),
        };
        let Phase::Leased { worker, slot, .. } = record.phase else { return Ok(()) };
        let id = record.id;
        if let Some(other) = ledger.slots.get(&(worker, slot)).filter(|other| **other != id) {
            return Err(format!("slot {slot} of {worker} is given to {id}, it runs {other}"));
        }
        let known = ledger.workers.get(&worker);
        if !known.is_some_and(|(slots, _)| slots.iter().any(|s| s.slot == slot)) {
            return Err(format!("trial {id} is leased to slot {slot}, which {worker} lacks"));
        }
        Ok(())
    }
}
