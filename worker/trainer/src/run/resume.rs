//! Where a job goes on: its members' checkpoints, told apart from torn, changed and foreign files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use deptune_sweep::child::{Job, Member};
use deptune_sweep::id::TrialId;

use super::failure::Failure;
use super::prepare::Prepared;
use super::trial::{Progress, Trial};
use crate::checkpoint::{Checkpoint, Identity};
use crate::weights::weight_files;

/// Why a job's files cannot be told apart from another's.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the job's files")]
    Files(#[from] io::Error),
    #[error("cannot serialise the trial's settings")]
    Settings(#[source] serde_json::Error),
}

/// Name of a trial's checkpoint in the scratch directory.
pub(super) fn file_name(trial: TrialId, step: u64) -> String {
    format!("checkpoint-{trial}-{step}.safetensors")
}

/// A trial's checkpoints in a directory, newest first.
pub(super) fn of_trial(dir: &Path, trial: TrialId) -> Vec<PathBuf> {
    let (start, end) = (format!("checkpoint-{trial}-"), ".safetensors");
    let step = |path: &Path| -> Option<u64> {
        path.file_name()?.to_str()?.strip_prefix(&start)?.strip_suffix(end)?.parse().ok()
    };
    // A directory that cannot be read has no checkpoints to offer.
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> =
        entries.filter_map(|entry| Some((step(&entry.path())?, entry.path()))).collect();
    found.sort_by(|one, other| other.0.cmp(&one.0));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The members of a job, continued from the newest step of which all have a usable checkpoint:
/// the one that the job names, or an older one that lies beside it. What is refused is named in
/// the log; where no step is left, all start anew.
pub(super) fn restore(job: &Job, prepared: &mut Prepared) -> Result<Vec<Trial>, Failure> {
    let files = file_hashes(job).map_err(|e| Failure::infra(&Error::Files(e)))?;
    let identity = |member: &Member| -> Result<Identity, Failure> {
        let settings = serde_json::to_vec(&member.settings)
            .map_err(|e| Failure::infra(&Error::Settings(e)))?;
        Ok(Identity {
            settings_hash: blake3::hash(&settings).to_hex().to_string(),
            data_hash: files.data.clone(),
            model_hash: files.model.clone(),
        })
    };
    let trials = job.trials.iter().map(|member| Ok(Trial::new(member.clone(), identity(member)?)));
    let mut trials: Vec<Trial> = trials.collect::<Result<_, Failure>>()?;
    let alone = trials.len() == 1;
    let mut offers: Vec<Offers> = trials.iter().map(|trial| usable(trial, alone)).collect();
    let common = offers.first().and_then(|first| {
        let all = |step: &&u64| offers.iter().all(|offer| offer.contains_key(step));
        first.keys().rev().find(all).copied()
    });
    let Some(step) = common else {
        if offers.iter().any(|offer| !offer.is_empty()) {
            tracing::warn!(
                "the trials of this pack have no checkpoint of one step; all start anew"
            );
        }
        return Ok(trials);
    };
    let mut states = Vec::new();
    for (trial, offer) in trials.iter_mut().zip(&mut offers) {
        if let Some((Checkpoint { state, best, .. }, progress)) = offer.remove(&step) {
            trial.resume(progress, best);
            states.push(state);
        }
    }
    prepared.pack.resume(&states)?;
    Ok(trials)
}

/// Usable checkpoints by step.
type Offers = BTreeMap<u64, (Checkpoint, Progress)>;

/// The usable checkpoints of a trial; of one that trains alone the newest will do.
fn usable(trial: &Trial, alone: bool) -> Offers {
    let Some(newest) = &trial.member.resume else { return BTreeMap::new() };
    let id = trial.member.trial;
    let beside = newest.parent().map(|dir| of_trial(dir, id)).unwrap_or_default();
    let mut paths = vec![newest.clone()];
    paths.extend(beside.into_iter().filter(|path| path != newest));
    let mut usable = BTreeMap::new();
    for path in paths {
        let read = Checkpoint::read(&path, &trial.identity).and_then(|checkpoint| {
            Trial::counted(&checkpoint.counters).map(|progress| (checkpoint, progress))
        });
        match read {
            Ok((checkpoint, progress)) => {
                usable.insert(checkpoint.state.step, (checkpoint, progress));
                if alone {
                    break;
                }
            }
            Err(error) => {
                let reason = Failure::infra(&error).message;
                tracing::warn!(trial = %id, "{} is not used: {reason}", path.display());
            }
        }
    }
    usable
}

struct FileHashes {
    model: String,
    data: String,
}

fn file_hashes(job: &Job) -> io::Result<FileHashes> {
    let mut model = blake3::Hasher::new();
    let mut paths: Vec<PathBuf> =
        ["config.json", "tokenizer.json"].map(|name| job.model.join(name)).to_vec();
    // The model has been loaded from these files, so they are there.
    paths.extend(weight_files(&job.model).unwrap_or_default());
    for path in paths {
        model.update_reader(File::open(path)?)?;
    }
    let mut data = blake3::Hasher::new();
    for file in &job.data {
        data.update(file.split.as_bytes());
        data.update_reader(File::open(&file.path)?)?;
    }
    for file in &job.adapters {
        data.update(file.name.as_bytes());
        data.update_reader(File::open(&file.path)?)?;
    }
    let hex = |hasher: &blake3::Hasher| hasher.finalize().to_hex().to_string();
    Ok(FileHashes { model: hex(&model), data: hex(&data) })
}
