//! A directory with a trained adapter: the numbers and what is needed to use them.

use std::path::{Path, PathBuf};

use deptune_sweep::metric::Number;
use deptune_sweep::spec::Settings;
use serde::{Deserialize, Serialize};

use crate::output::error::Error;

/// The numbers, safetensors.
pub(crate) const WEIGHTS: &str = "adapter_model.safetensors";

/// Everything else.
pub(crate) const MANIFEST: &str = "adapter_config.json";

/// The same where [`MANIFEST`] is in another program's layout.
pub(crate) const MANIFEST_BESIDE: &str = "deptune_adapter.json";

/// Version of the manifest.
pub(crate) const FORMAT: u32 = 1;

/// What [`MANIFEST`] holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// [`FORMAT`].
    pub(crate) format: u32,
    /// Version of deptune that wrote it.
    pub(crate) deptune: String,
    /// The model's path in the spec; use the same model.
    pub(crate) base_model_name_or_path: String,
    /// Name of the sweep.
    pub(crate) sweep_name: String,
    /// The trial, as `sweep.index`.
    pub(crate) trial: String,
    /// Hash of what was submitted.
    pub(crate) spec_hash: String,
    /// blake3 hash of [`WEIGHTS`].
    pub(crate) adapter_hash: String,
    /// Name of the selection metric.
    pub(crate) metric_name: String,
    /// Its value on the validation split.
    pub(crate) metric: Number,
    /// The best constant answer's value there.
    pub(crate) constant_answer: Number,
    /// Its value on the test split, if the task has one.
    pub(crate) test_metric: Option<Number>,
    /// Updates after which the adapter was taken.
    pub(crate) best_step: u64,
    /// What the trial was trained with.
    pub(crate) settings: Settings,
}

/// An adapter directory that was read.
pub(crate) struct Adapter {
    /// Where the numbers are.
    pub(crate) weights: PathBuf,
    /// The rest.
    pub(crate) manifest: Manifest,
}

impl Adapter {
    /// Reads a directory that `deptune adapter get` wrote.
    ///
    /// # Errors
    /// A file that is missing or holds something else.
    pub(crate) fn open(dir: &Path) -> Result<Adapter, Error> {
        let beside = dir.join(MANIFEST_BESIDE);
        let path = if beside.is_file() { beside } else { dir.join(MANIFEST) };
        let text = std::fs::read_to_string(&path).map_err(|source| Error::Unusable {
            path: path.clone(),
            hint: "give a directory that 'deptune adapter get SWEEP --best -o DIR' wrote"
                .to_owned(),
            source: source.into(),
        })?;
        let manifest: Manifest = serde_json::from_str(&text).map_err(|source| Error::Unusable {
            path: path.clone(),
            hint: "fetch the adapter again with 'deptune adapter get', of the same version"
                .to_owned(),
            source: source.into(),
        })?;
        if manifest.format != FORMAT {
            return Err(Error::Usage {
                what: format!(
                    "{} has format {}, this version reads {FORMAT}",
                    path.display(),
                    manifest.format
                ),
                hint: "fetch the adapter again with 'deptune adapter get'".to_owned(),
            });
        }
        let weights = dir.join(WEIGHTS);
        if !weights.is_file() {
            return Err(Error::Nothing {
                what: format!("{} is missing", weights.display()),
                hint: "fetch the adapter again with 'deptune adapter get'".to_owned(),
            });
        }
        Ok(Adapter { weights, manifest })
    }
}
