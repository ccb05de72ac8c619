//! Rows as the store keeps them: what the scheduler writes and what it is restored from.

mod submission;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::child::{Evaluation, TrialResult};
use crate::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::outcome::{FailureClass, Outcome, SweepStatus, Unknown};
pub use submission::{DataRef, SOURCE, SpaceText, Submission, SubmissionError};

/// Milliseconds since 1970-01-01 UTC. For people only: no decision depends on it.
pub type WallMillis = i64;

/// A sweep as submitted, with everything needed to compute any of its trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepRecord {
    /// The sweep.
    pub id: SweepId,
    /// The request that submitted it.
    pub request_id: RequestId,
    /// Its name; need not be unique.
    pub name: String,
    /// What was submitted.
    pub submission: Submission,
    /// Hash of the submission: equal sweeps have equal hashes.
    pub spec_hash: ArtifactHash,
    /// Number of trials: those of the spec's grid, then those that were added, by index.
    pub total: u64,
    /// Trials of the grid with index below this have a [`TrialRecord`]; of the others those that
    /// were cancelled one by one. Added trials have one from the start.
    pub next_index: u64,
    /// State.
    pub status: SweepStatus,
    /// When it was submitted.
    pub submitted: WallMillis,
    /// When its last trial ended.
    pub finished: Option<WallMillis>,
    /// What it may use now; `None`: as the spec says.
    pub controls: Option<Controls>,
    /// Milliseconds for which slots were busy with it. Attempts that run count up to their last
    /// heartbeat.
    pub used: u64,
}

/// What a person may change while a sweep runs. The spec's `[limits]` give the first values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controls {
    /// Sweeps of a higher priority are served first. -1000..=1000.
    pub priority: i32,
    /// Share of the leases among sweeps of one priority. 1..=1000.
    pub weight: u32,
    /// Trials leased at the same time.
    pub max_parallel: Option<u32>,
    /// Milliseconds for which slots may be busy with it, all together.
    pub budget: Option<u64>,
}

impl Controls {
    /// Highest priority; the lowest is its negative.
    pub const MAX_PRIORITY: i32 = 1000;
    /// Largest weight.
    pub const MAX_WEIGHT: u32 = 1000;
    /// Largest bound on the trials leased at the same time.
    pub const MAX_PARALLEL: u32 = 1_000_000;
    /// Largest budget, in milliseconds: a million hours.
    pub const MAX_BUDGET: u64 = 1_000_000 * 3_600_000;
}

/// A request that changed a sweep: the same again has the same answer and no second effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Which.
    pub id: RequestId,
    /// About which sweep. The record outlives it.
    pub sweep: SweepId,
    /// Hash of what was asked for; `None` in rows of earlier versions, of which any request with
    /// the same id is taken for the same.
    pub content: Option<ArtifactHash>,
    /// What was answered, where nobody could look it up later: to a deletion. Opaque here.
    pub answer: Option<String>,
    /// When it was carried out.
    pub at: WallMillis,
}

/// A sweep that was deleted. Neither its id nor the request that submitted it is used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletedRecord {
    /// Which.
    pub id: SweepId,
    /// The request that had submitted it.
    pub request_id: RequestId,
    /// Hash of what was submitted; `None` in rows of earlier versions.
    pub spec_hash: Option<ArtifactHash>,
}

/// Why a trial exists that the spec's grid does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The [point](crate::points) whose settings it has, but for the seed.
    pub origin: u64,
    /// Its seed.
    pub seed: u64,
    /// The trial that it runs again.
    pub retry_of: Option<u64>,
}

/// A space that was added to a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceRecord {
    /// To which.
    pub sweep: SweepId,
    /// Which of the sweep's added spaces, from 1.
    pub number: u32,
    /// As it was given.
    pub space: SpaceText,
    /// When.
    pub at: WallMillis,
}

/// A trial that was leased at least once, or has an outcome.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRecord {
    /// The trial.
    pub id: TrialId,
    /// Epoch of its latest lease (or cancellation).
    pub epoch: Epoch,
    /// Where it stands.
    pub phase: Phase,
    /// Attempts that failed and count against `max_attempts`.
    pub failures: u32,
    /// Leases that expired, or were lost with their worker.
    pub losses: u32,
    /// Whether it must run alone because a pack with it crashed.
    pub alone: bool,
    /// Trials that its latest lease's pack began with, itself included.
    pub pack_members: u32,
    /// The latest checkpoint that the coordinator holds.
    pub checkpoint: Option<CheckpointRef>,
    /// Why it exists, unless it is one of the grid.
    pub added: Option<Added>,
}

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Waits to be leased again. The last holder may still report while nobody else was given
    /// the trial.
    Pending {
        /// Last holder, if a report of its epoch is still acceptable.
        last_holder: Option<Holder>,
    },
    /// Leased to a worker's slot.
    Leased(Holder),
    /// Has an outcome.
    Ended {
        /// The outcome.
        outcome: Outcome,
    },
}

impl Phase {
    /// Who holds the lease, if there is one.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        match self {
            Phase::Leased(holder) => Some(*holder),
            Phase::Pending { .. } | Phase::Ended { .. } => None,
        }
    }
}

/// Who holds a lease. The trials of one slot that were granted by one exchange are a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The worker.
    pub worker: WorkerId,
    /// Slot of the worker.
    pub slot: u32,
    /// The exchange that granted it, so that a repeated request gets the same lease.
    pub request_id: RequestId,
}

/// Most bytes of a checkpoint that goes through the coordinator. A larger one stays with the
/// worker, or in a directory that workers share, and a small file that names it goes instead.
pub const LARGEST_STATE: u64 = 16 << 20;

/// A checkpoint in the artifact store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    /// Updates that it contains.
    pub step: u64,
    /// Content hash.
    pub hash: ArtifactHash,
}

/// The one outcome of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutcomeRecord {
    /// The trial.
    pub id: TrialId,
    /// Epoch under which it was recorded.
    pub epoch: Epoch,
    /// The outcome.
    pub outcome: Outcome,
    /// Why it failed.
    pub class: Option<FailureClass>,
    /// Why, in words; empty for a success.
    pub message: String,
    /// What the trial ended with, for a success.
    pub result: Option<TrialResult>,
    /// The best adapter, for a success.
    pub adapter: Option<ArtifactHash>,
    /// Who reported it.
    pub worker: Option<WorkerId>,
    /// When.
    pub at: WallMillis,
}

/// The start of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The trial.
    pub id: TrialId,
    /// The attempt's epoch.
    pub epoch: Epoch,
    /// Who runs it.
    pub worker: WorkerId,
    /// On which slot.
    pub slot: u32,
    /// Trials that its pack began with, itself included.
    pub members: u32,
    /// Step of the checkpoint that it starts from.
    pub first_step: u64,
    /// When it was leased.
    pub started: WallMillis,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// With the trial's success.
    Succeeded,
    /// With a failure.
    Failed,
    /// Handed back by its worker.
    Released,
    /// Its lease ended without a word from the worker.
    Expired,
    /// The trial was cancelled.
    Cancelled,
}

crate::outcome::names!(AttemptEnd, "attempt end",
    Succeeded => "succeeded", Failed => "failed", Released => "released", Expired => "expired",
    Cancelled => "cancelled");

/// A worker as it registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRecord {
    /// This run of the agent.
    pub id: WorkerId,
    /// The node's or the person's name for it.
    pub name: String,
    /// Version of deptune.
    pub version: String,
    /// Words by which a sweep may ask for it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Whether somebody asked it to go: it is leased nothing more.
    #[serde(default)]
    pub draining: bool,
    /// Its slots.
    pub slots: Vec<SlotRecord>,
    /// When it registered.
    pub registered: WallMillis,
    /// When it left or was given up; `None` while it is here.
    pub left: Option<WallMillis>,
}

impl WorkerRecord {
    /// The slot of this number.
    #[must_use]
    pub fn slot(&self, slot: u32) -> Option<&SlotRecord> {
        self.slots.iter().find(|known| known.slot == slot)
    }
}

/// What was learnt when a pack ran out of memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackLimit {
    /// Hash of the model's and the batch's shapes.
    pub shape: ArtifactHash,
    /// The slot's device.
    pub device: String,
    /// Most trials of a pack of that shape there.
    pub members: u32,
}

/// The memory that packs of some size were seen to take, beside what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackMemory {
    /// Hash of the model's and the batch's shapes.
    pub shape: ArtifactHash,
    /// The slot's device.
    pub device: String,
    /// Trials that the pack began with.
    pub members: u32,
    /// Most bytes that it took.
    pub bytes: u64,
    /// Bytes that such a pack on that slot was estimated to take.
    pub estimated: u64,
    /// The trial of it whose report said so.
    pub trial: TrialId,
}

impl PackMemory {
    /// How many times more, or less, than estimated a pack may be said to take. Beyond that it is a
    /// mistake.
    const CREDIBLE: u64 = 16;

    /// Whether a pack may have taken that much. All of it comes from outside.
    #[must_use]
    pub fn is_credible(&self) -> bool {
        let least = (self.estimated / Self::CREDIBLE).max(1);
        let most = self.estimated.saturating_mul(Self::CREDIBLE);
        self.members > 0
            && self.estimated <= MOST_BYTES
            && (least..=most.min(MOST_BYTES)).contains(&self.bytes)
    }

    /// Whether this says more than what was known of packs of so many. Small differences say nothing.
    #[must_use]
    pub fn outdoes(&self, known: &PackMemory) -> bool {
        self.bytes > known.bytes.saturating_add(known.bytes / 16)
    }
}

/// The largest number that both databases hold.
const MOST_BYTES: u64 = i64::MAX as u64;

/// What a slot computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SlotKind {
    /// Threads of the CPU.
    Cpu,
    /// A CUDA device.
    Cuda,
}

crate::outcome::names!(SlotKind, "kind of slot", Cpu => "cpu", Cuda => "cuda");

/// One slot of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Number within the worker, from 0.
    pub slot: u32,
    /// What it computes on.
    pub kind: SlotKind,
    /// Threads (CPU) that a pack on it may use.
    pub threads: u32,
    /// Device name for people, e.g. the GPU's name and UUID.
    pub device: String,
    /// Most trials of a pack on it, 1 or more.
    #[serde(default = "one")]
    pub max_pack: u32,
    /// Bytes of memory that a pack on it may use; `None`: not known.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// Slots of earlier versions train one trial at a time.
fn one() -> u32 {
    1
}

/// An entry of the sweep's log, which watchers follow by its cursor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// Position in the coordinator's log; strictly increasing.
    pub cursor: u64,
    /// The sweep.
    pub sweep: SweepId,
    /// The trial, if it is about one.
    pub trial: Option<TrialId>,
    /// When.
    pub at: WallMillis,
    /// What happened.
    pub what: LogEntry,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum LogEntry {
    /// The sweep was accepted.
    Submitted {
        /// Its number of trials.
        trials: u64,
    },
    /// A trial was leased.
    Leased {
        /// Epoch of the lease.
        epoch: Epoch,
        /// To whom.
        worker: WorkerId,
        /// Step from which it continues.
        first_step: u64,
    },
    /// An attempt ended without an outcome; the trial waits again.
    Requeued {
        /// Epoch of the attempt.
        epoch: Epoch,
        /// How the attempt ended.
        end: AttemptEnd,
        /// Why.
        class: FailureClass,
        /// In words.
        message: String,
    },
    /// An evaluation was recorded.
    Evaluated {
        /// The evaluation.
        evaluation: Evaluation,
    },
    /// The trial's outcome was recorded.
    Ended {
        /// The outcome.
        outcome: Outcome,
        /// Why it failed.
        class: Option<FailureClass>,
        /// In words.
        message: String,
        /// The selection metric, for a success.
        result: Option<Box<TrialResult>>,
    },
    /// The sweep has no trial left without an outcome.
    Finished {
        /// Its state now.
        status: SweepStatus,
    },
    /// A person paused the sweep.
    Paused,
    /// The sweep runs again: it was resumed, or got more trials.
    Resumed,
    /// The sweep got more trials.
    Added {
        /// Index of the first.
        first: u64,
        /// How many.
        count: u64,
        /// Whether they run others again.
        retries: bool,
    },
    /// A person changed what the sweep may use.
    Changed {
        /// As it is now.
        controls: Controls,
    },
    /// Trial after trial failed on a worker, the last one of this sweep: it gets nothing for a while.
    Quarantined {
        /// The worker.
        worker: WorkerId,
        /// Its name.
        name: String,
        /// For how long.
        seconds: u64,
    },
}
