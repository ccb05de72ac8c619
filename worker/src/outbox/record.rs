//! The JSON files.

use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::id::{ArtifactHash, Epoch, TrialId, WorkerId};
use deptune_sweep::outcome::FailureClass;
use deptune_sweep::record::SlotRecord;
use deptune_sweep::scheduler::{LeaseKey, Report, ReportEnd};
use serde::{Deserialize, Serialize};

use crate::protocol::Identity;

/// Version of these files; others are foreign.
pub(super) const VERSION: u32 = 1;

/// A lease, in JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    trial: TrialId,
    epoch: Epoch,
}

impl From<LeaseKey> for Lease {
    fn from(key: LeaseKey) -> Lease {
        Lease { trial: key.trial, epoch: key.epoch }
    }
}

impl From<Lease> for LeaseKey {
    fn from(lease: Lease) -> LeaseKey {
        LeaseKey { trial: lease.trial, epoch: lease.epoch }
    }
}

/// `leases.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LeasesFile {
    pub(super) version: u32,
    worker: WorkerId,
    slots: Vec<SlotRecord>,
    leases: Vec<Lease>,
}

impl LeasesFile {
    pub(super) fn new(identity: &Identity, leases: &[LeaseKey]) -> LeasesFile {
        LeasesFile {
            version: VERSION,
            worker: identity.worker,
            slots: identity.slots.clone(),
            leases: leases.iter().copied().map(Into::into).collect(),
        }
    }

    pub(super) fn read(self) -> (Identity, Vec<LeaseKey>) {
        let leases = self.leases.into_iter().map(Into::into).collect();
        (Identity { worker: self.worker, slots: self.slots }, leases)
    }
}

/// `checkpoint-*.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointFile {
    pub(super) version: u32,
    lease: Lease,
    pub(super) step: u64,
    pub(super) hash: ArtifactHash,
    pub(super) evaluations: Vec<Evaluation>,
}

impl CheckpointFile {
    pub(super) fn new(
        lease: LeaseKey,
        step: u64,
        hash: ArtifactHash,
        evaluations: Vec<Evaluation>,
    ) -> CheckpointFile {
        CheckpointFile { version: VERSION, lease: lease.into(), step, hash, evaluations }
    }

    pub(super) fn lease(&self) -> LeaseKey {
        self.lease.into()
    }
}

/// `report-*.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReportFile {
    pub(super) version: u32,
    lease: Lease,
    evaluations: Vec<Evaluation>,
    last_step: u64,
    end: End,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
enum End {
    Succeeded { result: Box<TrialResult>, adapter: ArtifactHash },
    Failed { class: FailureClass, message: String },
    Released {},
}

impl ReportFile {
    pub(super) fn new(report: &Report) -> ReportFile {
        let end = match &report.end {
            ReportEnd::Succeeded { result, adapter } => {
                End::Succeeded { result: Box::new(result.clone()), adapter: adapter.clone() }
            }
            ReportEnd::Failed { class, message } => {
                End::Failed { class: *class, message: message.clone() }
            }
            ReportEnd::Released => End::Released {},
        };
        ReportFile {
            version: VERSION,
            lease: report.lease.into(),
            evaluations: report.evaluations.clone(),
            last_step: report.last_step,
            end,
        }
    }

    pub(super) fn read(self) -> Report {
        let end = match self.end {
            End::Succeeded { result, adapter } => ReportEnd::Succeeded { result: *result, adapter },
            End::Failed { class, message } => ReportEnd::Failed { class, message },
            End::Released {} => ReportEnd::Released,
        };
        Report {
            lease: self.lease.into(),
            evaluations: self.evaluations,
            last_step: self.last_step,
            end,
        }
    }
}
