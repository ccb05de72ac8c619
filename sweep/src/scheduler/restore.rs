//! How the scheduler is rebuilt from the store.

use std::collections::BTreeMap;

use crate::id::{Epoch, SweepId, TrialId, WorkerId};
use crate::mutation;
use crate::record::{
    DeletedRecord, PackLimit, PackMemory, Phase, RequestRecord, SpaceRecord, SweepRecord,
    TrialRecord, WorkerRecord,
};
use crate::scheduler::event::Now;
use crate::scheduler::memory::Learnt;
use crate::scheduler::request::Asked;
use crate::scheduler::state::{Config, Ended, Live, Scheduler, Sweep, Trial, Worker};
use crate::spec::Diagnostics;

/// Everything that the store knows, to rebuild the scheduler from.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// All sweeps.
    pub sweeps: Vec<SweepRecord>,
    /// Spaces that were added to them, by sweep and number.
    pub spaces: Vec<SpaceRecord>,
    /// All trials with a row.
    pub trials: Vec<TrialRecord>,
    /// Who recorded the outcome of each ended trial.
    pub reporters: Vec<(TrialId, WorkerId)>,
    /// Workers that have not left.
    pub workers: Vec<WorkerRecord>,
    /// Requests that changed a sweep, besides those that submitted one.
    pub requests: Vec<RequestRecord>,
    /// Sweeps that were deleted.
    pub deleted: Vec<DeletedRecord>,
    /// Packs that ran out of memory.
    pub pack_limits: Vec<PackLimit>,
    /// What packs took.
    pub pack_memories: Vec<PackMemory>,
    /// Cursor of the last log entry.
    pub last_cursor: u64,
}

/// The store's content makes no sense.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A stored spec is no longer valid.
    #[error("the stored spec of sweep {sweep} is not valid in this version")]
    Spec {
        /// Which sweep.
        sweep: SweepId,
        /// Why.
        #[source]
        source: Diagnostics,
    },
    /// A stored model configuration is no longer valid.
    #[error("the stored model configuration of sweep {sweep} is not valid in this version")]
    Model {
        /// Which sweep.
        sweep: SweepId,
        /// Why.
        #[source]
        source: crate::model::ModelError,
    },
    /// A stored space that was added is no longer valid.
    #[error("space {number} of sweep {sweep} is not valid in this version")]
    Space {
        /// Which sweep.
        sweep: SweepId,
        /// Which of its spaces.
        number: u32,
        /// Why.
        #[source]
        source: Diagnostics,
    },
    /// A stored space belongs to no sweep, or one before it is missing.
    #[error(
        "space {number} of sweep {sweep} has no place: the sweep, or a space before it, is gone"
    )]
    StraySpace {
        /// Which sweep.
        sweep: SweepId,
        /// Which of its spaces.
        number: u32,
    },
    /// A trial belongs to no sweep, or has an index that its sweep does not have.
    #[error("stored trial {0} is not a trial of a stored sweep")]
    StrayTrial(TrialId),
    /// The stored number of trials is not what the stored spec and the added trials make.
    #[error(
        "sweep {sweep} is stored with {stored} trials, its spec and what was added make {implied}"
    )]
    Total {
        /// Which sweep.
        sweep: SweepId,
        /// Number in the store.
        stored: u64,
        /// Number by the spec and the added trials.
        implied: u64,
    },
}

impl Scheduler {
    /// Rebuilds the scheduler. Every stored lease is armed for one full TTL from `now`, so that
    /// workers which kept training through a restart are heard before their trials are given
    /// away.
    ///
    /// # Errors
    /// When the store's content contradicts itself or this version cannot read it.
    pub fn restore(
        config: Config,
        snapshot: Snapshot,
        now: Now,
    ) -> Result<Scheduler, RestoreError> {
        let mut scheduler = Scheduler::new(config);
        scheduler.now = now.monotonic;
        scheduler.ticked = Some(now.monotonic);
        scheduler.next_cursor = snapshot.last_cursor.saturating_add(1);
        scheduler.learnt = Learnt::restore(snapshot.pack_limits, snapshot.pack_memories);
        for record in snapshot.workers {
            scheduler.workers.insert(record.id, Worker::new(record, now));
        }
        for record in snapshot.sweeps {
            let (id, request_id) = (record.id, record.request_id);
            scheduler.sweeps.insert(id, Sweep::restore(record)?);
            if !mutation::on("request id forgotten after restart") {
                scheduler.requests.insert(request_id, Asked::Submit(id));
            }
            scheduler.note_status(id);
        }
        for record in snapshot.spaces {
            scheduler.restore_space(record)?;
        }
        for record in snapshot.deleted {
            scheduler.requests.insert(record.request_id, Asked::Submit(record.id));
            scheduler.deleted.insert(record.id, record);
        }
        if !mutation::on("request id forgotten after restart") {
            let asked = |record: RequestRecord| (record.id, Asked::Control(record));
            scheduler.requests.extend(snapshot.requests.into_iter().map(asked));
        }
        let reporters: BTreeMap<TrialId, WorkerId> = snapshot.reporters.into_iter().collect();
        for record in snapshot.trials {
            scheduler.restore_trial(record, &reporters, now)?;
        }
        for (&sweep, state) in &scheduler.sweeps {
            let implied = state.grid + state.added.len() as u64;
            if implied != state.total {
                return Err(RestoreError::Total { sweep, stored: state.total, implied });
            }
        }
        Ok(scheduler)
    }

    fn restore_space(&mut self, record: SpaceRecord) -> Result<(), RestoreError> {
        let (sweep, number) = (record.sweep, record.number);
        let stray = RestoreError::StraySpace { sweep, number };
        let Some(state) = self.sweeps.get_mut(&sweep) else { return Err(stray) };
        if state.points.spaces() + 1 != number as usize {
            return Err(stray);
        }
        let spec = state.record.submission.parse_space(&record.space);
        state.points.add(spec.map_err(|source| RestoreError::Space { sweep, number, source })?);
        state.spaces.push(record.space);
        Ok(())
    }

    fn restore_trial(
        &mut self,
        record: TrialRecord,
        reporters: &BTreeMap<TrialId, WorkerId>,
        now: Now,
    ) -> Result<(), RestoreError> {
        let stray = RestoreError::StrayTrial(record.id);
        let Some(sweep) = self.sweeps.get_mut(&record.id.sweep) else { return Err(stray) };
        let index = record.id.index;
        let there = match record.added {
            Some(added) => {
                added.origin < sweep.points.total() && (sweep.grid..sweep.total).contains(&index)
            }
            // It may have been leased with a pack, or cancelled, before its turn.
            None => index < sweep.grid,
        };
        if !there {
            return Err(stray);
        }
        if let Some(added) = record.added {
            sweep.know_added(index, added);
        }
        let mut trial = Trial::from_record(&record);
        match record.phase {
            Phase::Ended { outcome } => {
                let worker = reporters.get(&record.id).copied();
                sweep.end(index, Ended { epoch: record.epoch, outcome, worker });
                return Ok(());
            }
            Phase::Pending { last_holder } => {
                // When it failed is not stored: after a failure the wait begins anew.
                let waits = trial.failures > 0
                    && last_holder.is_none()
                    && !mutation::on("backoff lost on restart");
                let wait = if waits { trial.backoff(self.config) } else { 0 };
                trial.expires = now.monotonic;
                let from = now.monotonic.saturating_add(wait);
                sweep.waiting.insert(index, from, last_holder);
                if mutation::on("epoch reused after restart") {
                    trial.epoch = Epoch(trial.epoch.0.saturating_sub(1));
                }
            }
            Phase::Leased(holder) => {
                let rearmed = !mutation::on("leases not armed again after restart");
                let ttl = if rearmed { self.config.lease_ttl } else { 0 };
                trial.expires = now.monotonic.saturating_add(ttl);
                self.expiries.insert((trial.expires, record.id));
                sweep.leased += 1;
                if let Some(worker) = self.workers.get_mut(&holder.worker) {
                    worker.occupy(holder, record.id, now);
                }
            }
        }
        sweep.active.insert(index, trial);
        Ok(())
    }
}

impl Sweep {
    fn restore(record: SweepRecord) -> Result<Sweep, RestoreError> {
        let sweep = record.id;
        let spec = match record.submission.parse() {
            Ok(spec) => spec,
            Err(crate::record::SubmissionError::Spec(source)) => {
                return Err(RestoreError::Spec { sweep, source });
            }
            Err(crate::record::SubmissionError::Model(source)) => {
                return Err(RestoreError::Model { sweep, source });
            }
        };
        Ok(Sweep::new(record, spec))
    }
}

impl Trial {
    fn from_record(record: &TrialRecord) -> Trial {
        Trial {
            failures: record.failures,
            losses: record.losses,
            alone: record.alone,
            pack_members: record.pack_members,
            checkpoint: record.checkpoint.clone(),
            live: Live {
                step: record.checkpoint.as_ref().map_or(0, |c| c.step),
                ..Live::default()
            },
            ..Trial::new(record.epoch, record.phase, record.added)
        }
    }
}
