//! I1: at most one outcome per trial, and terminal states never change.

use deptune_sweep::record::Phase;
use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};

#[derive(Debug, Default)]
pub(super) struct OneOutcome;

impl Invariant for OneOutcome {
    fn id(&self) -> &'static str {
        "I1"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        let (id, what) = match seen {
            Seen::Write(Write::Outcome(record), _) => {
                let line = ledger.trials.get(&record.id);
                if line.is_some_and(|line| line.outcome.is_some()) {
                    return Err(format!("a second outcome of trial {}", record.id));
                }
                return Ok(());
            }
            Seen::Write(Write::Trial(record), _) => (record.id, "is written"),
            Seen::Write(Write::NewTrial { record, .. }, _) => (record.id, "is inserted again"),
            _ => return Ok(()),
        };
        match ledger.trials.get(&id).map(|line| line.record.phase) {
            Some(Phase::Ended { outcome }) => Err(format!("trial {id} {what} after it {outcome}")),
            _ => Ok(()),
        }
    }
}
