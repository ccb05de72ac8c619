//! I4: no trial is lost and none is invented: a sweep's trials are those that its spec implies,
//! each untouched, pending, leased or ended, and its status says whether all have ended.

use deptune_coordinator::runtime::Error;
use deptune_sweep::id::SweepId;
use deptune_sweep::outcome::SweepStatus;
use deptune_sweep::record::Phase;
use deptune_sweep::scheduler::{Reply, Write};

use super::{Invariant, Ledger, Scan, Seen};
use crate::sim::front::Ask;

#[derive(Debug, Default)]
pub(super) struct Conservation;

impl Invariant for Conservation {
    fn id(&self) -> &'static str {
        "I4"
    }

    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String> {
        match seen {
            Seen::Write(Write::NewTrial { record, .. }, _) => {
                let rows = ledger.sweeps.get(&record.id.sweep).map(|sweep| sweep.rows);
                if rows != Some(record.id.index) && !matches!(record.phase, Phase::Ended { .. }) {
                    return Err(format!("trial {} gets a row after {rows:?} others", record.id));
                }
                Ok(())
            }
            Seen::Committed(commit) => {
                let touched = commit.writes.iter().filter_map(|write| match write {
                    Write::Trial(record) | Write::NewTrial { record, .. } => Some(record.id.sweep),
                    Write::SweepStatus { sweep, .. } => Some(*sweep),
                    _ => None,
                });
                let mut last = None;
                for sweep in touched {
                    if last.replace(sweep) != Some(sweep) {
                        check(ledger, sweep)?;
                    }
                }
                Ok(())
            }
            Seen::Answered(Ask::Cancel(sweep), Ok::<_, Error>(Reply::Sweep(_)), _)
            | Seen::CancelAcknowledged(sweep) => match ledger.sweeps.get(sweep) {
                Some(line) if line.ended == line.record.total => Ok(()),
                Some(line) => Err(format!(
                    "sweep {sweep} is said to be cancelled with {} of {} trials ended",
                    line.ended, line.record.total
                )),
                None => Err(format!("sweep {sweep} is said to be cancelled and is not there")),
            },
            Seen::Scan(scan) => all(ledger, scan),
            _ => Ok(()),
        }
    }
}

fn check(ledger: &Ledger, sweep: SweepId) -> Result<(), String> {
    let Some(line) = ledger.sweeps.get(&sweep) else {
        return Err(format!("sweep {sweep} has trials and no row"));
    };
    let (total, next) = (line.record.total, line.record.next_index);
    if line.rows != next || line.rows > total {
        return Err(format!("sweep {sweep} has {} rows, {next} by its index", line.rows));
    }
    let over = line.record.status != SweepStatus::Running;
    if over != (line.ended == total) {
        let status = line.record.status;
        return Err(format!("sweep {sweep} is {status} with {} of {total} ended", line.ended));
    }
    Ok(())
}

fn all(ledger: &Ledger, scan: &Scan<'_>) -> Result<(), String> {
    for &sweep in ledger.sweeps.keys() {
        check(ledger, sweep)?;
    }
    if scan.trials.len() != ledger.trials.len() {
        let (stored, written) = (scan.trials.len(), ledger.trials.len());
        return Err(format!("the store holds {stored} trials, {written} were written"));
    }
    Ok(())
}
