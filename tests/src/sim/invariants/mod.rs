//! The invariants, one file each. They see everything that is committed, answered, sent and
//! restored, and never look at how the product came to it.

mod i01_one_outcome;
mod i02_epoch_of_outcome;
mod i03_epochs_rise;
mod i04_conservation;
mod i05_capacity;
mod i06_attempts;
mod i07_acked_is_durable;
mod i08_store_is_truth;
mod i09_same_request;
mod i10_restore;
mod i11_log_replays;
mod i12_one_leader;
mod i13_nothing_starves;
mod i17_bounded;

use deptune_coordinator::runtime::Error;
use deptune_sweep::id::{RequestId, SweepId};
use deptune_sweep::record::TrialRecord;
use deptune_sweep::scheduler::{Ack, LeaseKey, Now, Reply, Report, Scheduler, StopReason, Write};
use deptune_worker::protocol::{Answer, Call, CallError, CallKind};

use super::counters::Counters;
use super::front::Ask;
use super::ledger::Ledger;
use crate::sim::files::Files;

/// A violated invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub id: &'static str,
    /// How.
    pub words: String,
}

impl Broken {
    /// A violation.
    #[must_use]
    pub(crate) fn new(id: &'static str, words: String) -> Broken {
        Broken { id, words }
    }
}

/// A commit that took place.
#[derive(Debug)]
pub(crate) struct Commit<'a> {
    /// Generation of the coordinator that made it.
    pub(crate) ours: i64,
    /// The newest generation of the store.
    pub(crate) newest: i64,
    /// What was written.
    pub(crate) writes: &'a [Write],
    /// The scheduler that said so.
    pub(crate) scheduler: &'a Scheduler,
    /// The world's time when it decided.
    pub(crate) decided: u64,
    /// For how much of it the clock of that coordinator has stalled so far.
    pub(crate) stood: u64,
    /// The files that the coordinators hold.
    pub(crate) artifacts: &'a Files,
}

/// Something that an invariant may care about.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A write, before the ledger knows it.
    Write(&'a Write, &'a Commit<'a>),
    /// A commit, after the ledger knows all of it.
    Committed(&'a Commit<'a>),
    /// A coordinator answers; `stale`: it is not the newest.
    Answered(&'a Ask, &'a Result<Reply, Error>, bool),
    /// A scheduler was rebuilt.
    Restored(&'a Scheduler, Now),
    /// An agent calls.
    Called(usize, &'a Call),
    /// An agent hears an answer.
    Heard(usize, &'a Answer),
    /// A call of an agent failed.
    Failed(usize, &'a CallKind, &'a CallError),
    /// An agent deletes what its outbox holds of a lease.
    Forgotten(usize, LeaseKey, Option<&'a Report>),
    /// An agent is gone.
    Died(usize),
    /// A client was told that its change of a sweep is done; whether that cancelled it.
    ControlAcknowledged(RequestId, SweepId, bool),
    /// Requests wait for a coordinator.
    Queue(usize),
    /// A look at everything.
    Scan(&'a Scan<'a>),
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    /// The leader's memory, and its time.
    pub(crate) scheduler: Option<(&'a Scheduler, Now)>,
    /// All trials of the store, by id.
    pub(crate) trials: &'a [&'a TrialRecord],
    /// The files that the coordinators hold.
    pub(crate) artifacts: &'a Files,
    /// Most checkpoints of one lease in any outbox.
    pub(crate) checkpoints: usize,
}

trait Invariant: std::fmt::Debug {
    fn id(&self) -> &'static str;
    fn see(&mut self, ledger: &Ledger, seen: &Seen<'_>) -> Result<(), String>;
}

/// The ledger and all invariants.
#[derive(Debug)]
pub(crate) struct Checks {
    /// What was committed.
    pub(crate) ledger: Ledger,
    all: Vec<Box<dyn Invariant>>,
}

impl Default for Checks {
    fn default() -> Checks {
        Checks {
            ledger: Ledger::default(),
            all: vec![
                Box::<i12_one_leader::OneLeader>::default(),
                Box::<i01_one_outcome::OneOutcome>::default(),
                Box::<i02_epoch_of_outcome::EpochOfOutcome>::default(),
                Box::<i03_epochs_rise::EpochsRise>::default(),
                Box::<i04_conservation::Conservation>::default(),
                Box::<i05_capacity::Capacity>::default(),
                Box::<i06_attempts::Attempts>::default(),
                Box::<i07_acked_is_durable::AckedIsDurable>::default(),
                Box::<i08_store_is_truth::StoreIsTruth>::default(),
                Box::<i09_same_request::SameRequest>::default(),
                Box::<i10_restore::Restore>::default(),
                Box::<i11_log_replays::LogReplays>::default(),
                Box::<i13_nothing_starves::NothingStarves>::default(),
                Box::<i17_bounded::Bounded>::default(),
            ],
        }
    }
}

impl Checks {
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Broken> {
        for invariant in &mut self.all {
            let id = invariant.id();
            invariant.see(&self.ledger, seen).map_err(|words| Broken { id, words })?;
        }
        Ok(())
    }

    /// A commit took place.
    pub(crate) fn committed(
        &mut self,
        commit: &Commit<'_>,
        counters: &mut Counters,
    ) -> Result<(), Broken> {
        self.ledger.touched.clear();
        for write in commit.writes {
            self.see(&Seen::Write(write, commit))?;
            self.ledger.apply(write, counters);
        }
        self.see(&Seen::Committed(commit))
    }

    /// A coordinator answers.
    pub(crate) fn answered(
        &mut self,
        ask: &Ask,
        answer: &Result<Reply, Error>,
        stale: bool,
        counters: &mut Counters,
    ) -> Result<(), Broken> {
        match answer {
            Ok(Reply::Exchanged { acks, .. }) => {
                for ack in acks {
                    counters.count(match ack {
                        Ack::Accepted => "report: accepted",
                        Ack::Stale { .. } => "report: stale",
                        Ack::Rejected { .. } => "report: rejected",
                    });
                }
            }
            Ok(Reply::Heard { stops, .. }) => {
                for stop in stops {
                    counters.count(match stop.reason {
                        StopReason::Superseded => "lease: stopped, superseded",
                        StopReason::Cancelled => "lease: stopped, cancelled",
                        StopReason::Unknown => "lease: stopped, unknown",
                    });
                }
            }
            _ => {}
        }
        self.see(&Seen::Answered(ask, answer, stale))
    }

    /// A scheduler was rebuilt.
    pub(crate) fn restored(&mut self, scheduler: &Scheduler, now: Now) -> Result<(), Broken> {
        self.see(&Seen::Restored(scheduler, now))
    }

    /// An agent calls.
    pub(crate) fn called(&mut self, node: usize, call: &Call) -> Result<(), Broken> {
        self.see(&Seen::Called(node, call))
    }

    /// An agent hears an answer.
    pub(crate) fn heard(&mut self, node: usize, answer: &Answer) -> Result<(), Broken> {
        self.see(&Seen::Heard(node, answer))
    }

    /// A call of an agent failed.
    pub(crate) fn call_failed(
        &mut self,
        node: usize,
        call: &CallKind,
        error: &CallError,
    ) -> Result<(), Broken> {
        self.see(&Seen::Failed(node, call, error))
    }

    /// An agent deletes a lease's files.
    pub(crate) fn forgotten(
        &mut self,
        node: usize,
        lease: LeaseKey,
        report: Option<&Report>,
    ) -> Result<(), Broken> {
        self.see(&Seen::Forgotten(node, lease, report))
    }

    /// An agent is gone.
    pub(crate) fn agent_died(&mut self, node: usize) -> Result<(), Broken> {
        self.see(&Seen::Died(node))
    }

    /// A client was told that its change of a sweep is done; whether that cancelled it.
    pub(crate) fn control_acknowledged(
        &mut self,
        request: RequestId,
        sweep: SweepId,
        cancels: bool,
    ) -> Result<(), Broken> {
        self.see(&Seen::ControlAcknowledged(request, sweep, cancels))
    }

    /// Requests wait for a coordinator.
    pub(crate) fn queue_length(&mut self, length: usize) -> Result<(), Broken> {
        self.see(&Seen::Queue(length))
    }

    /// A look at everything.
    pub(crate) fn scan(&mut self, scan: &Scan<'_>) -> Result<(), Broken> {
        self.see(&Seen::Scan(scan))
    }
}
