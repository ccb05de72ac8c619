//! From a job to a pack that is ready to train.

use std::fs::File;
use std::path::PathBuf;
use std::rc::Rc;

use deptune_sweep::child::{Device as JobDevice, FileHash, Job, PROTOCOL};
use deptune_sweep::spec::{self, Precision};
use deptune_sweep::task::{Recipe, TaskDef};
use tch::{Device, Kind};

use super::failure::Failure;
use crate::Padding;
use crate::data::{self, Data};
use crate::method::Method;
use crate::model::Model;
use crate::pack::{self, Pack};
use crate::tokenize::{INIT_TEXT, Tokenizer};

/// Batches are padded to a multiple of this many tokens.
const PAD_MULTIPLE: usize = 4;
/// Groups of similar length that a micro-batch is cut into: three save about a sixth of a step
/// where lengths spread, and cost nothing where they do not.
const GROUPS: usize = 3;
/// New tokens of an answer in the reference: 20 less the start token.
pub(crate) const REFERENCE_ANSWER: usize = 19;

/// Why a job cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Agent and trainer are of different versions.
    #[error(
        "the job speaks protocol {found}, this trainer {PROTOCOL}; install one version of deptune on this node"
    )]
    Protocol {
        /// The job's protocol.
        found: u32,
    },
    /// The job has no trials.
    #[error("the job has no trials")]
    Empty,
    /// Trials that cannot train together.
    #[error("the trials of a pack must agree on everything but method, m, r and rates")]
    Mixed,
    /// A model file cannot be read.
    #[error("cannot read the model's file {path}; is the model's directory complete?")]
    ModelFile {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A model file is not the one that was submitted.
    #[error("the model's file {path} changed after submit; restore it, or submit the sweep again")]
    ModelChanged {
        /// Which.
        path: PathBuf,
    },
    /// The spec asks for something that this trainer has no code for.
    #[error("{0} is not supported by this trainer; leave it out")]
    Unsupported(&'static str),
    /// The device is not there.
    #[error("CUDA device {0} is not available to this process")]
    Device(u32),
}

/// Everything that training needs.
pub(crate) struct Prepared {
    pub(crate) pack: Pack,
    pub(crate) data: Data,
    pub(crate) def: TaskDef,
    pub(crate) tokenizer: Tokenizer,
    /// What all members agree on is read from the first one.
    pub(crate) settings: spec::Settings,
    pub(crate) answer_tokens: usize,
}

pub(crate) fn prepare(job: &Job) -> Result<Prepared, Failure> {
    if job.protocol != PROTOCOL {
        return Err(Failure::infra(&Error::Protocol { found: job.protocol }));
    }
    let Some(first) = job.trials.first() else { return Err(Failure::infra(&Error::Empty)) };
    let settings = first.settings.clone();
    if job.trials.iter().any(|member| !train_together(&member.settings, &settings)) {
        return Err(Failure::infra(&Error::Mixed));
    }
    tch::set_num_threads(i32::try_from(job.threads).unwrap_or(1).max(1));
    let device = device(&job.device)?;
    for file in &job.model_files {
        verify(job, file)?;
    }
    let model = load_model(job, &settings, device)?;
    let max_length = settings.train.max_length as usize;
    let tokenizer =
        Tokenizer::open(&job.model.join("tokenizer.json"), model.vocab_size(), max_length)
            .map_err(|e| Failure::data(&e))?;
    let def = settings.task.resolve(settings.recipe).map_err(|e| Failure::user(&e))?;
    let data = data::load(&def, &job.data, &tokenizer)?;
    let answer_tokens = match settings.recipe {
        Recipe::Default => data.longest_target,
        Recipe::Reference => REFERENCE_ANSWER,
    };
    let init = tokenizer.target(INIT_TEXT).map_err(|e| Failure::data(&e))?;
    let dropout = settings.train.dropout.unwrap_or(model.config().dropout());
    let members = job.trials.iter().map(|member| pack_member(&member.settings)).collect();
    let pack = Pack::new(Rc::new(model), members, common(&settings, dropout), &init)?;
    Ok(Prepared { pack, data, def, tokenizer, settings, answer_tokens })
}

/// Members of a pack share their batches, masks and steps.
fn train_together(one: &spec::Settings, other: &spec::Settings) -> bool {
    let shared = |s: &spec::Settings| spec::Settings {
        method: spec::Method::Pt,
        prompt_length: 0,
        rank: 0,
        prompt_lr: None,
        lowrank_lr: None,
        ..s.clone()
    };
    shared(one) == shared(other)
}

/// What the trials of a pack have in common.
pub(crate) fn common(settings: &spec::Settings, dropout: f64) -> pack::Settings {
    let train = &settings.train;
    pack::Settings {
        steps: train.steps,
        warmup_steps: train.warmup_steps,
        max_length: train.max_length as usize,
        grad_clip: train.max_grad_norm,
        dropout,
        padding: Padding::Longest { multiple: PAD_MULTIPLE },
        recipe: settings.recipe,
        groups: GROUPS,
        ..pack::Settings::default()
    }
}

pub(crate) fn pack_member(settings: &spec::Settings) -> pack::Member {
    let prompt_length = settings.prompt_length as usize;
    let method = if settings.rank == 0 {
        Method::PromptTuning { prompt_length }
    } else {
        Method::Dept { prompt_length, rank: settings.rank as usize }
    };
    let lowrank_lr = settings.lowrank_lr.unwrap_or(0.0);
    let prompt_lr = settings.prompt_lr.unwrap_or(0.0);
    pack::Member::prompt(method, prompt_lr, lowrank_lr, settings.seed)
}

pub(crate) fn device(device: &JobDevice) -> Result<Device, Failure> {
    match *device {
        JobDevice::Cpu => Ok(Device::Cpu),
        JobDevice::Cuda { index } => {
            if tch::Cuda::is_available() && i64::from(index) < tch::Cuda::device_count() {
                Ok(Device::Cuda(index as usize))
            } else {
                Err(Failure::infra(&Error::Device(index)))
            }
        }
    }
}

fn load_model(job: &Job, settings: &spec::Settings, device: Device) -> Result<Model, Failure> {
    let kind = match settings.train.precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => return Err(Failure::user(&Error::Unsupported("precision = \"bf16\""))),
    };
    Model::load(&job.model, kind, device).map_err(|e| Failure::data(&e))
}

fn verify(job: &Job, file: &FileHash) -> Result<(), Failure> {
    let path = job.model.join(&file.name);
    let hash = |path: &PathBuf| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok(hasher.finalize().to_hex().to_string())
    };
    match hash(&path) {
        Ok(found) if found == file.hash => Ok(()),
        Ok(_) => Err(Failure::data(&Error::ModelChanged { path })),
        Err(source) => Err(Failure::data(&Error::ModelFile { path, source })),
    }
}
