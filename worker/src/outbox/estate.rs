//! What an earlier agent left.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::child::Evaluation;
use deptune_sweep::scheduler::{LeaseKey, Report, ReportEnd};
use serde::de::DeserializeOwned;

use super::Outbox;
use super::file::hash_file;
use super::record::{CheckpointFile, LeasesFile, ReportFile, VERSION};
use crate::protocol::{Estate, EstateTrial, Identity, Kept};

/// Puts together what an earlier agent left, from the records of its outbox in any order.
#[derive(Debug)]
pub struct Inventory {
    identity: Identity,
    trials: BTreeMap<LeaseKey, EstateTrial>,
}

impl Inventory {
    /// Begins with what that agent wrote down about itself.
    #[must_use]
    pub fn new(identity: Identity, leases: Vec<LeaseKey>) -> Inventory {
        let trials = leases.into_iter().map(|lease| (lease, empty(lease))).collect();
        Inventory { identity, trials }
    }

    /// Adds a report. The caller has found its adapter whole, if it names one.
    pub fn report(&mut self, report: Report) {
        let lease = report.lease;
        let trial = self.trials.entry(lease).or_insert_with(|| empty(lease));
        if let ReportEnd::Succeeded { adapter, .. } = &report.end {
            trial.adapter = Some(Kept { step: report.last_step, hash: adapter.clone() });
        }
        trial.report = Some(report);
    }

    /// Adds a checkpoint that the caller has found whole. Returns the step of the one that is not
    /// needed any more, this one or another of the same lease.
    pub fn checkpoint(
        &mut self,
        lease: LeaseKey,
        kept: Kept,
        evaluations: Vec<Evaluation>,
    ) -> Option<u64> {
        let trial = self.trials.entry(lease).or_insert_with(|| empty(lease));
        let older = match &trial.checkpoint {
            Some(held) if held.step > kept.step => Some(kept.step),
            held => held.as_ref().map(|held| held.step),
        };
        if older != Some(kept.step) {
            trial.checkpoint = Some(kept);
        }
        trial.evaluations.extend(evaluations);
        older
    }

    /// The estate.
    #[must_use]
    pub fn estate(self) -> Estate {
        Estate { identity: self.identity, trials: self.trials.into_values().collect() }
    }
}

impl Outbox {
    /// Reads what an earlier agent left; `None` if there was none. What cannot be read, or is not
    /// ours, is moved to `set-aside/` with a warning; files that a crash cut short of their
    /// records are deleted.
    #[must_use]
    pub fn estate(&self) -> Option<Estate> {
        let path = self.root.join("leases.json");
        let leases: LeasesFile = self.read(&path, |file: &LeasesFile| file.version)?;
        let (identity, leases) = leases.read();
        let mut found = Inventory::new(identity, leases);
        for path in self.entries() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let of_agent = name.ends_with(".safetensors") || name.starts_with(".tmp");
            if name.starts_with("report-") && name.ends_with(".json") {
                self.read_report(&path, &mut found);
            } else if name.starts_with("checkpoint-") && name.ends_with(".json") {
                self.read_checkpoint(&path, &mut found);
            } else if !of_agent {
                self.set_aside(&path, "it is no file of an outbox");
            }
        }
        self.sweep_up(&found.trials);
        Some(found.estate())
    }

    fn entries(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join("outbox")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    }

    fn read_report(&self, path: &Path, found: &mut Inventory) {
        let Some(file) = self.read(path, |file: &ReportFile| file.version) else { return };
        let report: Report = file.read();
        let lease = report.lease;
        if path != self.report(lease) {
            self.set_aside(path, "its content is another report's");
            return;
        }
        found.trials.entry(lease).or_insert_with(|| empty(lease));
        if let ReportEnd::Succeeded { adapter, .. } = &report.end
            && hash_file(&self.adapter(lease)).ok().as_ref() != Some(adapter)
        {
            self.set_aside(path, "its adapter is missing or damaged");
            return;
        }
        found.report(report);
    }

    fn read_checkpoint(&self, path: &Path, found: &mut Inventory) {
        let Some(file) = self.read(path, |file: &CheckpointFile| file.version) else { return };
        let (lease, step) = (file.lease(), file.step);
        if path != self.checkpoint_record(lease, step) {
            self.set_aside(path, "its content is another checkpoint's");
            return;
        }
        if hash_file(&self.checkpoint(lease, step)).ok().as_ref() != Some(&file.hash) {
            self.set_aside(path, "the checkpoint is missing or damaged");
            return;
        }
        let kept = Kept { step, hash: file.hash };
        if let Some(step) = found.checkpoint(lease, kept, file.evaluations) {
            self.forget_checkpoint(lease, step);
        }
    }

    fn read<T: DeserializeOwned>(&self, path: &Path, version: impl Fn(&T) -> u32) -> Option<T> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.set_aside(path, &error.to_string());
                return None;
            }
        };
        match serde_json::from_slice::<T>(&text) {
            Ok(file) if version(&file) == VERSION => Some(file),
            Ok(_) => {
                self.set_aside(path, "another version wrote it");
                None
            }
            Err(error) => {
                self.set_aside(path, &error.to_string());
                None
            }
        }
    }

    /// Deletes files whose record was never written, or was set aside.
    fn sweep_up(&self, trials: &BTreeMap<LeaseKey, EstateTrial>) {
        let mut named = Vec::new();
        for (&lease, trial) in trials {
            if trial.adapter.is_some() {
                named.push(self.adapter(lease));
            }
            if let Some(checkpoint) = &trial.checkpoint {
                named.push(self.checkpoint(lease, checkpoint.step));
            }
        }
        for path in self.entries() {
            if path.extension().is_none_or(|e| e != "json") && !named.contains(&path) {
                super::remove(&path);
            }
        }
    }

    fn set_aside(&self, path: &Path, why: &str) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let to = self.root.join("set-aside").join(format!("{name}.{}", uuid::Uuid::new_v4()));
        let (from, moved) = (path.display(), fs::rename(path, &to));
        match moved {
            Ok(()) => tracing::warn!(%from, to = %to.display(), why, "set a file aside"),
            Err(error) => tracing::warn!(%from, why, %error, "a file cannot be used or set aside"),
        }
    }
}

fn empty(lease: LeaseKey) -> EstateTrial {
    EstateTrial { lease, report: None, adapter: None, checkpoint: None, evaluations: Vec::new() }
}
