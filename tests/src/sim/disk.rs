//! An agent's disk: what its outbox holds, entry by entry, written one after the other as the
//! product's disk thread does. What a kill finds unwritten is lost; an entry is whole or absent.

use std::collections::{BTreeMap, VecDeque};

use deptune_sweep::child::Evaluation;
use deptune_sweep::id::ArtifactHash;
use deptune_sweep::scheduler::{LeaseKey, Report, ReportEnd};
use deptune_worker::outbox::Inventory;
use deptune_worker::protocol::{Action, Estate, Event, FileKind, Identity, Kept};

use super::message::content;

/// The directory.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    leases: Option<(Identity, Vec<LeaseKey>)>,
    reports: BTreeMap<LeaseKey, Report>,
    adapters: BTreeMap<LeaseKey, ArtifactHash>,
    checkpoints: BTreeMap<LeaseKey, BTreeMap<u64, (ArtifactHash, Vec<Evaluation>)>>,
    /// What is to be done, in order.
    pub(crate) work: VecDeque<Action>,
    /// Whether the first of it is being done.
    pub(crate) busy: bool,
    /// Whether writes fail.
    pub(crate) full: bool,
}

impl Disk {
    /// Carries out one action, and says what the agent hears of it.
    pub(crate) fn carry_out(&mut self, action: Action) -> Option<Event> {
        let room = if self.full { Err("no space left on device".to_owned()) } else { Ok(()) };
        match action {
            Action::KeepCheckpoint { lease, step, path, evaluations } => {
                let hash = content(&path);
                let kept = room.map(|()| {
                    let of = self.checkpoints.entry(lease).or_default();
                    of.insert(step, (hash.clone(), evaluations));
                    Kept { step, hash }
                });
                Some(Event::Kept { lease, file: FileKind::Checkpoint, kept })
            }
            Action::KeepAdapter { lease, step, path } => {
                let hash = content(&path);
                let kept = room.map(|()| {
                    self.adapters.insert(lease, hash.clone());
                    Kept { step, hash }
                });
                Some(Event::Kept { lease, file: FileKind::Adapter, kept })
            }
            Action::SaveReport(report) => {
                let lease = report.lease;
                let durable = room.is_ok();
                if durable {
                    self.reports.insert(lease, *report);
                }
                Some(Event::ReportSaved { lease, durable })
            }
            Action::SaveLeases { worker, slots, leases } => {
                let durable = room.is_ok();
                if durable {
                    self.leases = Some((Identity { worker, slots }, leases));
                }
                Some(Event::LeasesSaved { durable })
            }
            Action::Forget(lease) => {
                self.reports.remove(&lease);
                self.adapters.remove(&lease);
                self.checkpoints.remove(&lease);
                None
            }
            Action::ForgetCheckpoint { lease, step } => {
                if let Some(of) = self.checkpoints.get_mut(&lease) {
                    of.remove(&step);
                }
                None
            }
            Action::Call(_)
            | Action::Start { .. }
            | Action::Stop { .. }
            | Action::Drop { .. }
            | Action::Exit(_)
            | Action::Fail(_) => None,
        }
    }

    /// The agent was killed: of what it had asked for, at most the action under way is done.
    pub(crate) fn cut(&mut self, finishes: bool) {
        if finishes
            && self.busy
            && let Some(action) = self.work.pop_front()
        {
            self.carry_out(action);
        }
        self.work.clear();
        self.busy = false;
    }

    /// The agent ended by itself: everything is done first.
    pub(crate) fn finish(&mut self) {
        while let Some(action) = self.work.pop_front() {
            self.carry_out(action);
        }
        self.busy = false;
    }

    /// An agent whose disk was full, and that was killed before it could write down who it is,
    /// leaves what nobody can deliver: its trials run again.
    pub(crate) fn leave_lying(&mut self) {
        self.reports.clear();
        self.adapters.clear();
        self.checkpoints.clear();
    }

    /// What the next agent finds.
    #[must_use]
    pub(crate) fn estate(&self) -> Option<Estate> {
        let (identity, leases) = self.leases.clone()?;
        let mut found = Inventory::new(identity, leases);
        for (lease, of) in &self.checkpoints {
            for (&step, (hash, evaluations)) in of {
                let kept = Kept { step, hash: hash.clone() };
                found.checkpoint(*lease, kept, evaluations.clone());
            }
        }
        for (lease, report) in &self.reports {
            let whole = match &report.end {
                ReportEnd::Succeeded { adapter, .. } => self.adapters.get(lease) == Some(adapter),
                _ => true,
            };
            if whole {
                found.report(report.clone());
            }
        }
        Some(found.estate())
    }

    /// The report of a lease.
    #[must_use]
    pub(crate) fn report(&self, lease: LeaseKey) -> Option<&Report> {
        self.reports.get(&lease)
    }

    /// Leases with a report.
    pub(crate) fn reported(&self) -> impl Iterator<Item = LeaseKey> {
        self.reports.keys().copied()
    }

    /// Checkpoints of the lease that has most of them.
    #[must_use]
    pub(crate) fn most_checkpoints(&self) -> usize {
        self.checkpoints.values().map(BTreeMap::len).max().unwrap_or(0)
    }
}
