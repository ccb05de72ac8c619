//! One member of a pack while it trains: its counters, its best evaluation, its files.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::child::{Evaluation, Job, Member};
use deptune_sweep::metric::Number;
use deptune_sweep::model::{CONFIG_FILE, TOKENIZER_FILE};
use deptune_sweep::spec::{Goal, Objective};
use serde::{Deserialize, Serialize};
use tch::Device;

use super::failure::Failure;
use super::prepare::Prepared;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Identity};
use crate::method::Adapter;
use crate::tensors::TensorsError;
use crate::weights::weight_files;

/// Why a trial's files cannot be written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot save a checkpoint; is the disk full?")]
    Checkpoint(#[source] CheckpointError),
    #[error("cannot serialise the adapter")]
    Adapter(#[source] TensorsError),
    #[error("cannot write the adapter {path}; is the disk full?")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot serialise the trial's counters")]
    Counters(#[source] serde_json::Error),
    #[error("the trials of a pack have checkpoints of different steps")]
    Steps,
}

/// What a checkpoint holds besides tensors.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Seconds of training and evaluation so far, over all attempts.
    pub(super) train_seconds: f64,
    /// Sum of the training losses since the last evaluation, as bits: exact in JSON.
    loss_sum: u64,
    /// Updates in that sum.
    losses: u64,
    best: Option<BestNumbers>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct BestNumbers {
    metric_name: String,
    metric: Number,
    step: u64,
    constant: Number,
}

/// The best evaluation so far and its parameters.
pub(super) struct Best {
    pub(super) metric_name: String,
    pub(super) metric: Number,
    pub(super) step: u64,
    pub(super) constant: Number,
    pub(super) adapter: Adapter,
}

impl Best {
    pub(super) fn new(evaluation: &Evaluation, objective: &Objective, adapter: Adapter) -> Best {
        let metric_name = objective.metric.to_string();
        let value = |of: &[(String, Number)]| metric(of, &metric_name);
        Best {
            metric: value(&evaluation.metrics),
            constant: value(&evaluation.constant),
            step: evaluation.step,
            metric_name,
            adapter,
        }
    }
}

fn metric(of: &[(String, Number)], name: &str) -> Number {
    of.iter().find(|(known, _)| known == name).map_or(Number::from(f64::NAN), |(_, value)| *value)
}

/// A member of a pack.
pub(super) struct Trial {
    pub(super) member: Member,
    pub(super) progress: Progress,
    pub(super) best: Option<Best>,
    identity: Identity,
    running: bool,
}

impl Trial {
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn end(&mut self) {
        self.running = false;
    }

    pub(super) fn count_loss(&mut self, loss: f64) {
        self.progress.loss_sum = (f64::from_bits(self.progress.loss_sum) + loss).to_bits();
        self.progress.losses += 1;
    }

    /// Mean training loss since the evaluation before.
    pub(super) fn take_train_loss(&mut self) -> Number {
        let mean = f64::from_bits(self.progress.loss_sum) / self.progress.losses as f64;
        self.progress.loss_sum = 0;
        self.progress.losses = 0;
        Number::from(mean)
    }

    /// Whether an evaluation beats the best so far; the first of equals stays.
    pub(super) fn is_better(&self, evaluation: &Evaluation, objective: &Objective) -> bool {
        let new = metric(&evaluation.metrics, objective.metric.name());
        let larger = objective.goal == Goal::Maximize;
        self.best.as_ref().is_none_or(|best| new.is_better_than(best.metric, larger))
    }

    /// Writes the trial's checkpoint; gives its step and path.
    pub(super) fn save(
        &self,
        k: usize,
        prepared: &Prepared,
        scratch: &Path,
    ) -> Result<(u64, PathBuf), Failure> {
        let state = prepared.pack.state(k)?;
        let step = state.step;
        let mut progress = self.progress.clone();
        progress.best = self.best.as_ref().map(|best| BestNumbers {
            metric_name: best.metric_name.clone(),
            metric: best.metric,
            step: best.step,
            constant: best.constant,
        });
        let counters =
            serde_json::to_value(&progress).map_err(|e| Failure::infra(&Error::Counters(e)))?;
        let best = self.best.as_ref().map(|best| best.adapter.shallow());
        let checkpoint = Checkpoint { state, best, identity: self.identity.clone(), counters };
        let path = scratch.join(format!("checkpoint-{}-{step}.safetensors", self.member.trial));
        checkpoint.write(&path).map_err(|e| Failure::infra(&Error::Checkpoint(e)))?;
        Ok((step, path))
    }

    /// Writes the best adapter.
    pub(super) fn export(&self, prepared: &Prepared, scratch: &Path) -> Result<PathBuf, Failure> {
        let path = scratch.join(format!("adapter-{}.safetensors", self.member.trial));
        let adapter = match &self.best {
            Some(best) => best.adapter.to_bytes(),
            None => prepared.pack.parameters(0)?.to_bytes(),
        };
        let bytes = adapter.map_err(|e| Failure::infra(&Error::Adapter(e)))?;
        checkpoint::write_whole(&path, &bytes)
            .map_err(|source| Failure::infra(&Error::Write { path: path.clone(), source }))?;
        Ok(path)
    }

    /// Takes over what a checkpoint holds.
    fn resume(&mut self, counters: serde_json::Value, best: Option<Adapter>) -> bool {
        let Ok(mut progress) = serde_json::from_value::<Progress>(counters) else { return false };
        let numbers = progress.best.take();
        self.best = match (numbers, best) {
            (Some(numbers), Some(adapter)) => Some(Best {
                metric_name: numbers.metric_name,
                metric: numbers.metric,
                step: numbers.step,
                constant: numbers.constant,
                adapter,
            }),
            _ => None,
        };
        self.progress = progress;
        true
    }
}

/// The members of a job, continued from their checkpoints where they have usable ones. A
/// checkpoint that is refused is named in the log, and its trial starts anew.
pub(super) fn restore(job: &Job, prepared: &mut Prepared) -> Result<Vec<Trial>, Failure> {
    let files = file_hashes(job).map_err(|e| Failure::infra(&e))?;
    let mut trials = Vec::new();
    let mut states = Vec::new();
    for member in &job.trials {
        let settings = serde_json::to_vec(&member.settings)
            .map_err(|e| Failure::infra(&Error::Counters(e)))?;
        let identity = Identity {
            settings_hash: blake3::hash(&settings).to_hex().to_string(),
            data_hash: files.data.clone(),
            model_hash: files.model.clone(),
        };
        let progress = Progress::default();
        let mut trial =
            Trial { member: member.clone(), progress, best: None, identity, running: true };
        if let Some(path) = &member.resume {
            match Checkpoint::read(path, &trial.identity) {
                Ok(checkpoint) => {
                    let Checkpoint { state, best, counters, .. } = checkpoint;
                    if trial.resume(counters, best) {
                        states.push(state);
                    }
                }
                Err(error) => {
                    let reason = Failure::infra(&error).message;
                    tracing::warn!(trial = %member.trial, "starting anew: {reason}");
                }
            }
        }
        trials.push(trial);
    }
    if states.len() == trials.len() {
        prepared.pack.resume(&states)?;
    } else if !states.is_empty() {
        // Members of a pack train in step; the coordinator forms packs of equal steps.
        return Err(Failure::infra(&Error::Steps));
    }
    Ok(trials)
}

struct FileHashes {
    model: String,
    data: String,
}

fn file_hashes(job: &Job) -> io::Result<FileHashes> {
    let mut model = blake3::Hasher::new();
    let weights = weight_files(&job.model).map_err(io::Error::other)?;
    let files = [job.model.join(CONFIG_FILE)].into_iter().chain(weights);
    for path in files.chain([job.model.join(TOKENIZER_FILE)]) {
        if path.exists() {
            model.update_reader(File::open(path)?)?;
        }
    }
    let mut data = blake3::Hasher::new();
    for file in &job.data {
        data.update(file.split.as_bytes());
        data.update_reader(File::open(&file.path)?)?;
    }
    let hex = |hasher: &blake3::Hasher| hasher.finalize().to_hex().to_string();
    Ok(FileHashes { model: hex(&model), data: hex(&data) })
}

/// Numbers in an adapter; m·d + r·(s+d) in DePT's.
pub(super) fn parameters(adapter: &Adapter) -> u64 {
    adapter.numel() as u64
}

/// The libtorch that this process runs on.
pub(super) fn libtorch_version() -> String {
    checkpoint::LIBTORCH.to_owned()
}

/// The device's name for people.
pub(super) fn device_name(device: Device) -> String {
    match device {
        Device::Cpu => cpu_name().unwrap_or_else(|| "cpu".to_owned()),
        Device::Cuda(index) => format!("cuda:{index}"),
        other => format!("{other:?}"),
    }
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_losses_survives_json_bit_for_bit() {
        let progress = Progress { loss_sum: (0.1f64 + 0.2).to_bits(), ..Progress::default() };
        let json = serde_json::to_value(&progress).unwrap();
        assert_eq!(serde_json::from_value::<Progress>(json).unwrap(), progress);
    }
}
