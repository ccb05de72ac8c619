//! Trials, leases, hashes of files, checkpoints.

use deptune_sweep::child::FileHash;
use deptune_sweep::id::{Epoch, SweepId, TrialId};
use deptune_sweep::record::{CheckpointRef, DataRef, SOURCE};
use deptune_sweep::scheduler::{LeaseKey, Stop, StopReason};

use super::error::InvalidField;
use super::field;
use crate::v1;

impl From<TrialId> for v1::TrialId {
    fn from(id: TrialId) -> Self {
        Self { sweep: id.sweep.0, index: id.index }
    }
}

impl TryFrom<v1::TrialId> for TrialId {
    type Error = InvalidField;

    fn try_from(wire: v1::TrialId) -> Result<Self, InvalidField> {
        Ok(TrialId {
            sweep: SweepId(field::count(wire.sweep, "sweep")?),
            index: field::count(wire.index, "index")?,
        })
    }
}

impl From<LeaseKey> for v1::LeaseRef {
    fn from(key: LeaseKey) -> Self {
        Self { trial: Some(key.trial.into()), epoch: key.epoch.0 }
    }
}

impl TryFrom<v1::LeaseRef> for LeaseKey {
    type Error = InvalidField;

    fn try_from(wire: v1::LeaseRef) -> Result<Self, InvalidField> {
        Ok(LeaseKey { trial: field::nested(wire.trial, "trial")?, epoch: Epoch(wire.epoch) })
    }
}

impl From<FileHash> for v1::FileHash {
    fn from(file: FileHash) -> Self {
        Self { name: file.name, hash: file.hash }
    }
}

impl TryFrom<v1::FileHash> for FileHash {
    type Error = InvalidField;

    fn try_from(wire: v1::FileHash) -> Result<Self, InvalidField> {
        let hash = field::hash(&wire.hash, "hash")?;
        Ok(FileHash { name: field::file_name(wire.name, "name")?, hash: hash.as_str().to_owned() })
    }
}

impl From<DataRef> for v1::DataRef {
    fn from(data: DataRef) -> Self {
        Self {
            split: data.split,
            name: data.name,
            hash: data.hash.as_str().to_owned(),
            size: data.size,
        }
    }
}

impl TryFrom<v1::DataRef> for DataRef {
    type Error = InvalidField;

    fn try_from(wire: v1::DataRef) -> Result<Self, InvalidField> {
        Ok(DataRef {
            split: match wire.split.as_str() {
                SOURCE => wire.split,
                _ => field::split(wire.split, "split")?,
            },
            name: field::text(wire.name, "name", field::MAX_PATH)?,
            hash: field::hash(&wire.hash, "hash")?,
            size: field::count(wire.size, "size")?,
        })
    }
}

impl From<CheckpointRef> for v1::Checkpoint {
    fn from(checkpoint: CheckpointRef) -> Self {
        Self { step: checkpoint.step, hash: checkpoint.hash.as_str().to_owned() }
    }
}

impl TryFrom<v1::Checkpoint> for CheckpointRef {
    type Error = InvalidField;

    fn try_from(wire: v1::Checkpoint) -> Result<Self, InvalidField> {
        Ok(CheckpointRef {
            step: field::count(wire.step, "step")?,
            hash: field::hash(&wire.hash, "hash")?,
        })
    }
}

impl From<Stop> for v1::Stop {
    fn from(stop: Stop) -> Self {
        Self { lease: Some(stop.lease.into()), reason: stop.reason.as_str().to_owned() }
    }
}

impl TryFrom<v1::Stop> for Stop {
    type Error = InvalidField;

    fn try_from(wire: v1::Stop) -> Result<Self, InvalidField> {
        let expected = "superseded, cancelled or unknown";
        Ok(Stop {
            lease: field::nested(wire.lease, "lease")?,
            reason: field::word::<StopReason>(&wire.reason, "reason", expected)?,
        })
    }
}
