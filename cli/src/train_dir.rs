//! The directory that `deptune train` writes: what the trial is, its evaluations, its checkpoints
//! and, at the end, the adapter and the results.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use deptune_sweep::child::{Evaluation, TrialResult};
use deptune_sweep::spec::Settings;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::adapter_dir::{MANIFEST, Manifest, WEIGHTS};
use crate::output::error::Error;

/// What the trial is.
const TRIAL: &str = "trial.json";

/// Its evaluations, one JSON object per line.
const EVALUATIONS: &str = "evaluations.jsonl";

/// What it ended with.
const RESULTS: &str = "results.json";

/// Where the trainer leaves its files.
const SCRATCH: &str = "checkpoints";

/// Checkpoints that are kept.
const KEPT: usize = 2;

/// What [`TRIAL`] holds: another trial is never continued by mistake.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Identity {
    index: u64,
    settings: Settings,
    /// Hash of the model's `config.json`.
    model_config: String,
}

/// A checkpoint that the trainer left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Updates that it contains.
    pub(crate) step: u64,
    /// Where it is.
    pub(crate) path: PathBuf,
}

/// The directory, held by this process alone.
#[derive(Debug)]
pub(crate) struct TrainDir {
    path: PathBuf,
    /// Newest last.
    checkpoints: Vec<Checkpoint>,
    _lock: File,
}

impl TrainDir {
    /// Makes the directory of a new trial; with `resume`, takes over what an earlier run of the
    /// same trial left.
    ///
    /// # Errors
    /// When it holds a trial already (another one, with `resume`), is in use, or cannot be
    /// written.
    pub(crate) fn open(
        path: &Path,
        resume: bool,
        index: u64,
        settings: &Settings,
        model_config: &str,
    ) -> Result<TrainDir, Error> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Write { path, source }
        };
        fs::create_dir_all(path.join(SCRATCH)).map_err(write(path))?;
        let path = path.canonicalize().map_err(write(path))?;
        let lock_file = path.join("lock");
        let lock = File::create(&lock_file).map_err(write(&lock_file))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Usage {
                    what: format!("{} is used by another 'deptune train'", path.display()),
                    hint: "wait for its end, or choose another directory with --out".to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(write(&lock_file)(source)),
        }
        let dir = TrainDir { checkpoints: Vec::new(), _lock: lock, path };
        let own = Identity {
            index,
            settings: settings.clone(),
            model_config: blake3::hash(model_config.as_bytes()).to_hex().to_string(),
        };
        match dir.identity()? {
            None => dir.put(TRIAL, &to_json(&own)?)?,
            Some(_) if !resume => {
                return Err(Error::Usage {
                    what: format!("{} holds a trial already", dir.path.display()),
                    hint: "continue it with --resume, or choose another directory with --out"
                        .to_owned(),
                });
            }
            Some(found) if found != own => {
                return Err(Error::Usage {
                    what: format!(
                        "{} holds another trial: its spec, index or model differs",
                        dir.path.display()
                    ),
                    hint: "give the spec as it was, or choose another directory with --out"
                        .to_owned(),
                });
            }
            Some(_) => {}
        }
        dir.scan()
    }

    /// Finds the checkpoints of earlier runs.
    fn scan(mut self) -> Result<TrainDir, Error> {
        let scratch = self.scratch();
        let read = |source| Error::Read { path: scratch.clone(), source };
        for entry in fs::read_dir(&scratch).map_err(read)? {
            let path = entry.map_err(read)?.path();
            let step = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .filter(|_| path.extension().is_some_and(|ending| ending == "safetensors"))
                .and_then(|stem| stem.rsplit_once("step-"))
                .and_then(|(_, step)| step.parse().ok());
            if let Some(step) = step {
                self.checkpoints.push(Checkpoint { step, path });
            }
        }
        self.checkpoints.sort_by_key(|one| one.step);
        Ok(self)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the trainer leaves its files.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join(SCRATCH)
    }

    /// The checkpoints to continue from, the newest first.
    pub(crate) fn resumable(&self) -> Vec<Checkpoint> {
        self.checkpoints.iter().rev().cloned().collect()
    }

    fn identity(&self) -> Result<Option<Identity>, Error> {
        let path = self.path.join(TRIAL);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|source| {
                let hint = "choose another directory with --out".to_owned();
                Error::Unusable { path, hint, source: source.into() }
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// The trainer left a checkpoint: keeps it under its step's name, and removes all but the
    /// last two.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub(crate) fn checkpoint(&mut self, step: u64, left: &Path) -> Result<(), Error> {
        let path = self.scratch().join(format!("step-{step}.safetensors"));
        if left != path {
            fs::rename(left, &path)
                .map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        self.checkpoints.retain(|one| one.step != step);
        self.checkpoints.push(Checkpoint { step, path });
        while self.checkpoints.len() > KEPT {
            // One that cannot be removed costs space and nothing else.
            let _ = fs::remove_file(self.checkpoints.remove(0).path);
        }
        Ok(())
    }

    /// Adds an evaluation.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn evaluation(&self, evaluation: &Evaluation) -> Result<(), Error> {
        let path = self.path.join(EVALUATIONS);
        let mut line = to_json(evaluation)?;
        line.push(b'\n');
        let file = File::options().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(&line))
            .map_err(|source| Error::Write { path, source })
    }

    /// All evaluations so far, by step; one that was made again after a restart counts once.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) fn evaluations(&self) -> Result<Vec<Evaluation>, Error> {
        let path = self.path.join(EVALUATIONS);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::Read { path, source }),
        };
        // A line that a crash cut off was never counted on.
        let mut all: Vec<Evaluation> =
            text.lines().rev().filter_map(|line| serde_json::from_str(line).ok()).collect();
        all.sort_by(|a, b| (a.step, &b.split).cmp(&(b.step, &a.split)));
        all.dedup_by(|a, b| (a.step, &a.split) == (b.step, &b.split));
        Ok(all)
    }

    /// Keeps the answers to a split's rows.
    ///
    /// # Errors
    /// When they cannot be moved.
    pub(crate) fn predictions(&self, split: &str, left: &Path) -> Result<(), Error> {
        let path = self.path.join(format!("predictions-{split}.jsonl"));
        fs::rename(left, &path).map_err(|source| Error::Write { path, source })
    }

    /// The trial is done: keeps its adapter and its results, and lets the checkpoints go.
    ///
    /// # Errors
    /// When something cannot be written.
    pub(crate) fn done(
        &mut self,
        manifest: &Manifest,
        adapter: &Path,
        result: &TrialResult,
    ) -> Result<(), Error> {
        let weights = self.path.join(WEIGHTS);
        fs::rename(adapter, &weights)
            .map_err(|source| Error::Write { path: weights.clone(), source })?;
        self.put(MANIFEST, &to_json(manifest)?)?;
        let results = json!({ "result": result, "evaluations": self.evaluations()? });
        self.put(RESULTS, &to_json(&results)?)?;
        for checkpoint in self.checkpoints.drain(..) {
            let _ = fs::remove_file(checkpoint.path);
        }
        Ok(())
    }

    /// What an earlier run ended with.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn result(&self) -> Result<Option<TrialResult>, Error> {
        #[derive(Deserialize)]
        struct Results {
            result: TrialResult,
        }
        let path = self.path.join(RESULTS);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice::<Results>(&text)
                .map(|found| Some(found.result))
                .map_err(|source| Error::Unusable {
                    path,
                    hint: "choose another directory with --out".to_owned(),
                    source: source.into(),
                }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Read { path, source }),
        }
    }

    /// Writes a file that appears complete or not at all.
    fn put(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let path = self.path.join(name);
        let partial = self.path.join(format!("{name}.partial"));
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(content)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&partial, &path)
        };
        write().map_err(|source| Error::Write { path: path.clone(), source })
    }
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(value)
        .map_err(|source| Error::Task { task: "writing JSON", source: source.into() })
}
