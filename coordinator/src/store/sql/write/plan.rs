//! Which writes of a commit can be carried out together, so that a commit takes about as many
//! statements as it touches tables, however many trials it is about.
//!
//! Writes of one kind are collected over others that they have nothing to do with. Two that concern
//! the same row, of which at least one changes it, keep their order.

use std::collections::BTreeMap;

use deptune_sweep::id::{Epoch, SweepId, TrialId};
use deptune_sweep::scheduler::Write;

/// Kinds of writes that are carried out together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    NewTrial,
    Trial,
    AttemptStarted,
    AttemptProgress,
    AttemptEnded,
    Outcome,
    Evaluation,
    StaleReport,
    Log,
    NextIndex,
    Used,
    /// Rare; each alone, and between all that came before it and all that comes after it.
    Alone,
}

/// Writes of one kind.
#[derive(Debug)]
pub(super) struct Batch<'w> {
    pub(super) kind: Kind,
    pub(super) writes: Vec<&'w Write>,
}

/// What a write reads or changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Row<'w> {
    Trial(TrialId),
    Attempt(TrialId, Epoch),
    Outcome(TrialId),
    Evaluation(TrialId, u64, &'w str),
    /// One column of a sweep's, of which the last value counts: its writes may share a batch.
    NextIndex(SweepId),
    Used(SweepId),
}

/// The last batches that read and changed a row.
#[derive(Debug, Clone, Copy, Default)]
struct Touched {
    read: Option<usize>,
    changed: Option<usize>,
}

/// Puts the writes into batches, to be carried out in order.
pub(super) fn plan(writes: &[Write]) -> Vec<Batch<'_>> {
    let mut batches: Vec<Batch<'_>> = Vec::new();
    let mut rows: BTreeMap<Row<'_>, Touched> = BTreeMap::new();
    // No write goes before this one.
    let mut floor = 0;
    for write in writes {
        let (kind, read, changed) = rows_of(write);
        if kind == Kind::Alone {
            batches.push(Batch { kind, writes: vec![write] });
            floor = batches.len();
            continue;
        }
        let mut first = floor;
        if let Some(touched) = read.and_then(|row| rows.get(&row)) {
            first = first.max(touched.changed.map_or(0, |at| at + 1));
        }
        if let Some(touched) = changed.and_then(|row| rows.get(&row)) {
            let apart = usize::from(!matches!(kind, Kind::NextIndex | Kind::Used));
            let after = |at: Option<usize>| at.map_or(0, |at| at + apart);
            first = first.max(after(touched.read)).max(after(touched.changed));
        }
        let at = match batches.iter().skip(first).position(|batch| batch.kind == kind) {
            Some(after) => first + after,
            None => {
                batches.push(Batch { kind, writes: Vec::new() });
                batches.len() - 1
            }
        };
        if let Some(batch) = batches.get_mut(at) {
            batch.writes.push(write);
        }
        if let Some(row) = read {
            let touched = rows.entry(row).or_default();
            touched.read = touched.read.max(Some(at));
        }
        if let Some(row) = changed {
            let touched = rows.entry(row).or_default();
            touched.changed = touched.changed.max(Some(at));
        }
    }
    batches
}

/// The kind of a write, the row that it reads and the row that it changes.
pub(super) fn rows_of(write: &Write) -> (Kind, Option<Row<'_>>, Option<Row<'_>>) {
    match write {
        Write::NewTrial { record, .. } => (Kind::NewTrial, None, Some(Row::Trial(record.id))),
        Write::Trial(record) => (Kind::Trial, None, Some(Row::Trial(record.id))),
        Write::AttemptStarted(record) => (
            Kind::AttemptStarted,
            Some(Row::Trial(record.id)),
            Some(Row::Attempt(record.id, record.epoch)),
        ),
        Write::AttemptProgress { lease, .. } => {
            (Kind::AttemptProgress, None, Some(Row::Attempt(lease.trial, lease.epoch)))
        }
        Write::AttemptEnded { lease, .. } => {
            (Kind::AttemptEnded, None, Some(Row::Attempt(lease.trial, lease.epoch)))
        }
        Write::Outcome(record) => {
            (Kind::Outcome, Some(Row::Trial(record.id)), Some(Row::Outcome(record.id)))
        }
        Write::Evaluation { lease, evaluation, .. } => (
            Kind::Evaluation,
            Some(Row::Trial(lease.trial)),
            Some(Row::Evaluation(lease.trial, evaluation.step, &evaluation.split)),
        ),
        Write::StaleReport { lease, .. } => {
            (Kind::StaleReport, Some(Row::Trial(lease.trial)), None)
        }
        Write::Log(_) => (Kind::Log, None, None),
        Write::NextIndex { sweep, .. } => (Kind::NextIndex, None, Some(Row::NextIndex(*sweep))),
        Write::Used { sweep, .. } => (Kind::Used, None, Some(Row::Used(*sweep))),
        Write::Sweep(_)
        | Write::SweepStatus { .. }
        | Write::SweepTotal { .. }
        | Write::Space { .. }
        | Write::Controls { .. }
        | Write::Request(_)
        | Write::DeleteSweep { .. }
        | Write::Worker(_)
        | Write::PackLimit { .. }
        | Write::PackMemory { .. }
        | Write::WorkerLeft { .. } => (Kind::Alone, None, None),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use deptune_sweep::id::WorkerId;
    use deptune_sweep::record::{AttemptRecord, Phase, TrialRecord};
    use deptune_sweep::scheduler::LeaseKey;
    use uuid::Uuid;

    use super::*;

    /// The state of a trial.
    pub(in super::super) fn state(index: u64, epoch: u32, phase: Phase) -> Write {
        Write::Trial(TrialRecord {
            id: TrialId { sweep: SweepId(1), index },
            epoch: Epoch(epoch),
            phase,
            failures: 0,
            losses: 0,
            alone: false,
            pack_members: 1,
            checkpoint: None,
            added: None,
        })
    }

    fn trial(index: u64, epoch: u32) -> Write {
        state(index, epoch, Phase::Pending { last_holder: None })
    }

    /// The start of an attempt.
    pub(in super::super) fn started(index: u64, epoch: u32) -> Write {
        Write::AttemptStarted(AttemptRecord {
            id: TrialId { sweep: SweepId(1), index },
            epoch: Epoch(epoch),
            worker: WorkerId(Uuid::nil()),
            slot: 0,
            members: 1,
            first_step: 0,
            started: 0,
        })
    }

    fn progress(index: u64, last_step: u64) -> Write {
        let trial = TrialId { sweep: SweepId(1), index };
        Write::AttemptProgress { lease: LeaseKey { trial, epoch: Epoch(1) }, last_step }
    }

    fn next(next_index: u64) -> Write {
        Write::NextIndex { sweep: SweepId(1), next_index }
    }

    fn left() -> Write {
        Write::WorkerLeft { worker: WorkerId(Uuid::nil()), at: 0 }
    }

    fn shape(writes: &[Write]) -> Vec<(Kind, usize)> {
        plan(writes).iter().map(|batch| (batch.kind, batch.writes.len())).collect()
    }

    #[test]
    fn writes_about_different_trials_share_statements() {
        let writes: Vec<Write> = (0..50)
            .flat_map(|n| [trial(n, 1), next(n + 1), started(n, 1), progress(n, 5)])
            .collect();
        let expected = [
            (Kind::Trial, 50),
            (Kind::NextIndex, 50),
            (Kind::AttemptStarted, 50),
            (Kind::AttemptProgress, 50),
        ];
        assert_eq!(shape(&writes), expected);
    }

    #[test]
    fn writes_about_one_row_keep_their_order() {
        let writes = [trial(1, 1), started(1, 1), trial(1, 2), started(1, 2), started(2, 1)];
        let expected = [
            (Kind::Trial, 1),
            (Kind::AttemptStarted, 2),
            (Kind::Trial, 1),
            (Kind::AttemptStarted, 1),
        ];
        assert_eq!(shape(&writes), expected);
        let writes = [progress(1, 5), progress(2, 5), progress(1, 6)];
        assert_eq!(shape(&writes), [(Kind::AttemptProgress, 2), (Kind::AttemptProgress, 1)]);
    }

    #[test]
    fn nothing_is_moved_over_a_write_that_is_alone() {
        let writes = [trial(1, 1), left(), trial(2, 1), trial(3, 1), left()];
        let expected = [(Kind::Trial, 1), (Kind::Alone, 1), (Kind::Trial, 2), (Kind::Alone, 1)];
        assert_eq!(shape(&writes), expected);
    }
}
