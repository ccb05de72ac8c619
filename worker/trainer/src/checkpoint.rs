//! Checkpoints: one safetensors file per trial, with everything that the trial needs to go on in
//! another process, bit for bit.
//!
//! Tensors: what is trained behind `parameters.`, what the optimiser keeps behind `optimizer.`,
//! the best snapshot so far behind `best.`. The file's metadata hold a manifest and a digest over
//! manifest and tensors, so that a torn or changed file is told apart from one of another run.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use deptune_sweep::crash::{Point, point};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use crate::method::Adapter;
use crate::pack::TrialState;
use crate::tensors::{self, TensorsError};

/// Version of the layout described above.
pub const FORMAT: u32 = 2;
/// The libtorch that this crate is built for.
pub const LIBTORCH: &str = "2.11.0";

const KEY: &str = "deptune.checkpoint";
const PARAMETERS: &str = "parameters.";
const OPTIMIZER: &str = "optimizer.";
const BEST: &str = "best.";

/// Why a checkpoint cannot be written or used.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be read.
    #[error("cannot read the checkpoint {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the checkpoint {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tensors cannot be laid out as bytes.
    #[error("cannot serialise the checkpoint")]
    Serialise(#[source] TensorsError),
    /// The manifest cannot be written as JSON.
    #[error("cannot serialise the checkpoint's manifest")]
    SerialiseManifest(#[source] serde_json::Error),
    /// The bytes are cut short, or no safetensors file at all.
    #[error("the checkpoint is torn")]
    Torn(#[source] TensorsError),
    /// A whole file, but its content changed after it was written.
    #[error("the checkpoint is damaged: its digest is {found}, not {expected}")]
    Damaged {
        /// Digest that the file claims.
        expected: String,
        /// Digest of its content.
        found: String,
    },
    /// A safetensors file without a checkpoint's manifest.
    #[error("the file is no checkpoint of deptune")]
    NoManifest,
    /// The manifest is no valid JSON.
    #[error("the checkpoint's manifest cannot be read")]
    Manifest(#[source] serde_json::Error),
    /// Written by a version with another layout.
    #[error("the checkpoint has format {found}; this version reads format {FORMAT}")]
    Format {
        /// Version in the file.
        found: u32,
    },
    /// The checkpoint belongs to another run.
    #[error("the checkpoint is of another run: its {what} hash is {found}, not {expected}")]
    Foreign {
        /// "settings", "data" or "model".
        what: &'static str,
        /// Hash in the file.
        found: String,
        /// Hash of this run.
        expected: String,
    },
}

/// What a checkpoint must agree on with the run that takes it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Hash of the trial's settings.
    pub settings_hash: String,
    /// Hash of the data files.
    pub data_hash: String,
    /// Hash of the model files.
    pub model_hash: String,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Version of deptune that wrote the file.
    deptune: String,
    libtorch: String,
    step: u64,
    diverged: bool,
    #[serde(flatten)]
    identity: Identity,
    counters: Value,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    digest: String,
    /// A [`Manifest`] as it was hashed.
    manifest: String,
}

/// One trial's checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// Where the trial is.
    pub state: TrialState,
    /// Parameters of the best evaluation so far.
    pub best: Option<Adapter>,
    /// Which run it belongs to.
    pub identity: Identity,
    /// What the caller needs to go on, such as the best metric and its step.
    pub counters: Value,
}

impl Checkpoint {
    /// The bytes of the file; equal checkpoints give equal bytes.
    ///
    /// # Errors
    /// [`CheckpointError`] when tensors or manifest cannot be serialised.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CheckpointError> {
        let state = &self.state;
        let mut all = state.parameters.prefixed(PARAMETERS);
        all.extend(state.optimizer.prefixed(OPTIMIZER));
        if let Some(best) = &self.best {
            all.extend(best.prefixed(BEST));
        }
        let named = all.entries();
        let manifest = Manifest {
            format: FORMAT,
            deptune: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: LIBTORCH.to_owned(),
            step: state.step,
            diverged: state.diverged,
            identity: self.identity.clone(),
            counters: self.counters.clone(),
        };
        let manifest =
            serde_json::to_string(&manifest).map_err(CheckpointError::SerialiseManifest)?;
        let digest = digest(&manifest, &named).map_err(CheckpointError::Serialise)?;
        let sealed = serde_json::to_string(&Sealed { digest, manifest })
            .map_err(CheckpointError::SerialiseManifest)?;
        tensors::to_bytes(&named, Some((KEY.to_owned(), sealed)))
            .map_err(CheckpointError::Serialise)
    }

    /// Reads the bytes of a file that must belong to the run `expected`.
    ///
    /// # Errors
    /// [`CheckpointError`] when the bytes are torn, damaged, of another layout or another run.
    pub fn from_bytes(bytes: &[u8], expected: &Identity) -> Result<Self, CheckpointError> {
        let sealed = tensors::metadata(bytes, KEY).map_err(CheckpointError::Torn)?;
        let sealed = sealed.ok_or(CheckpointError::NoManifest)?;
        let sealed: Sealed = serde_json::from_str(&sealed).map_err(CheckpointError::Manifest)?;
        let mut tensors = tensors::from_bytes(bytes).map_err(CheckpointError::Torn)?;
        let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
        let found = digest(&sealed.manifest, &named).map_err(CheckpointError::Torn)?;
        if found != sealed.digest {
            return Err(CheckpointError::Damaged { expected: sealed.digest, found });
        }
        let Header { format } =
            serde_json::from_str(&sealed.manifest).map_err(CheckpointError::Manifest)?;
        if format != FORMAT {
            return Err(CheckpointError::Format { found: format });
        }
        let manifest: Manifest =
            serde_json::from_str(&sealed.manifest).map_err(CheckpointError::Manifest)?;
        manifest.identity.check(expected)?;
        let mut take = |prefix: &str| Adapter::take(&mut tensors, prefix);
        let state = TrialState {
            step: manifest.step,
            parameters: take(PARAMETERS),
            optimizer: take(OPTIMIZER),
            diverged: manifest.diverged,
        };
        let best = Some(take(BEST)).filter(|best| !best.is_empty());
        Ok(Self { state, best, identity: manifest.identity, counters: manifest.counters })
    }

    /// Writes the file beside its place, syncs and renames it, so that at every moment `path`
    /// holds either the old or the new checkpoint, whole.
    ///
    /// # Errors
    /// [`CheckpointError::Write`], or why it cannot be serialised.
    pub fn write(&self, path: &Path) -> Result<(), CheckpointError> {
        let bytes = self.to_bytes()?;
        write_whole(path, &bytes)
            .map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }

    /// Reads a file that must belong to the run `expected`.
    ///
    /// # Errors
    /// As [`Checkpoint::from_bytes`], or [`CheckpointError::Read`].
    pub fn read(path: &Path, expected: &Identity) -> Result<Self, CheckpointError> {
        let bytes = std::fs::read(path)
            .map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
        Self::from_bytes(&bytes, expected)
    }
}

/// What every format's manifest has.
#[derive(Deserialize)]
struct Header {
    format: u32,
}

impl Identity {
    fn check(&self, expected: &Self) -> Result<(), CheckpointError> {
        let pairs = [
            ("settings", &self.settings_hash, &expected.settings_hash),
            ("data", &self.data_hash, &expected.data_hash),
            ("model", &self.model_hash, &expected.model_hash),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                let (found, expected) = (found.clone(), expected.clone());
                return Err(CheckpointError::Foreign { what, found, expected });
            }
        }
        Ok(())
    }
}

/// BLAKE3 over the manifest and the tensors in the order of their names.
fn digest(manifest: &str, tensors: &[(String, &Tensor)]) -> Result<String, TensorsError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(manifest.as_bytes());
    hasher.update(&tensors::to_bytes(tensors, None)?);
    Ok(hasher.finalize().to_hex().to_string())
}

/// Replaces a file without a moment at which it is incomplete.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = path.with_file_name(name);
    let written = File::create(&partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if written.is_ok() {
        point(Point::BeforeRename);
    }
    if let Err(error) = written.and_then(|()| std::fs::rename(&partial, path)) {
        // The partial file is of no use; what went wrong first is what matters.
        let _ = std::fs::remove_file(&partial);
        return Err(error);
    }
    point(Point::AfterRename);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::method::LowRank;

    fn identity() -> Identity {
        let hash = |name: &str| format!("{name} hash");
        Identity {
            settings_hash: hash("settings"),
            data_hash: hash("data"),
            model_hash: hash("model"),
        }
    }

    fn adapter(lowrank: bool) -> Adapter {
        let rand = |shape: [i64; 2]| Tensor::rand(shape, (Kind::Float, Device::Cpu));
        let lowrank = lowrank.then(|| LowRank { a: rand([8, 2]), b: rand([2, 3]) });
        Adapter::dept(Some(rand([4, 3])), lowrank)
    }

    fn checkpoint(lowrank: bool, best: bool) -> Checkpoint {
        Checkpoint {
            state: TrialState {
                step: 7,
                parameters: adapter(lowrank),
                optimizer: adapter(lowrank).prefixed("exp_avg."),
                diverged: false,
            },
            best: best.then(|| adapter(lowrank)),
            identity: identity(),
            counters: serde_json::json!({ "best_step": 5, "best_metric": 61.25 }),
        }
    }

    #[test]
    fn a_written_checkpoint_is_read_back_bit_for_bit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trial.safetensors");
        for (lowrank, best) in [(true, true), (true, false), (false, true)] {
            let written = checkpoint(lowrank, best);
            written.write(&path).unwrap();
            let read = Checkpoint::read(&path, &identity()).unwrap();
            assert_eq!(read.to_bytes().unwrap(), written.to_bytes().unwrap());
            assert_eq!(read.counters, written.counters);
            assert_eq!(read.best.is_some(), best);
            let moment = |of: &Checkpoint| {
                of.state.optimizer.get("exp_avg.prompt_embeddings").unwrap().copy()
            };
            assert!(moment(&read).equal(&moment(&written)));
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no partial files stay");
    }

    #[test]
    fn torn_damaged_and_foreign_files_are_told_apart() {
        let bytes = checkpoint(true, true).to_bytes().unwrap();
        for length in [0, 7, 8, 300, bytes.len() - 1] {
            let error = Checkpoint::from_bytes(&bytes[..length], &identity()).unwrap_err();
            assert!(matches!(error, CheckpointError::Torn(_)), "{length}: {error}");
        }
        for place in [bytes.len() - 1, bytes.len() - 200] {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            let error = Checkpoint::from_bytes(&changed, &identity()).unwrap_err();
            assert!(matches!(error, CheckpointError::Damaged { .. }), "{place}: {error}");
        }
        let other = Identity { data_hash: "other".to_owned(), ..identity() };
        let error = Checkpoint::from_bytes(&bytes, &other).unwrap_err();
        assert!(matches!(error, CheckpointError::Foreign { what: "data", .. }), "{error}");
        let error = Checkpoint::from_bytes(&adapter(true).to_bytes().unwrap(), &other).unwrap_err();
        assert!(matches!(error, CheckpointError::NoManifest), "{error}");
    }

    #[test]
    fn an_adapter_file_is_read_back() {
        for lowrank in [true, false] {
            let written = adapter(lowrank);
            let read = Adapter::from_bytes(&written.to_bytes().unwrap()).unwrap();
            assert_eq!(read.to_bytes().unwrap(), written.to_bytes().unwrap());
        }
    }
}
