//! I4: no trial is lost and none is invented: a sweep's trials are those that its spec implies,
//! each untouched, pending, leased or ended, and its status says whether all have ended.

use deptune_sweep::id::SweepId;
use deptune_sweep::scheduler::Write;

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
                let Some(line) = ledger.sweeps.get(&record.id.sweep) else {
                    return Err(format!("trial {} of no sweep", record.id));
                };
                let index = record.id.index;
                match record.added {
                    Some(_) if index != line.grid + line.added => {
                        let (grid, added) = (line.grid, line.added);
                        Err(format!("trial {} is added after {grid} and {added}", record.id))
                    }
                    None if index >= line.grid => {
                        Err(format!("trial {} is not one of the grid's", record.id))
                    }
                    // In their order, but for those that joined a pack or were cancelled early.
                    None if index < line.record.next_index => {
                        Err(format!("trial {} gets a row a second time", record.id))
                    }
                    _ => Ok(()),
                }
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
            Seen::Answered(Ask::Control { request_id, sweep, cancels: true, .. }, Ok(_), _)
            | Seen::ControlAcknowledged(request_id, sweep, true) => {
                // Trials may have been run again since, which a repeated request leaves alone.
                match ledger.requests.get(request_id) {
                    Some(line) if line.complete => Ok(()),
                    _ => {
                        Err(format!("sweep {sweep} is said to be cancelled, some trials were not"))
                    }
                }
            }
            Seen::Scan(scan) => all(ledger, scan),
            _ => Ok(()),
        }
    }
}

fn check(ledger: &Ledger, sweep: SweepId) -> Result<(), String> {
    let Some(line) = ledger.sweeps.get(&sweep) else {
        if ledger.deleted.contains_key(&sweep) {
            return Ok(());
        }
        return Err(format!("sweep {sweep} has trials and no row"));
    };
    let (total, next) = (line.record.total, line.record.next_index);
    if line.rows < next || line.rows > line.grid || line.grid + line.added != total {
        let (rows, added) = (line.rows, line.added);
        return Err(format!("sweep {sweep} has {rows} rows, {next} by its index, {added} added"));
    }
    let over = line.record.status.is_over();
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
