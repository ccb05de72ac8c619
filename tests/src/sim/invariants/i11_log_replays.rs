//! I11: the sweep's log, replayed, gives the current state of every trial.

use std::collections::{BTreeMap, BTreeSet};

use deptune_sweep::id::{SweepId, TrialId};
use deptune_sweep::outcome::{Outcome, SweepStatus};
use deptune_sweep::record::{LogEntry, Phase};
use deptune_sweep::scheduler::Write;

use super::{Invariant, Ledger, Seen};
use crate::sim::ledger::TrialLine;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Leased,
    Pending,
    Ended(Outcome),
}

#[derive(Debug, Default)]
pub(super) struct LogReplays {
    trials: BTreeMap<TrialId, Told>,
    cancelled: BTreeSet<SweepId>,
    last: u64,
}

impl Invariant for LogReplays {
    fn id(&self) -> &'static str {
        "I11"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::Log(record), _) => {
                if record.cursor <= self.last {
                    return Err(format!("cursor {} follows {}", record.cursor, self.last));
                }
                self.last = record.cursor;
                let told = match &record.what {
                    LogEntry::Leased { .. } => Told::Leased,
                    LogEntry::Requeued { .. } => Told::Pending,
                    LogEntry::Ended { outcome, .. } => Told::Ended(*outcome),
                    LogEntry::Finished { status: SweepStatus::Cancelled } => {
                        self.cancel(record.sweep);
                        return Ok(());
                    }
                    LogEntry::Added { first, count, .. } => {
                        for index in *first..*first + *count {
                            let trial = TrialId { sweep: record.sweep, index };
                            self.trials.insert(trial, Told::Pending);
                        }
                        return Ok(());
                    }
                    _ => return Ok(()),
                };
                if let Some(trial) = record.trial {
                    self.trials.insert(trial, told);
                }
                Ok(())
            }
            Seen::Committed(_) => {
                let touched = ledger.touched.iter();
                let lines = touched.filter_map(|id| ledger.trials.get_key_value(id));
                lines
                    .map(|(id, line)| (line, self.trials.get(id).copied()))
                    .try_for_each(|(line, told)| self.check(line, told))
            }
            Seen::Scan(_) => {
                // Both by id, so that neither is searched for each of the other.
                let mut told = self.trials.iter().peekable();
                ledger.trials.iter().try_for_each(|(id, line)| {
                    while told.next_if(|(known, _)| *known < id).is_some() {}
                    let told = told.next_if(|(known, _)| *known == id).map(|(_, told)| *told);
                    self.check(line, told)
                })
            }
            _ => Ok(()),
        }
    }
}

impl LogReplays {
    /// Whoever has not ended when a sweep is cancelled is cancelled with it.
    fn cancel(&mut self, sweep: SweepId) {
        self.cancelled.insert(sweep);
        let from = TrialId { sweep, index: 0 };
        let to = TrialId { sweep, index: u64::MAX };
        for (_, told) in self.trials.range_mut(from..=to) {
            if !matches!(told, Told::Ended(_)) {
                *told = Told::Ended(Outcome::Cancelled);
            }
        }
    }

    fn check(&self, line: &TrialLine, told: Option<Told>) -> Result<(), String> {
        let id = line.record.id;
        let replayed = match told {
            // It had no lease before its sweep was cancelled.
            None if self.cancelled.contains(&id.sweep) => Some(Told::Ended(Outcome::Cancelled)),
            told => told,
        };
        let stored = match line.record.phase {
            Phase::Leased(_) => Told::Leased,
            Phase::Pending { .. } => Told::Pending,
            Phase::Ended { outcome } => Told::Ended(outcome),
        };
        if replayed == Some(stored) {
            Ok(())
        } else {
            Err(format!("the log says {replayed:?} of trial {id}, the store {stored:?}"))
        }
    }
}
