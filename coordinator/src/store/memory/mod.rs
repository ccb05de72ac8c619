//! The store in memory: the same answers as the SQL stores, for simulations and tests of the
//! coordinator that are about something else than disks. It has no SQL.

mod read;
mod state;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use deptune_sweep::id::{ArtifactHash, SweepId, TrialId};
use deptune_sweep::record::{LogRecord, PackLimit, Phase, TrialRecord};
use deptune_sweep::scheduler::{Snapshot, Write};
use futures::FutureExt;
use futures::future::ready;

use self::state::State;
use crate::store::{
    Answer, AttemptRow, CommitError, EvaluationKey, EvaluationRow, LeaderboardRow, LoadError, Page,
    QueryError, QueryRows, ReadError, Store, SweepContents, SweepFilter, SweepSummary, TrialRow,
};

/// What outlives a coordinator: as the file does for SQLite. Clones are the same database.
#[derive(Debug, Clone, Default)]
pub struct MemoryDatabase(Arc<Mutex<State>>);

/// One coordinator's opening of a [`MemoryDatabase`].
#[derive(Debug)]
pub struct MemoryStore {
    database: MemoryDatabase,
    generation: i64,
}

impl MemoryStore {
    /// Opens the database and takes it over: earlier openings can no longer write.
    #[must_use]
    pub fn open(database: &MemoryDatabase) -> MemoryStore {
        let mut state = database.state();
        state.generation += 1;
        MemoryStore { generation: state.generation, database: database.clone() }
    }

    fn read<T, E>(&self, read: impl FnOnce(&State) -> T) -> Answer<'static, T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        ready(Ok(read(&self.database.state()))).boxed()
    }
}

impl MemoryDatabase {
    /// Looks at all trials with a row, by id, without a copy of them.
    pub fn with_trials<T>(&self, look: impl FnOnce(&[&TrialRecord]) -> T) -> T {
        let state = self.state();
        let trials: Vec<&TrialRecord> = state.trials.values().map(|trial| &trial.record).collect();
        look(&trials)
    }

    /// A commit that panicked half-way cannot have been told to anyone; what it left is dropped
    /// with the test that it belongs to.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn commit<'a>(&'a self, writes: &'a [Write]) -> Answer<'a, (), CommitError> {
        ready(self.database.state().commit(self.generation, writes)).boxed()
    }

    fn load(&self) -> Answer<'_, Snapshot, LoadError> {
        self.read(|state| Snapshot {
            sweeps: state.sweeps.values().map(|s| s.record.clone()).collect(),
            spaces: state.spaces.values().cloned().collect(),
            trials: state.trials.values().map(|t| t.record.clone()).collect(),
            reporters: state
                .outcomes
                .values()
                .filter_map(|o| o.worker.map(|worker| (o.id, worker)))
                .collect(),
            workers: state.workers.values().filter(|w| w.left.is_none()).cloned().collect(),
            requests: state.requests.values().cloned().collect(),
            deleted: state.deleted.values().map(|(record, _)| record.clone()).collect(),
            pack_limits: (state.pack_limits.iter())
                .map(|((shape, device), &members)| PackLimit {
                    shape: shape.clone(),
                    device: device.clone(),
                    members,
                })
                .collect(),
            pack_memories: state.pack_memories.values().cloned().collect(),
            last_cursor: state.last_cursor(),
        })
    }

    fn find_sweep<'a>(&'a self, text: &'a str) -> Answer<'a, Option<SweepId>, ReadError> {
        self.read(|state| match text.parse::<SweepId>() {
            Ok(id) => Some(id).filter(|id| state.sweeps.contains_key(id)),
            Err(_) => {
                let named = state.sweeps.values().rev().find(|s| s.record.name == text);
                named.map(|s| s.record.id)
            }
        })
    }

    fn sweep(&self, sweep: SweepId) -> Answer<'_, Option<SweepSummary>, ReadError> {
        self.read(|state| state.sweeps.get(&sweep).map(|s| state.summary(s)))
    }

    fn contents(&self, sweep: SweepId) -> Answer<'_, SweepContents, ReadError> {
        self.read(|state| SweepContents {
            attempts: state.attempts.keys().filter(|(of, _)| of.sweep == sweep).count() as u64,
            evaluations: state.evaluations.keys().filter(|(of, _)| *of == sweep).count() as u64,
            log_entries: state.log.values().filter(|entry| entry.sweep == sweep).count() as u64,
        })
    }

    fn spec(&self, sweep: SweepId) -> Answer<'_, Option<String>, ReadError> {
        self.read(|state| state.sweeps.get(&sweep).map(|s| s.record.submission.spec.clone()))
    }

    fn sweeps<'a>(
        &'a self,
        filter: &'a SweepFilter,
        before: Option<SweepId>,
        limit: u32,
    ) -> Answer<'a, Page<SweepSummary>, ReadError> {
        self.read(|state| {
            let wanted = state.sweeps.values().rev().filter(|s| {
                before.is_none_or(|before| s.record.id < before)
                    && filter.status.is_none_or(|status| s.record.status == status)
                    && filter.spec_hash.as_ref().is_none_or(|hash| s.record.spec_hash == *hash)
            });
            read::page(wanted.map(|s| state.summary(s)), limit)
        })
    }

    fn trials(
        &self,
        sweep: SweepId,
        after: Option<u64>,
        limit: u32,
    ) -> Answer<'_, Page<TrialRow>, ReadError> {
        self.read(|state| {
            let wanted = state
                .trials_of(sweep)
                .filter(|t| after.is_none_or(|after| t.record.id.index > after));
            read::page(wanted.map(|t| state.trial_row(t)), limit)
        })
    }

    fn attempts(&self, trial: TrialId) -> Answer<'_, Vec<AttemptRow>, ReadError> {
        self.read(|state| state.attempts_of(trial).map(|a| state.attempt_row(a)).collect())
    }

    fn evaluations(
        &self,
        sweep: SweepId,
        trial: Option<u64>,
        after: Option<EvaluationKey>,
        limit: u32,
    ) -> Answer<'_, Page<EvaluationRow>, ReadError> {
        self.read(|state| {
            let wanted = state.evaluations.iter().filter(|((of, key), _)| {
                *of == sweep
                    && trial.is_none_or(|index| key.trial == index)
                    && after.as_ref().is_none_or(|after| key > after)
            });
            let row = |((sweep, key), evaluation): (&(SweepId, EvaluationKey), &_)| EvaluationRow {
                trial: TrialId { sweep: *sweep, index: key.trial },
                evaluation: Clone::clone(evaluation),
            };
            read::page(wanted.map(row), limit)
        })
    }

    fn log(
        &self,
        sweep: SweepId,
        after: u64,
        limit: u32,
    ) -> Answer<'_, Page<LogRecord>, ReadError> {
        self.read(|state| {
            let wanted = state.log.values().filter(|e| e.sweep == sweep && e.cursor > after);
            read::page(wanted.cloned(), limit)
        })
    }

    fn leaderboard(
        &self,
        sweep: SweepId,
        limit: u32,
    ) -> Answer<'_, Vec<LeaderboardRow>, ReadError> {
        self.read(|state| state.leaderboard(sweep, limit))
    }

    fn is_artifact_referenced<'a>(&'a self, hash: &'a ArtifactHash) -> Answer<'a, bool, ReadError> {
        self.read(|state| state.references.contains_key(hash))
    }

    fn predictions(&self) -> Answer<'_, BTreeSet<ArtifactHash>, ReadError> {
        self.read(|state| {
            let results = state.outcomes.values().filter_map(|outcome| outcome.result.as_ref());
            results.flat_map(|result| result.predictions.iter().map(|p| p.hash.clone())).collect()
        })
    }

    fn query<'a>(&'a self, _sql: &'a str, _limit: usize) -> Answer<'a, QueryRows, QueryError> {
        ready(Err(QueryError::NoSql)).boxed()
    }
}

/// Where a trial's row is held now: by the reporter of its outcome, or by the holder of its lease.
fn worker_of(state: &State, trial: &state::Trial) -> Option<String> {
    let id = match trial.record.phase {
        Phase::Ended { .. } => state.outcomes.get(&trial.record.id)?.worker?,
        Phase::Leased(holder) => holder.worker,
        Phase::Pending { .. } => return None,
    };
    state.workers.get(&id).map(|w| w.name.clone())
}
