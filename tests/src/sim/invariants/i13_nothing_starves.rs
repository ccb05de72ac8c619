//! I13, as far as it is about shares: no sweep that could lease is passed over for long by others
//! of its priority. (That everything ends once the faults are gone is seen in `world.rs`.)

use std::collections::BTreeMap;

use deptune_sweep::id::SweepId;
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::record::{Phase, TrialRecord};
use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};
use crate::sim::ledger::SweepLine;
use crate::sim::profile::MAX_PACK;

#[derive(Debug, Default)]
pub(super) struct NothingStarves {
    /// How often each sweep was passed over since its last lease.
    passed: BTreeMap<SweepId, u64>,
}

impl Invariant for NothingStarves {
    fn id(&self) -> &'static str {
        "I13"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::NewTrial { record, .. }, _) => self.leased(ledger, record),
            Seen::Write(Write::Trial(record), _) => {
                let before = ledger.trials.get(&record.id).map(|line| line.record.epoch);
                // A lease that is revived was served before.
                if before.is_some_and(|before| before < record.epoch) {
                    return self.leased(ledger, record);
                }
                Ok(())
            }
            // Turns are counted anew: a restart forgets them, other weights make others of them,
            // and what one that is gone was allowed to take was taken with right.
            Seen::Restored(..)
            | Seen::Write(Write::Controls { .. } | Write::DeleteSweep { .. }, _) => {
                self.passed.clear();
                Ok(())
            }
            Seen::Write(Write::SweepStatus { status, .. }, _) if status.is_over() => {
                self.passed.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl NothingStarves {
    fn leased(&mut self, ledger: &Ledger, record: &TrialRecord) -> Result<(), String> {
        let Phase::Leased(holder) = record.phase else { return Ok(()) };
        let served = record.id.sweep;
        let Some(winner) = ledger.sweeps.get(&served) else { return Ok(()) };
        self.passed.insert(served, 0);
        for (&id, line) in ledger.sweeps.iter().filter(|(id, _)| **id != served) {
            if !could_lease(line) {
                self.passed.insert(id, 0);
                continue;
            }
            let elsewhere = !ledger.fits(line, holder);
            if line.controls.priority != winner.controls.priority || elsewhere {
                continue;
            }
            let passed = self.passed.entry(id).or_default();
            *passed += 1;
            let most = bound(ledger, id, line);
            if *passed > most {
                return Err(format!("sweep {id} is passed over {passed} times, {most} at most"));
            }
        }
        Ok(())
    }
}

/// Whether the sweep had something to lease for certain. One with a budget may be near its end.
fn could_lease(line: &SweepLine) -> bool {
    line.record.status == SweepStatus::Running
        && line.record.next_index < line.grid
        && line.controls.max_parallel.is_none_or(|most| line.leased < most)
        && line.controls.budget.is_none()
}

/// What the others of its priority may lease between two leases of its own, by their weights, with
/// a turn more for each that came lately.
fn bound(ledger: &Ledger, id: SweepId, line: &SweepLine) -> u64 {
    let own = u64::from(line.controls.weight);
    let equals = ledger.sweeps.iter().filter(|(other, theirs)| {
        **other != id
            && theirs.controls.priority == line.controls.priority
            && !theirs.record.status.is_over()
    });
    // Turns are packs: after one of its own, the others may take as many leases, and the last of
    // them is a pack too.
    let turn = 1 + MAX_PACK;
    equals
        .map(|(_, theirs)| 2 * (MAX_PACK * u64::from(theirs.controls.weight)).div_ceil(own) + turn)
        .sum::<u64>()
        + 3
        + MAX_PACK
}
