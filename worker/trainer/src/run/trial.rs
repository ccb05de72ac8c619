//! One member of a pack while it trains: its counters, its best evaluation, its files.

use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::child::{Evaluation, Member};
use deptune_sweep::metric::Number;
use deptune_sweep::spec::{Goal, Objective};
use deptune_sweep::task::Split;
use serde::{Deserialize, Serialize};
use tch::Device;

use super::failure::Failure;
use super::prepare::Prepared;
use super::resume;
use crate::checkpoint::{self, Checkpoint, CheckpointError, Identity};
use crate::method::Adapter;
use crate::tensors::TensorsError;

/// Why a trial's files cannot be written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot save a checkpoint; is the disk full?")]
    Checkpoint(#[source] CheckpointError),
    #[error("cannot serialise the adapter")]
    Adapter(#[source] TensorsError),
    #[error("cannot write {path}; is the disk full?")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot serialise the trial's counters")]
    Counters(#[source] serde_json::Error),
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
    /// Evaluations since the best one.
    #[serde(default)]
    pub(super) without_gain: u32,
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

/// Checkpoints of a trial that stay in the scratch directory.
const KEPT: usize = 2;

fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, Failure> {
    match checkpoint::write_whole(&path, bytes) {
        Ok(()) => Ok(path),
        Err(source) => Err(Failure::infra(&Error::Write { path, source })),
    }
}

/// A member of a pack.
pub(super) struct Trial {
    pub(super) member: Member,
    pub(super) progress: Progress,
    pub(super) best: Option<Best>,
    pub(super) identity: Identity,
    running: bool,
}

impl Trial {
    /// A member at its start.
    pub(super) fn new(member: Member, identity: Identity) -> Trial {
        Trial { member, progress: Progress::default(), best: None, identity, running: true }
    }

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
        let path = scratch.join(resume::file_name(self.member.trial, step));
        checkpoint.write(&path).map_err(|e| Failure::infra(&Error::Checkpoint(e)))?;
        for old in resume::of_trial(scratch, self.member.trial).into_iter().skip(KEPT) {
            // Whoever reads the messages may have deleted it already.
            let _ = std::fs::remove_file(old);
        }
        Ok((step, path))
    }

    /// Writes the best adapter.
    pub(super) fn export(&self, best: &Best, scratch: &Path) -> Result<PathBuf, Failure> {
        let path = scratch.join(format!("adapter-{}.safetensors", self.member.trial));
        let bytes = best.adapter.to_bytes().map_err(|e| Failure::infra(&Error::Adapter(e)))?;
        write(path, &bytes)
    }

    /// Writes the answers to a split, JSON lines.
    pub(super) fn write_answers(
        &self,
        split: Split,
        lines: &[u8],
        scratch: &Path,
    ) -> Result<PathBuf, Failure> {
        write(scratch.join(format!("predictions-{}-{split}.jsonl", self.member.trial)), lines)
    }

    /// What a checkpoint's counters say, if they can be read.
    pub(super) fn counted(counters: &serde_json::Value) -> Result<Progress, CheckpointError> {
        Progress::deserialize(counters).map_err(CheckpointError::Manifest)
    }

    /// Takes over what a checkpoint holds.
    pub(super) fn resume(&mut self, mut progress: Progress, best: Option<Adapter>) {
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
    }
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
