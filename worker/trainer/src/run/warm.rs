//! Trials that start from the adapter of a source task.

use std::path::{Path, PathBuf};

use deptune_sweep::child::Job;
use deptune_sweep::spec::WarmStart;

use super::failure::Failure;
use crate::method::{Adapter, PROMPT_KEY};
use crate::pack::{self, Pack};
use crate::tensors::TensorsError;

/// Largest adapter file that is read beside 8 bytes for every number of a trial.
const SPARE: u64 = 64 << 20;

/// Why an adapter cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the adapter {} has {bytes} bytes; one of this trial has at most {most}", path.display())]
    Large { path: PathBuf, bytes: u64, most: u64 },
    #[error("cannot read the adapter {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is no adapter file of deptune", path.display())]
    Content {
        path: PathBuf,
        #[source]
        source: TensorsError,
    },
    #[error("the job brings no adapter {name}")]
    Absent { name: String },
    #[error("the source adapter {name} has no prompt; take one of DePT or prompt tuning")]
    NoPrompt { name: String },
    #[error(
        "the source adapter {name} does not fit; train it with the same model, prompt_length, \
         rank and max_length, or take its prompt alone with warm_start = \"prompt\""
    )]
    Unfit {
        name: String,
        #[source]
        source: pack::Error,
    },
}

/// Reads an adapter file for a trial with so many numbers.
pub(crate) fn read(path: &Path, numbers: usize) -> Result<Adapter, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    let most = SPARE + 8 * numbers as u64;
    if bytes > most {
        return Err(Error::Large { path: path.to_owned(), bytes, most });
    }
    let content = std::fs::read(path).map_err(failed)?;
    Adapter::from_bytes(&content).map_err(|source| Error::Content { path: path.to_owned(), source })
}

/// Gives every member of a job that names a source adapter what it takes over from it.
pub(super) fn start(job: &Job, pack: &mut Pack) -> Result<(), Failure> {
    for (k, member) in job.trials.iter().enumerate() {
        let Some(name) = &member.settings.source else { continue };
        let file = job.adapters.iter().find(|adapter| &adapter.name == name);
        let file = file.ok_or_else(|| Failure::infra(&Error::Absent { name: name.clone() }))?;
        let own = pack.parameters(k)?;
        let source = read(&file.path, own.numel()).map_err(|e| Failure::data(&e))?;
        let taken = match member.settings.warm_start {
            WarmStart::All => source,
            WarmStart::Prompt => {
                let prompt = source
                    .prompt()
                    .ok_or_else(|| Failure::user(&Error::NoPrompt { name: name.clone() }))?;
                let others = own.named().map(|(name, tensor)| match name {
                    PROMPT_KEY => (name.to_owned(), prompt.shallow_clone()),
                    _ => (name.to_owned(), tensor.shallow_clone()),
                });
                Adapter::new(others.collect())
            }
        };
        pack.set_parameters(k, &taken)
            .map_err(|source| Failure::user(&Error::Unfit { name: name.clone(), source }))?;
    }
    Ok(())
}
