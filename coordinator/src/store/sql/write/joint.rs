//! Batches that follow each other, in one statement: for Postgres, where each statement of its own
//! is a trip over the network.
//!
//! Its parts all see the tables as they were before it, and no row may be changed by two of them.
//! What a part reads of trials it gets from the parts that change them: they are named `trials`.

use std::collections::BTreeSet;

use sqlx::postgres::PgConnection;

use super::many::{Untold, sql_of, values};
use super::plan::{Batch, Kind, rows_of};
use crate::store::sql::statement::{counted_at_once, renumbered};

/// Rows of a batch at most: each that reads trials is matched with all that are changed.
const ROWS: usize = 64;

/// How many batches, from the first on, can be carried out in one statement; at least one.
pub(super) fn fitting(batches: &[Batch<'_>]) -> usize {
    let (mut kinds, mut read, mut changed) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (count, batch) in batches.iter().enumerate() {
        let rows: Vec<_> = batch.writes.iter().map(|write| rows_of(write)).collect();
        let fits = is_joinable(batch.kind)
            && batch.writes.len() <= ROWS
            && !kinds.contains(&batch.kind)
            && rows.iter().all(|(_, reads, changes)| {
                reads.is_none_or(|row| changed.contains(&row))
                    && changes.is_none_or(|row| !read.contains(&row) && !changed.contains(&row))
            });
        if !fits {
            return count.max(1);
        }
        kinds.push(batch.kind);
        read.extend(rows.iter().filter_map(|(_, reads, _)| *reads));
        changed.extend(rows.iter().filter_map(|(_, _, changes)| *changes));
    }
    batches.len()
}

/// Kinds whose statements change one row each, know it by what they are given, and read no rows
/// but those of trials.
fn is_joinable(kind: Kind) -> bool {
    match kind {
        Kind::NewTrial
        | Kind::Trial
        | Kind::AttemptStarted
        | Kind::AttemptProgress
        | Kind::AttemptEnded
        | Kind::Outcome
        | Kind::Log
        | Kind::NextIndex => true,
        // The row of a sweep is one, whichever of its columns is meant.
        Kind::Used | Kind::Evaluation | Kind::StaleReport | Kind::Alone => false,
    }
}

/// Carries out batches that are [`fitting`] within the transaction that `connection` is in.
pub(super) async fn carry_out(
    connection: &mut PgConnection,
    batches: &[Batch<'_>],
) -> Result<(), Untold> {
    let mut parts = Vec::with_capacity(batches.len());
    for Batch { kind, writes } in batches {
        if let Some(sql) = sql_of(*kind) {
            parts.push((*kind, sql.all, values(*kind, writes)?));
        }
    }
    // Those that read trials come after those that change them.
    parts.sort_by_key(|(kind, ..)| returned(*kind).is_none());
    let widths =
        parts.iter().map(|(kind, sql, rows)| (*kind, *sql, rows.first().map_or(0, Vec::len)));
    let sql = text(widths);
    let rows: Vec<_> = parts.into_iter().map(|(_, _, rows)| rows).collect();
    let expected = rows.iter().map(|rows| rows.len() as u64).sum();
    let changed = counted_at_once(connection, sql, rows).await?;
    if changed == expected { Ok(()) } else { Err(Untold::Rows { expected, changed }) }
}

/// What a part says of the trials that it changes.
fn returned(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::NewTrial => Some("sweep, trial_index, epoch, phase, outcome"),
        Kind::Trial => Some("t.sweep, t.trial_index, t.epoch, t.phase, t.outcome"),
        _ => None,
    }
}

/// The statement of parts that take so many values each; it gives the number of changed rows.
fn text<'p>(parts: impl Iterator<Item = (Kind, &'p str, usize)>) -> String {
    let (mut trials, mut others, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    let mut taken = 0;
    for (number, (kind, sql, width)) in parts.enumerate() {
        let sql = renumbered(sql, taken);
        let columns = returned(kind).unwrap_or("1");
        let part = format!("part_{number} as ({sql} returning {columns})");
        match returned(kind) {
            Some(_) => trials.push((number, part)),
            None => others.push(part),
        }
        counts.push(format!("(select count(*) from part_{number})"));
        taken += width;
    }
    let changed: Vec<_> =
        trials.iter().map(|(number, _)| format!("select * from part_{number}")).collect();
    let mut with: Vec<_> = trials.into_iter().map(|(_, part)| part).collect();
    if !changed.is_empty() {
        with.push(format!("trials as ({})", changed.join(" union all ")));
    }
    with.extend(others);
    format!("with {} select {}", with.join(", "), counts.join(" + "))
}

#[cfg(test)]
mod tests {
    use deptune_sweep::id::{Epoch, SweepId, TrialId};
    use deptune_sweep::outcome::Outcome;
    use deptune_sweep::record::{AttemptEnd, OutcomeRecord, Phase};
    use deptune_sweep::scheduler::{LeaseKey, Write};

    use super::super::plan::plan;
    use super::super::plan::tests::state;
    use super::*;

    fn id(index: u64) -> TrialId {
        TrialId { sweep: SweepId(1), index }
    }

    fn pending(index: u64) -> Write {
        state(index, 1, Phase::Pending { last_holder: None })
    }

    fn started(index: u64) -> Write {
        super::super::plan::tests::started(index, 1)
    }

    fn end(index: u64) -> [Write; 3] {
        let outcome = Outcome::Failed;
        [
            Write::AttemptEnded {
                lease: LeaseKey { trial: id(index), epoch: Epoch(1) },
                end: AttemptEnd::Failed,
                class: None,
                message: String::new(),
                last_step: 0,
                at: 0,
            },
            state(index, 1, Phase::Ended { outcome }),
            Write::Outcome(Box::new(OutcomeRecord {
                id: id(index),
                epoch: Epoch(1),
                outcome,
                class: None,
                message: String::new(),
                result: None,
                adapter: None,
                worker: None,
                at: 0,
            })),
        ]
    }

    /// How many batches each statement takes.
    fn statements(writes: &[Write]) -> Vec<usize> {
        let batches = plan(writes);
        let (mut rest, mut counts) = (batches.as_slice(), Vec::new());
        while !rest.is_empty() {
            counts.push(fitting(rest));
            rest = &rest[fitting(rest)..];
        }
        counts
    }

    #[test]
    fn trials_that_end_and_begin_take_one_statement() {
        let next = |next_index| Write::NextIndex { sweep: SweepId(1), next_index };
        let used = |used| Write::Used { sweep: SweepId(1), used };
        let turn = |n: u64| end(n).into_iter().chain([pending(n + 9), next(n + 9), started(n + 9)]);
        let writes: Vec<Write> = (0..8).flat_map(turn).collect();
        assert_eq!(statements(&writes), [5]);
        // The row of a sweep cannot be changed twice.
        assert_eq!(statements(&[next(1), used(5), pending(1)]), [1, 1, 1]);
    }

    #[test]
    fn no_row_is_changed_twice_and_none_is_read_from_before() {
        // Its trial was changed by somebody else, or is changed later.
        assert_eq!(statements(&[pending(2), started(1)]), [1, 1]);
        assert_eq!(statements(&[pending(1), started(1), pending(1)]), [2, 1]);
        let [ended, ..] = end(1);
        assert_eq!(statements(&[pending(1), started(1), ended]), [2, 1]);
    }

    #[test]
    fn many_rows_are_not_matched_with_many() {
        let writes: Vec<Write> = (0..=64).flat_map(|n| [pending(n), started(n)]).collect();
        assert_eq!(statements(&writes[2..]), [2]);
        assert_eq!(statements(&writes), [1, 1]);
    }

    #[test]
    fn parts_are_told_apart() {
        let parts = [(Kind::Trial, "update $1 $2", 2), (Kind::Log, "insert $1", 1)];
        assert_eq!(
            text(parts.into_iter()),
            "with part_0 as (update $1 $2 returning t.sweep, t.trial_index, t.epoch, t.phase, \
             t.outcome), trials as (select * from part_0), part_1 as (insert $3 returning 1) \
             select (select count(*) from part_0) + (select count(*) from part_1)"
        );
    }
}
