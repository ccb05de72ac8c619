//! Submissions, and how a sweep is named.

use deptune_sweep::hub::{HubModel, is_commit, is_repo};
use deptune_sweep::id::RequestId;
use deptune_sweep::record::Submission;
use deptune_sweep::spec::MAX_SPEC_BYTES;

use super::error::{InvalidField, Problem};
use super::field;
use crate::v1;

/// Longest `config.json`, in bytes.
pub const MAX_MODEL_CONFIG: usize = 256 << 10;
/// Most files of one model.
pub const MAX_MODEL_FILES: usize = 1024;
/// Most data files of one sweep.
pub const MAX_DATA_FILES: usize = 256;

/// A submission and its idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSweep {
    /// Idempotency key.
    pub request_id: RequestId,
    /// What is submitted.
    pub submission: Submission,
}

/// A sweep as a caller names it: by its number, or by its name (the latest of that name).
///
/// # Errors
/// When it is empty, too long, or holds control characters.
pub fn sweep_ref(value: String, field: &str) -> Result<String, InvalidField> {
    field::name(value, field)
}

pub(super) fn optional(value: String) -> Option<String> {
    Some(value).filter(|v| !v.is_empty())
}

impl From<HubModel> for v1::HubModel {
    fn from(model: HubModel) -> Self {
        Self { repo: model.repo, commit: model.commit }
    }
}

/// The hub's model. Its parts become parts of paths and addresses, so they are checked.
pub(super) fn hub_model(wire: Option<v1::HubModel>) -> Result<Option<HubModel>, InvalidField> {
    let Some(v1::HubModel { repo, commit }) = wire else { return Ok(None) };
    if !is_repo(&repo) {
        return Err(field::unknown(&repo, "model_hub.repo", "ORG/NAME"));
    }
    if !is_commit(&commit) {
        return Err(field::unknown(&commit, "model_hub.commit", "40 hexadecimal digits"));
    }
    Ok(Some(HubModel { repo, commit }))
}

impl From<NewSweep> for v1::SubmitSweepRequest {
    fn from(sweep: NewSweep) -> Self {
        let submission = sweep.submission;
        Self {
            request_id: sweep.request_id.to_string(),
            spec: submission.spec,
            format: submission.format,
            model_config: submission.model_config,
            model_dir: submission.model_dir.unwrap_or_default(),
            model_files: submission.model_files.into_iter().map(Into::into).collect(),
            model_uploaded: submission.model_uploaded,
            model_hub: submission.model_hub.map(Into::into),
            data: submission.data.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::SubmitSweepRequest> for NewSweep {
    type Error = InvalidField;

    fn try_from(wire: v1::SubmitSweepRequest) -> Result<Self, InvalidField> {
        let request_id = field::request_id(&wire.request_id, "request_id")?;
        if !matches!(wire.format.as_str(), "toml" | "json") {
            return Err(field::unknown(&wire.format, "format", "toml or json"));
        }
        for (value, name) in [(&wire.spec, "spec"), (&wire.model_config, "model_config")] {
            if value.is_empty() {
                return Err(InvalidField::new(name, Problem::Missing));
            }
        }
        let submission = Submission {
            spec: field::text(wire.spec, "spec", MAX_SPEC_BYTES)?,
            format: wire.format,
            model_config: field::text(wire.model_config, "model_config", MAX_MODEL_CONFIG)?,
            model_dir: optional(field::text(wire.model_dir, "model_dir", field::MAX_PATH)?),
            model_files: field::list(wire.model_files, "model_files", MAX_MODEL_FILES)?,
            model_uploaded: wire.model_uploaded,
            model_hub: hub_model(wire.model_hub)?,
            data: field::list(wire.data, "data", MAX_DATA_FILES)?,
        };
        if submission.model_uploaded && submission.model_files.is_empty() {
            return Err(InvalidField::new("model_files", Problem::Missing));
        }
        Ok(NewSweep { request_id, submission })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> v1::SubmitSweepRequest {
        v1::SubmitSweepRequest {
            request_id: "6f1c1f0a-6f0e-4c5e-9a51-0d8f3c0a7b11".to_owned(),
            spec: "name = \"x\"".to_owned(),
            format: "toml".to_owned(),
            model_config: "{}".to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn a_submission_survives_the_wire() {
        let sweep = NewSweep::try_from(wire()).unwrap();
        assert_eq!(v1::SubmitSweepRequest::from(sweep), wire());
    }

    #[test]
    fn a_model_of_the_hub_is_a_repository_and_a_commit() {
        let with = |repo: &str, commit: &str| {
            let model_hub = Some(v1::HubModel { repo: repo.to_owned(), commit: commit.to_owned() });
            NewSweep::try_from(v1::SubmitSweepRequest { model_hub, ..wire() })
        };
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let sweep = with("google-t5/t5-base", commit).unwrap();
        assert_eq!(sweep.submission.model_hub.unwrap().commit, commit);
        assert_eq!(with("../etc", commit).unwrap_err().field, "model_hub.repo");
        assert_eq!(with("google-t5/t5-base", "main").unwrap_err().field, "model_hub.commit");
    }

    #[test]
    fn a_spec_beyond_the_limit_is_refused() {
        let mut long = wire();
        long.spec = "#".repeat(MAX_SPEC_BYTES + 1);
        let error = NewSweep::try_from(long).unwrap_err();
        assert_eq!(error.field, "spec");
        assert!(matches!(error.problem, Problem::TooLong { .. }));
    }

    #[test]
    fn a_model_file_outside_its_directory_is_refused() {
        let mut outside = wire();
        outside.model_files =
            vec![v1::FileHash { name: "../../etc/passwd".to_owned(), hash: "0".repeat(64) }];
        assert_eq!(NewSweep::try_from(outside).unwrap_err().field, "model_files[0].name");
    }
}
