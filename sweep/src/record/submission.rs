//! What a client submits, and how it is read.

use serde::{Deserialize, Serialize};

use crate::child::FileHash;
use crate::hub::HubModel;
use crate::id::ArtifactHash;
use crate::model::{ModelConfig, ModelError};
use crate::spec::{Diagnostic, Diagnostics, Format, Spec};

/// What a client submits: the spec's text and what its paths meant on the client's machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The spec, TOML or JSON.
    pub spec: String,
    /// `toml` or `json`.
    pub format: String,
    /// The model's `config.json`.
    pub model_config: String,
    /// The model's directory on the submitter's machine, when it was there.
    pub model_dir: Option<String>,
    /// Hashes of the model's files, when the submitter had them.
    pub model_files: Vec<FileHash>,
    /// Whether the coordinator holds those files, so that workers fetch them by hash.
    pub model_uploaded: bool,
    /// The hub's model, at the commit that its name meant at submission.
    pub model_hub: Option<HubModel>,
    /// The data files, held by the coordinator.
    pub data: Vec<DataRef>,
}

/// The role of a source adapter among a submission's files.
pub const SOURCE: &str = "source";

/// A data file, or a source adapter, by hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataRef {
    /// `train`, `validation` or `test`; [`SOURCE`] for a source adapter.
    pub split: String,
    /// The name in the spec.
    pub name: String,
    /// Content hash.
    pub hash: ArtifactHash,
    /// Bytes.
    pub size: u64,
}

/// The text of an added space: a section `[space]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceText {
    /// The text.
    pub text: String,
    /// How it is written.
    pub format: Format,
}

/// A submission that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SubmissionError {
    /// The spec is not valid.
    #[error("the spec is not valid")]
    Spec(#[source] Diagnostics),
    /// The model's configuration is not valid.
    #[error("the model's config.json is not valid")]
    Model(#[source] ModelError),
}

impl Submission {
    /// Hash of everything that the sweep's trials depend on; the submitter's directory is not
    /// part of it.
    #[must_use]
    pub fn hash(&self) -> ArtifactHash {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(self.spec.as_bytes());
        field(self.format.as_bytes());
        field(self.model_config.as_bytes());
        for file in &self.model_files {
            field(file.name.as_bytes());
            field(file.hash.as_bytes());
        }
        if let Some(hub) = &self.model_hub {
            field(hub.repo.as_bytes());
            field(hub.commit.as_bytes());
        }
        for data in &self.data {
            field(data.split.as_bytes());
            field(data.name.as_bytes());
            field(data.hash.as_str().as_bytes());
        }
        ArtifactHash::from_digest(hasher.finalize().as_bytes())
    }

    /// Reads the spec against the model's configuration.
    ///
    /// # Errors
    /// When either is not valid.
    pub fn parse(&self) -> Result<Spec, SubmissionError> {
        let model = self.model().map_err(SubmissionError::Model)?;
        Spec::parse(&self.spec, self.format(), Some(&model)).map_err(SubmissionError::Spec)
    }

    /// Reads a space that is added: a spec that differs from the sweep's in the grid alone.
    ///
    /// # Errors
    /// When it is not valid, or starts from an adapter that was not submitted.
    pub fn parse_space(&self, space: &SpaceText) -> Result<Spec, Diagnostics> {
        let text = (space.text.as_str(), space.format);
        let spec = Spec::with_space((&self.spec, self.format()), text, self.model().ok().as_ref())?;
        let unknown: Vec<Diagnostic> = (spec.space.source.iter().flatten())
            .filter(|name| !self.has_source(name))
            .map(|name| {
                let message =
                    format!("the source adapter '{name}' was not submitted with the sweep");
                let hint = "submit another sweep to start from other adapters".to_owned();
                Diagnostic::at(&space.text, space.format, "space.source", message, Some(hint))
            })
            .collect();
        if unknown.is_empty() { Ok(spec) } else { Err(Diagnostics(unknown)) }
    }

    /// Whether a source adapter of this name is among the files.
    #[must_use]
    pub fn has_source(&self, name: &str) -> bool {
        self.data.iter().any(|data| data.split == SOURCE && data.name == *name)
    }

    fn model(&self) -> Result<ModelConfig, ModelError> {
        ModelConfig::parse("config.json", &self.model_config)
    }

    fn format(&self) -> Format {
        if self.format == "json" { Format::Json } else { Format::Toml }
    }
}
