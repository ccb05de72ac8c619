//! What goes into the agent and what comes out.

use std::path::PathBuf;

use deptune_proto::convert::Assignment;
use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::id::{ArtifactHash, RequestId, TrialId, WorkerId};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::SlotRecord;
use deptune_sweep::scheduler::{Ack, LeaseKey, LeaseProgress, Report, Stop, TrialProgress};

use crate::Exit;

/// Milliseconds on a clock that never jumps.
pub type Millis = u64;

/// Something that happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The agent is told to go.
    Drain,
    /// The coordinator answered a call.
    Answered(Answer),
    /// A call brought no answer.
    CallFailed {
        /// Which.
        call: CallKind,
        /// Why.
        error: CallError,
    },
    /// A child says something, or its run ended.
    Child {
        /// The slot.
        slot: u32,
        /// The run, as in [`Action::Start`]; news of an earlier run is ignored.
        run: u64,
        /// What.
        news: Box<ChildNews>,
    },
    /// A checkpoint or an adapter is kept beside the outbox.
    Kept {
        /// Whose.
        lease: LeaseKey,
        /// What.
        file: FileKind,
        /// Content and size; or why it could not be kept.
        kept: Result<Kept, String>,
    },
    /// Somebody looked whether the disk has room for trials.
    Room {
        /// Whether it has. Without, none is asked for.
        enough: bool,
    },
    /// The leases are written down, or could not be.
    LeasesSaved {
        /// Whether they would survive this process.
        durable: bool,
    },
    /// A report is in the outbox. `false`: it could not be written, and lives in memory only.
    ReportSaved {
        /// Whose.
        lease: LeaseKey,
        /// Whether it would survive this process.
        durable: bool,
    },
}

/// An answer of the coordinator.
#[derive(Debug, Clone)]
pub enum Answer {
    /// To [`Call::Register`].
    Registered {
        /// Milliseconds between heartbeats.
        heartbeat: u64,
    },
    /// To [`Call::Exchange`].
    Exchanged {
        /// Of which request.
        request_id: RequestId,
        /// One per report, in order.
        acks: Vec<Ack>,
        /// New leases.
        leases: Vec<Assignment>,
        /// Where a slot got nothing: ask again after this many milliseconds.
        retry_after: u64,
    },
    /// To [`Call::Heartbeat`].
    HeartbeatHeard {
        /// Leases that are over.
        stops: Vec<Stop>,
        /// Whether somebody asked for this agent to end.
        drain: bool,
    },
    /// To [`Call::Progress`].
    ProgressRecorded {
        /// Leases that are over.
        stops: Vec<Stop>,
    },
    /// To [`Call::Upload`]: the file is stored.
    Uploaded {
        /// Whose.
        lease: LeaseKey,
        /// What.
        file: FileKind,
        /// Its hash.
        hash: ArtifactHash,
    },
    /// To [`Call::Leave`].
    Left,
}

/// A call to the coordinator.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Make the agent known.
    Register {
        /// Under this id.
        worker: WorkerId,
        /// With these slots.
        slots: Vec<SlotRecord>,
        /// Leases that did not survive an earlier agent.
        lost: Vec<LeaseKey>,
    },
    /// Report finished attempts and lease.
    Exchange {
        /// Who.
        worker: WorkerId,
        /// The same again for the same content.
        request_id: RequestId,
        /// Finished attempts.
        reports: Vec<Report>,
        /// Slots that want a trial.
        free_slots: Vec<u32>,
    },
    /// Keep leases alive.
    Heartbeat {
        /// Who.
        worker: WorkerId,
        /// All leases held.
        leases: Vec<LeaseProgress>,
    },
    /// Deliver evaluations and checkpoints.
    Progress {
        /// Who.
        worker: WorkerId,
        /// By trial.
        trials: Vec<TrialProgress>,
    },
    /// Store a file that is kept beside the outbox.
    Upload {
        /// Whose.
        lease: LeaseKey,
        /// What.
        file: FileKind,
        /// Which.
        kept: Kept,
    },
    /// Say goodbye.
    Leave {
        /// Who.
        worker: WorkerId,
    },
}

/// A call without its content. At most one of each is in flight, and two exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallKind {
    /// [`Call::Register`].
    Register,
    /// [`Call::Exchange`].
    Exchange(RequestId),
    /// [`Call::Heartbeat`].
    Heartbeat,
    /// [`Call::Progress`].
    Progress,
    /// [`Call::Upload`].
    Upload {
        /// Whose.
        lease: LeaseKey,
        /// What.
        file: FileKind,
        /// Its hash.
        hash: ArtifactHash,
    },
    /// [`Call::Leave`].
    Leave,
}

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// The coordinator cannot be reached, is busy, or is starting: try again.
    Unreachable(String),
    /// A file that the call names is not there, although it was: upload it again.
    MissingFile,
    /// It does not know this worker: register again.
    UnknownWorker,
    /// It refuses this caller: the token is wrong.
    Denied(String),
    /// It refuses the call's content, and would again.
    Refused(String),
}

/// A file kept beside the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A checkpoint.
    Checkpoint,
    /// The best adapter of a finished trial.
    Adapter,
}

/// Content of a kept file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Updates that it contains; for an adapter the trial's last step.
    pub step: u64,
    /// Hash of the content.
    pub hash: ArtifactHash,
}

/// What a child says.
#[derive(Debug, Clone)]
pub enum ChildNews {
    /// Its files are here and the process runs.
    Spawned,
    /// Its files could not be fetched now.
    NotReady {
        /// Why.
        message: String,
    },
    /// It cannot run on this node, or at all.
    CannotRun {
        /// Why, as a class.
        class: FailureClass,
        /// In words.
        message: String,
    },
    /// Model and data are loaded.
    Started,
    /// Updates were made.
    Progress {
        /// The trial.
        trial: TrialId,
        /// Updates so far.
        step: u64,
        /// Loss of the last.
        loss: Number,
        /// Updates per second.
        steps_per_second: f64,
    },
    /// An evaluation.
    Eval {
        /// The trial.
        trial: TrialId,
        /// The evaluation.
        evaluation: Evaluation,
    },
    /// A checkpoint is complete.
    Checkpoint {
        /// The trial.
        trial: TrialId,
        /// Updates that it contains.
        step: u64,
        /// Where the child left it.
        path: PathBuf,
    },
    /// The trial is finished.
    Done {
        /// The trial.
        trial: TrialId,
        /// What it ended with.
        result: TrialResult,
        /// Where the child left the best adapter.
        adapter: PathBuf,
    },
    /// The trial failed.
    Failed {
        /// The trial.
        trial: TrialId,
        /// Why, as a class.
        class: FailureClass,
        /// In words.
        message: String,
    },
    /// The process and its whole group are gone.
    Exited {
        /// Class of members that are not known to have ended: crashed, or out of memory.
        class: FailureClass,
        /// How the process ended, in words.
        message: String,
    },
}

/// How to stop a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopHow {
    /// Ask it to checkpoint and exit.
    Ask,
    /// End it and everything it started: ask, wait five seconds, kill.
    End,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Call the coordinator.
    Call(Call),
    /// Fetch the files of a pack and spawn a child for it.
    Start {
        /// The slot.
        slot: u32,
        /// Number of the run, for the news of it.
        run: u64,
        /// The members.
        pack: Vec<Assignment>,
    },
    /// Stop a run, whatever it is doing. Answered by [`ChildNews::Exited`].
    Stop {
        /// The slot.
        slot: u32,
        /// The run.
        run: u64,
        /// How.
        how: StopHow,
    },
    /// Let a member of a run stand still; the others go on.
    Drop {
        /// The slot.
        slot: u32,
        /// The run.
        run: u64,
        /// Its lease, which is no longer ours.
        lease: LeaseKey,
    },
    /// Keep a checkpoint beside the outbox, durably, with the evaluations that the coordinator
    /// does not have yet. Answered by [`Event::Kept`].
    KeepCheckpoint {
        /// Whose.
        lease: LeaseKey,
        /// Updates that it contains.
        step: u64,
        /// Where the child left it.
        path: PathBuf,
        /// Evaluations not yet recorded by the coordinator.
        evaluations: Vec<Evaluation>,
    },
    /// Keep an adapter beside the outbox, durably. Answered by [`Event::Kept`].
    KeepAdapter {
        /// Whose.
        lease: LeaseKey,
        /// The trial's last step.
        step: u64,
        /// Where the child left it.
        path: PathBuf,
    },
    /// Put a report into the outbox, durably. Answered by [`Event::ReportSaved`].
    SaveReport(Box<Report>),
    /// Write down which leases this worker holds. Answered by [`Event::LeasesSaved`].
    SaveLeases {
        /// The worker.
        worker: WorkerId,
        /// Its slots.
        slots: Vec<SlotRecord>,
        /// Its leases.
        leases: Vec<LeaseKey>,
    },
    /// Delete everything that the outbox holds of a lease.
    Forget(LeaseKey),
    /// Delete a checkpoint that the coordinator has.
    ForgetCheckpoint {
        /// Whose.
        lease: LeaseKey,
        /// Which.
        step: u64,
    },
    /// The agent has ended; nothing follows.
    Exit(Exit),
    /// The coordinator refused the agent; nothing follows.
    Fail(String),
}
