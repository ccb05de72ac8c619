//! What a worker is given.

use deptune_sweep::child::FileHash;
use deptune_sweep::hub::HubModel;
use deptune_sweep::record::{CheckpointRef, DataRef};
use deptune_sweep::scheduler::{Grant, LeaseKey};
use deptune_sweep::spec::Settings;

use super::error::{InvalidField, Problem};
use super::{field, sweep};
use crate::v1;

/// A lease as the worker reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The trial and the epoch.
    pub lease: LeaseKey,
    /// For which slot.
    pub slot: u32,
    /// Trials with equal numbers in one answer train together.
    pub pack: u32,
    /// The trial's settings.
    pub settings: Settings,
    /// The model's path in the spec.
    pub model_path: String,
    /// The model's directory on the submitter's machine, if it was there.
    pub model_dir: Option<String>,
    /// Hashes that the model's files must have.
    pub model_files: Vec<FileHash>,
    /// Whether those files can be fetched by hash.
    pub model_uploaded: bool,
    /// The hub's model.
    pub model_hub: Option<HubModel>,
    /// The data files, to be fetched by hash.
    pub data: Vec<DataRef>,
    /// Checkpoint to continue from.
    pub checkpoint: Option<CheckpointRef>,
}

impl From<Grant> for v1::Lease {
    fn from(grant: Grant) -> Self {
        let submission = &grant.sweep.submission;
        Self {
            lease: Some(grant.lease.into()),
            slot: grant.slot,
            pack: grant.pack,
            // Settings hold only strings, numbers and lists of them; their serialisation into
            // memory has no way to fail.
            settings_json: serde_json::to_string(&grant.settings).unwrap_or_default(),
            model_path: grant.model_path,
            model_dir: submission.model_dir.clone().unwrap_or_default(),
            model_files: submission.model_files.iter().cloned().map(Into::into).collect(),
            model_uploaded: submission.model_uploaded,
            model_hub: submission.model_hub.clone().map(Into::into),
            data: submission.data.iter().cloned().map(Into::into).collect(),
            checkpoint: grant.checkpoint.map(Into::into),
        }
    }
}

impl TryFrom<v1::Lease> for Assignment {
    type Error = InvalidField;

    fn try_from(wire: v1::Lease) -> Result<Self, InvalidField> {
        let settings = serde_json::from_str(&wire.settings_json)
            .map_err(|e| InvalidField::new("settings_json", Problem::Json(e.to_string())))?;
        let checkpoint = wire.checkpoint.map(CheckpointRef::try_from).transpose();
        Ok(Assignment {
            lease: field::nested(wire.lease, "lease")?,
            slot: wire.slot,
            pack: wire.pack,
            settings,
            model_path: field::text(wire.model_path, "model_path", field::MAX_PATH)?,
            model_dir: sweep::optional(wire.model_dir),
            model_files: field::list(wire.model_files, "model_files", sweep::MAX_MODEL_FILES)?,
            model_uploaded: wire.model_uploaded,
            model_hub: sweep::hub_model(wire.model_hub)?,
            data: field::list(wire.data, "data", sweep::MAX_DATA_FILES)?,
            checkpoint: checkpoint.map_err(|e| e.within("checkpoint"))?,
        })
    }
}
