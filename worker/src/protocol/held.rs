//! A trial that the agent holds a lease of, and the pack that it trains in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use deptune_proto::convert::Assignment;
use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::metric::Number;
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::scheduler::{LeaseKey, Report, ReportEnd};

use super::event::{Kept, Millis};

/// Most evaluations in one message to the coordinator.
pub(super) const MAX_EVALUATIONS: usize = 512;

/// Evaluations of one trial that are kept while the coordinator is away; a child that sends more
/// is broken.
pub(super) const MAX_KEPT_EVALUATIONS: usize = 1 << 16;

/// A lease and how far its trial is.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) step: u64,
    pub(super) loss: Number,
    pub(super) steps_per_second: f64,
    /// Evaluations that the coordinator does not have, by (step, split): the same again replaces.
    pub(super) evaluations: BTreeMap<(u64, String), Evaluation>,
    /// A kept checkpoint on its way to the coordinator.
    pub(super) checkpoint: Option<Parcel>,
    /// A newer one, kept while the other was under way.
    pub(super) fresh: Option<Kept>,
    /// The newest that the child made while the one before was being kept.
    pub(super) next_checkpoint: Option<(u64, PathBuf)>,
    /// Whether a checkpoint is being kept right now.
    pub(super) keeping: bool,
    pub(super) end: Option<Ending>,
}

/// A kept file on its way to the coordinator.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) kept: Kept,
    pub(super) state: ParcelState,
}

/// Where a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParcelState {
    /// Not uploaded.
    Here,
    /// Being uploaded.
    Under,
    /// Uploaded; a checkpoint is not yet known to the scheduler.
    There,
}

impl Parcel {
    pub(super) fn new(kept: Kept) -> Parcel {
        Parcel { kept, state: ParcelState::Here }
    }
}

/// How the attempt ended and how far its report is.
#[derive(Debug)]
pub(super) enum Ending {
    /// The adapter is being kept.
    Keeping { result: TrialResult },
    /// The report is being put into the outbox.
    Saving { report: Report, adapter: Option<Parcel> },
    /// The report is in the outbox.
    Saved { report: Report, adapter: Option<Parcel> },
}

impl Held {
    pub(super) fn new(step: u64) -> Held {
        Held {
            step,
            loss: Number::NaN,
            steps_per_second: 0.0,
            evaluations: BTreeMap::new(),
            checkpoint: None,
            fresh: None,
            next_checkpoint: None,
            keeping: false,
            end: None,
        }
    }

    /// The report of an end. It takes the evaluations along.
    pub(super) fn report(&self, lease: LeaseKey, end: ReportEnd) -> Report {
        let evaluations = self.evaluations.values().cloned().collect();
        Report { lease, evaluations, last_step: self.step, end }
    }

    pub(super) fn failed(&self, lease: LeaseKey, class: FailureClass, message: String) -> Report {
        self.report(lease, ReportEnd::Failed { class, message })
    }

    /// The report, if nothing has to reach the coordinator before it.
    pub(super) fn deliverable(&self) -> Option<&Report> {
        let Some(Ending::Saved { report, adapter }) = &self.end else { return None };
        let stored = adapter.as_ref().is_none_or(|a| a.state == ParcelState::There);
        // Another attempt starts from the last checkpoint, so that one goes first.
        let resumable = match &report.end {
            ReportEnd::Succeeded { .. } => true,
            ReportEnd::Failed { class, .. } if !class.is_retried() => true,
            ReportEnd::Failed { .. } | ReportEnd::Released => self.has_no_checkpoint(),
        };
        let few = self.evaluations.len() <= MAX_EVALUATIONS;
        (stored && resumable && few).then_some(report)
    }

    /// Whether no checkpoint waits to reach the coordinator.
    pub(super) fn has_no_checkpoint(&self) -> bool {
        self.checkpoint.is_none()
            && self.fresh.is_none()
            && self.next_checkpoint.is_none()
            && !self.keeping
    }
}

/// A child and the members that it trains.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) run: u64,
    pub(super) leases: Vec<Assignment>,
    pub(super) phase: Phase,
    /// When it last got anywhere.
    pub(super) moved: Millis,
    pub(super) stop: Option<StopWhy>,
    /// Members that are no longer ours, or have ended.
    pub(super) gone: BTreeSet<LeaseKey>,
}

/// What a pack's run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its files are being fetched.
    Preparing { failures: u32 },
    /// Its files could not be fetched; again at this time.
    Waiting { until: Millis, failures: u32 },
    /// The child runs.
    Running,
}

/// Why a run was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopWhy {
    /// The agent goes.
    Drain,
    /// None of its trials is ours any more, or all have ended.
    Over,
    /// It made no step.
    Hang,
    /// It did not stop in time.
    Overdue,
}

impl Pack {
    pub(super) fn key_of(&self, trial: deptune_sweep::id::TrialId) -> Option<LeaseKey> {
        self.leases.iter().map(|l| l.lease).find(|k| k.trial == trial)
    }
}
