//! What goes into the scheduler and what comes out.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::child::{Evaluation, TrialResult};
use crate::id::{ArtifactHash, Epoch, RequestId, SweepId, TrialId, WorkerId};
use crate::metric::Number;
use crate::outcome::{FailureClass, SweepStatus, Unknown};
use crate::record::{
    AttemptEnd, AttemptRecord, CheckpointRef, Controls, LogRecord, OutcomeRecord, PackLimit,
    PackMemory, RequestRecord, SlotRecord, SpaceRecord, SpaceText, Submission, SweepRecord,
    TrialRecord, WallMillis, WorkerRecord,
};
use crate::spec::{Diagnostics, Settings, Spec};

/// The time of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds on a clock that never jumps. Leases and waits are measured on it.
    pub monotonic: u64,
    /// Wall clock, recorded for people.
    pub wall: WallMillis,
}

/// The right to run a trial, as a worker names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseKey {
    /// The trial.
    pub trial: TrialId,
    /// Epoch of the lease.
    pub epoch: Epoch,
}

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// A person submits a sweep.
    Submit {
        /// Idempotency key.
        request_id: RequestId,
        /// What was submitted.
        submission: Submission,
        /// The same, parsed.
        spec: Box<Spec>,
    },
    /// A person changes a sweep.
    Control {
        /// Idempotency key.
        request_id: RequestId,
        /// Hash of what the caller asked for, so that another request under the same key is told
        /// from the same one again.
        content: ArtifactHash,
        /// Which.
        sweep: SweepId,
        /// How.
        control: Control,
    },
    /// An agent makes itself known.
    Register {
        /// This run of the agent.
        worker: WorkerId,
        /// Name for people.
        name: String,
        /// Version of deptune.
        version: String,
        /// Words by which a sweep may ask for it.
        labels: Vec<String>,
        /// Its slots.
        slots: Vec<SlotRecord>,
        /// Leases that an earlier run of the same agent held and that died with it.
        lost: Vec<LeaseKey>,
    },
    /// An agent reports finished attempts and asks for trials.
    Exchange {
        /// Which agent.
        worker: WorkerId,
        /// Idempotency key.
        request_id: RequestId,
        /// Attempts that ended.
        reports: Vec<Report>,
        /// Slots that want a trial.
        free_slots: Vec<u32>,
    },
    /// An agent is alive and holds these leases.
    Heartbeat {
        /// Which agent.
        worker: WorkerId,
        /// Its leases and how far they are.
        leases: Vec<LeaseProgress>,
    },
    /// Evaluations and checkpoints of running trials.
    Progress {
        /// Which agent.
        worker: WorkerId,
        /// News by trial.
        trials: Vec<TrialProgress>,
    },
    /// An agent ends and hands back what it holds.
    Leave {
        /// Which agent.
        worker: WorkerId,
    },
    /// A person wants an agent to end: it is leased nothing more, and told to hand back what it
    /// holds.
    Drain {
        /// Which agent.
        worker: WorkerId,
    },
    /// Time passed.
    Tick,
}

/// How a person changes a sweep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Leases nothing more until it is resumed; what runs goes on to its end.
    Pause,
    /// Leases again.
    Resume,
    /// Changes what it may use.
    Change(Changes),
    /// Runs trials again that ended without success, as new trials. Empty: all of them that were
    /// not run again yet.
    Retry(Vec<u64>),
    /// Cancels the sweep: every trial without an outcome is recorded as cancelled. One that has
    /// ended stays as it is.
    Cancel,
    /// Cancels one trial.
    CancelTrial(u64),
    /// Deletes the sweep and all its rows. It must have ended.
    Delete {
        /// What is answered, now and when the request comes again: later nobody can look it up.
        answer: String,
    },
}

/// What is to change; `None` stays as it is. All of it is done, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// See [`Controls::priority`].
    pub priority: Option<i32>,
    /// See [`Controls::weight`].
    pub weight: Option<u32>,
    /// See [`Controls::max_parallel`]; `Some(None)` takes the bound away.
    pub max_parallel: Option<Option<u32>>,
    /// See [`Controls::budget`]; `Some(None)` takes the bound away.
    pub budget: Option<Option<u64>>,
    /// Seeds with which every configuration runs too; those that it has are left out.
    pub add_seeds: Vec<u64>,
    /// A space whose points run too; those that the sweep has are left out. The seeds come first.
    pub add_space: Option<SpaceText>,
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Which lease.
    pub lease: LeaseKey,
    /// Evaluations not reported before.
    pub evaluations: Vec<Evaluation>,
    /// Last step that the attempt made.
    pub last_step: u64,
    /// How it ended.
    pub end: ReportEnd,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one per finished trial, never kept in lists")]
pub enum ReportEnd {
    /// The trial is finished.
    Succeeded {
        /// What it ended with.
        result: TrialResult,
        /// The best adapter, already stored.
        adapter: ArtifactHash,
    },
    /// The attempt failed.
    Failed {
        /// Why.
        class: FailureClass,
        /// In words.
        message: String,
    },
    /// The worker hands the trial back.
    Released,
}

/// A lease and how far its trial is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LeaseProgress {
    /// Which lease.
    pub lease: LeaseKey,
    /// Updates made.
    pub step: u64,
    /// Training loss of the last step.
    pub loss: Number,
    /// Updates per second.
    pub steps_per_second: f64,
}

/// News of a running trial.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialProgress {
    /// Which lease.
    pub lease: LeaseKey,
    /// Evaluations.
    pub evaluations: Vec<Evaluation>,
    /// A checkpoint, already stored.
    pub checkpoint: Option<CheckpointRef>,
}

/// What to do about an event: first make all writes durable in one transaction, then carry out
/// the effects. Never the other way round.
#[derive(Debug, Default)]
pub struct Step {
    /// Rows to store, in order.
    pub writes: Vec<Write>,
    /// What follows once they are stored.
    pub effects: Vec<Effect>,
}

/// What follows once an event's writes are durable.
#[derive(Debug)]
pub enum Effect {
    /// Answer to whoever sent the event. Exactly one per event.
    Reply(Result<Reply, Refusal>),
    /// Trials became available: agents that wait may ask again.
    WorkAvailable,
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Event::Submit`], and to [`Event::Control`] but for a deletion.
    Sweep(SweepId),
    /// To [`Control::Delete`].
    Deleted {
        /// The sweep that was.
        sweep: SweepId,
        /// What was to be answered when it was deleted; empty if an earlier version did it.
        answer: String,
    },
    /// To [`Event::Register`].
    Registered,
    /// To [`Event::Exchange`].
    Exchanged {
        /// One per report, in order.
        acks: Vec<Ack>,
        /// New leases.
        grants: Vec<Grant>,
    },
    /// To [`Event::Heartbeat`] and [`Event::Progress`].
    Heard {
        /// Leases that are over.
        stops: Vec<Stop>,
        /// Whether the agent is to end.
        drain: bool,
    },
    /// To [`Event::Leave`], [`Event::Drain`] and [`Event::Tick`].
    Done,
}

/// What came of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack {
    /// Recorded, now or before.
    Accepted,
    /// The lease is no longer the trial's.
    Stale {
        /// The trial's epoch now.
        current: Epoch,
        /// Why.
        reason: StopReason,
    },
    /// It makes no sense.
    Rejected {
        /// Why.
        reason: String,
    },
}

/// A new lease.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The trial and the epoch.
    pub lease: LeaseKey,
    /// For which slot.
    pub slot: u32,
    /// Trials with equal numbers in one answer train together.
    pub pack: u32,
    /// The trial's settings.
    pub settings: Settings,
    /// Its sweep, for the model and the data.
    pub sweep: Arc<SweepRecord>,
    /// The model's path in the spec.
    pub model_path: String,
    /// Checkpoint to continue from.
    pub checkpoint: Option<CheckpointRef>,
}

/// A lease that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Which.
    pub lease: LeaseKey,
    /// Why.
    pub reason: StopReason,
}

/// Why a lease is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The trial was given to another worker, or has its outcome from one.
    Superseded,
    /// The trial was cancelled.
    Cancelled,
    /// There is no such trial or lease.
    Unknown,
}

crate::outcome::names!(StopReason, "reason to stop",
    Superseded => "superseded", Cancelled => "cancelled", Unknown => "unknown");

/// Why an event was refused as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such sweep.
    #[error("there is no sweep {0}")]
    UnknownSweep(SweepId),
    /// No such worker, or it was given up: it should register again.
    #[error("worker {0} is not registered")]
    UnknownWorker(WorkerId),
    /// The sweep was deleted.
    #[error("sweep {0} was deleted")]
    Deleted(SweepId),
    /// No such trial.
    #[error("there is no trial {0}")]
    UnknownTrial(TrialId),
    /// The sweep's status does not allow it.
    #[error("sweep {sweep} is {status}: it cannot be {what}")]
    NotNow {
        /// The sweep.
        sweep: SweepId,
        /// Its status.
        status: SweepStatus,
        /// What cannot be done, as a participle.
        what: &'static str,
    },
    /// This trial is not run again.
    #[error("trial {trial} is not run again: {why}")]
    NotRetried {
        /// Which.
        trial: TrialId,
        /// Why.
        why: String,
    },
    /// A value that makes no sense.
    #[error("{what} must be {expected}")]
    OutOfRange {
        /// Which value.
        what: &'static str,
        /// What would make sense.
        expected: &'static str,
    },
    /// A space that is to be added is not valid.
    #[error("the added space is not valid")]
    Space(#[source] Diagnostics),
    /// The request id was used before for something else.
    #[error("request id {0} was used before for something else")]
    RequestReused(RequestId),
    /// More trials of the sweep would be cancelled at once.
    #[error(
        "the budget of sweep {0} is used up, so that more trials would be cancelled at once; raise \
         the budget first"
    )]
    BudgetSpent(SweepId),
    /// More in one request than is accepted.
    #[error("{what}: {count} in one request, at most {limit} are accepted")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there were.
        count: usize,
        /// How many are accepted.
        limit: usize,
    },
}

/// A change to the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Insert a sweep.
    Sweep(Box<SweepRecord>),
    /// Trials below this index have rows now.
    NextIndex {
        /// The sweep.
        sweep: SweepId,
        /// First index without a row.
        next_index: u64,
    },
    /// The sweep's status changed.
    SweepStatus {
        /// The sweep.
        sweep: SweepId,
        /// Its status.
        status: SweepStatus,
        /// When it ended; `None` while it runs or is paused.
        finished: Option<WallMillis>,
    },
    /// The sweep has more trials.
    SweepTotal {
        /// The sweep.
        sweep: SweepId,
        /// Number of its trials now.
        total: u64,
    },
    /// A space was added to a sweep.
    Space {
        /// The space.
        record: SpaceRecord,
        /// Keys of the training settings in which the sweep's points differ now.
        varied: Vec<&'static str>,
    },
    /// A person changed what the sweep may use.
    Controls {
        /// The sweep.
        sweep: SweepId,
        /// As it is now.
        controls: Controls,
    },
    /// Slots were busy with the sweep.
    Used {
        /// The sweep.
        sweep: SweepId,
        /// Milliseconds, all together.
        used: u64,
    },
    /// Remember that a request was carried out.
    Request(RequestRecord),
    /// Delete a sweep and all its rows; that it was there stays known, so that neither its id nor
    /// its request is used again.
    DeleteSweep {
        /// Which.
        sweep: SweepId,
        /// When.
        at: WallMillis,
    },
    /// Insert a trial.
    NewTrial {
        /// The trial.
        record: TrialRecord,
        /// Number of its configuration.
        configuration: u64,
        /// Its settings.
        settings: Box<Settings>,
    },
    /// Update a trial; refused by the store when it holds a later epoch.
    Trial(TrialRecord),
    /// Insert an attempt, or reopen it when its expired lease was revived.
    AttemptStarted(AttemptRecord),
    /// The attempt is known to have made this step.
    AttemptProgress {
        /// Which attempt.
        lease: LeaseKey,
        /// Updates made.
        last_step: u64,
    },
    /// The attempt ended.
    AttemptEnded {
        /// Which attempt.
        lease: LeaseKey,
        /// How.
        end: AttemptEnd,
        /// Why, unless it succeeded.
        class: Option<FailureClass>,
        /// In words.
        message: String,
        /// Updates that it is known to have made.
        last_step: u64,
        /// When.
        at: WallMillis,
    },
    /// Insert the trial's outcome; refused by the store when there is one, or when the trial's
    /// epoch is another.
    Outcome(Box<OutcomeRecord>),
    /// Insert an evaluation; the same (trial, split, step) again replaces it.
    Evaluation {
        /// By which attempt.
        lease: LeaseKey,
        /// When.
        at: WallMillis,
        /// The evaluation.
        evaluation: Evaluation,
    },
    /// A pack ran out of memory: remember how large the next ones may be.
    PackLimit {
        /// What was learnt.
        limit: PackLimit,
        /// When.
        at: WallMillis,
    },
    /// A pack was measured: remember what it took.
    PackMemory {
        /// What was learnt.
        memory: PackMemory,
        /// When.
        at: WallMillis,
    },
    /// Insert or update a worker.
    Worker(WorkerRecord),
    /// The worker left or was given up.
    WorkerLeft {
        /// Which.
        worker: WorkerId,
        /// When.
        at: WallMillis,
    },
    /// A report that came too late, kept as evidence.
    StaleReport {
        /// Which lease.
        lease: LeaseKey,
        /// From whom.
        worker: WorkerId,
        /// The report, in words.
        report: String,
        /// When.
        at: WallMillis,
    },
    /// Append to the log.
    Log(LogRecord),
}
