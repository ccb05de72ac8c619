//! From a job to a pack that is ready to train.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use deptune_sweep::child::{Device as JobDevice, FileHash, Job, PROTOCOL};
use deptune_sweep::model::ModelConfig;
use deptune_sweep::spec::{self, Decoding, Precision};
use deptune_sweep::task::{Recipe, Split, TaskDef};
use tch::{Device, Kind};

use super::failure::Failure;
use super::warm;
use crate::Padding;
use crate::batch::Batch;
use crate::data::{self, Data, Rows};
use crate::evaluate::Judge;
use crate::method::Method;
use crate::model::Model;
use crate::order::Order;
use crate::pack::{self, Pack};
use crate::tokenize::{INIT_TEXT, Tokenizer};
use crate::weights::Weights;

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
    /// Label scoring of a task that has no labels.
    #[error(
        "decoding = \"labels\" needs a task with labels, and any text may be an answer of \
         {task}; leave decoding out"
    )]
    NoLabels {
        /// Name of the task.
        task: String,
    },
    /// Prompt, text and answer do not fit the model's positions.
    #[error(
        "prompt_length {prompt}, max_length {max_length} and {answer} tokens of an answer are \
         more than the model's {available} positions; lower prompt_length or max_length"
    )]
    Positions {
        /// m, the longest of the pack.
        prompt: usize,
        /// s
        max_length: usize,
        /// Most tokens of an answer.
        answer: usize,
        /// What the model has.
        available: usize,
    },
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

impl Prepared {
    /// The order in which the trials see their rows.
    pub(crate) fn order(&self) -> Order {
        let train = &self.settings.train;
        Order::new(
            self.settings.seed,
            self.data.train.len(),
            train.batch_size as usize,
            train.gradient_accumulation as usize,
        )
    }

    /// The micro-batches of some rows.
    pub(crate) fn batches(&self, rows: &[Vec<u32>]) -> Result<Vec<Batch>, data::Error> {
        rows.iter().map(|rows| self.data.train.batch(rows, &self.tokenizer)).collect()
    }

    /// What judges the trials on `rows` of a split.
    pub(crate) fn judge<'a>(&'a self, split: Split, rows: &'a Rows) -> Judge<'a> {
        Judge {
            def: &self.def,
            tokenizer: &self.tokenizer,
            split,
            rows,
            batch_size: self.settings.train.eval_batch_size as usize,
            answer_tokens: self.answer_tokens,
            unended_counts: self.settings.recipe == Recipe::Reference,
            decoding: self.settings.train.decoding,
        }
    }
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
    let config = Model::read_config(&job.model).map_err(|e| Failure::data(&e))?;
    let max_length = settings.train.max_length as usize;
    let path = job.model.join("tokenizer.json");
    let tokenizer = Tokenizer::open(&path, &config, settings.recipe, max_length)
        .map_err(|e| Failure::data(&e))?;
    let def = settings.task.resolve(settings.recipe).map_err(|e| Failure::user(&e))?;
    if settings.train.decoding == Decoding::Labels && def.classes().is_empty() {
        return Err(Failure::user(&Error::NoLabels { task: def.name().to_owned() }));
    }
    let data = data::load(&def, &job.data, &tokenizer, settings.seed)?;
    let answer_tokens = match settings.recipe {
        Recipe::Default => data.longest_target,
        Recipe::Reference => REFERENCE_ANSWER,
    };
    check_positions(job, &config, max_length, answer_tokens)?;
    let dropout = settings.train.dropout.unwrap_or(config.dropout());
    let members = job.trials.iter().map(|member| pack_member(&member.settings)).collect();
    let place = Place { dir: &job.model, device, tokenizer: &tokenizer };
    let mut pack = place.pack(config, &settings, members, dropout)?;
    warm::start(job, &mut pack)?;
    Ok(Prepared { pack, data, def, tokenizer, settings, answer_tokens })
}

/// Where a pack's model is, and what reads its texts.
pub(crate) struct Place<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) device: Device,
    pub(crate) tokenizer: &'a Tokenizer,
}

impl Place<'_> {
    /// A pack at its start values. `settings` are what its members agree on.
    pub(crate) fn pack(
        &self,
        config: ModelConfig,
        settings: &spec::Settings,
        members: Vec<pack::Member>,
        dropout: f64,
    ) -> Result<Pack, Failure> {
        let products = match settings.train.precision {
            Precision::Fp32 => Kind::Float,
            Precision::Bf16 => Kind::BFloat16,
        };
        let weights =
            Weights::open(self.dir, products, self.device).map_err(|e| Failure::data(&e))?;
        let common = common(settings, dropout);
        if let [member @ pack::Member { method: Method::Full, .. }] = members.as_slice() {
            return Ok(Pack::fine_tuning(config, &weights, *member, common)?);
        }
        let model = Model::from_weights(config, &weights).map_err(|e| Failure::data(&e))?;
        let text = settings.init_text.as_deref().unwrap_or(INIT_TEXT);
        let init = self.tokenizer.plain(text).map_err(|e| Failure::data(&e))?;
        Ok(Pack::new(Rc::new(model), members, common, &init)?)
    }
}

/// Refuses prompts that leave no room for text and answer in a decoder's positions.
fn check_positions(
    job: &Job,
    config: &ModelConfig,
    max_length: usize,
    answer: usize,
) -> Result<(), Failure> {
    let prompts = job.trials.iter().map(|member| member.settings.prompt_length as usize);
    let prompt = prompts.max().unwrap_or(0);
    match config.max_positions().map(|positions| positions as usize) {
        Some(available) if prompt + max_length + answer > available => {
            Err(Failure::user(&Error::Positions { prompt, max_length, answer, available }))
        }
        _ => Ok(()),
    }
}

/// Members of a pack share their batches, masks and steps.
fn train_together(one: &spec::Settings, other: &spec::Settings) -> bool {
    let shared = |s: &spec::Settings| spec::Settings {
        method: spec::Method::Pt,
        prompt_length: 0,
        rank: 0,
        prompt_lr: None,
        lowrank_lr: None,
        learning_rate: None,
        lora_alpha: None,
        source: None,
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
        dropout_masks: train.dropout_masks,
        activation_checkpointing: train.activation_checkpointing,
        padding: Padding::Longest { multiple: PAD_MULTIPLE },
        recipe: settings.recipe,
        groups: GROUPS,
        optimizer: train.optimizer,
        scheduler: train.scheduler,
        weight_decay: train.weight_decay,
        backward: pack::Backward::Written,
    }
}

pub(crate) fn pack_member(settings: &spec::Settings) -> pack::Member {
    let (prompt_length, rank) = (settings.prompt_length as usize, settings.rank as usize);
    let method = match settings.method {
        spec::Method::Dept => Method::Dept { prompt_length, rank },
        spec::Method::Pt => Method::PromptTuning { prompt_length },
        spec::Method::Lora => Method::Lora { rank, alpha: settings.lora_alpha.unwrap_or(8.0) },
        spec::Method::Full => Method::Full,
    };
    pack::Member {
        method,
        init: settings.init,
        prompt_lr: settings.prompt_lr.unwrap_or(0.0),
        lowrank_lr: settings.lowrank_lr.unwrap_or(0.0),
        learning_rate: settings.learning_rate.unwrap_or(0.0),
        seed: settings.seed,
    }
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
