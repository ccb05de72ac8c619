//! A pack: K trials that train fused on one frozen model. A solo run is a pack of one.
//!
//! The trials share every batch; each has its own prompt, low-rank pair, learning rates and
//! optimiser state. No operation multiplies values of different trials, so that one trial's
//! NaN never reaches another.

mod error;
mod forward;
mod settings;
mod state;

use std::collections::BTreeMap;
use std::rc::Rc;

use deptune_sweep::model::ModelConfig;
use tch::{Kind, TchError, Tensor, no_grad};

pub(crate) use error::Doing;
pub use error::Error;
pub use forward::Encoded;
use forward::prompt_mask;
use settings::check;
pub use settings::{Member, Settings};
pub use state::TrialState;

use crate::batch::{Batch, BatchError, Example};
use crate::dropout::Masks;
use crate::method::{
    Adapter, Dimensions, Layout, Method, Module, PromptInit, initial, lora_start, scaling,
    vocabulary_rows,
};
use crate::model::Model;
use crate::optim::{Optim, Options, Update, finite};
use crate::schedule::Schedule;
use crate::weights::Weights;

/// What one update did to one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialStep {
    /// Training loss before the update: mean over micro-batches of token means.
    pub loss: f64,
    /// Joint L2 norm of the gradients before clipping.
    pub grad_norm: f64,
    /// Loss or norm was not finite, now or earlier: the trial stands still at its last finite
    /// state.
    pub diverged: bool,
}

/// What one update did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Number of the update, from 1.
    pub step: u64,
    /// The schedule's factor on the learning rates.
    pub lr_factor: f64,
    /// One entry per trial.
    pub trials: Vec<TrialStep>,
}

/// Losses and gradients of a pack, before clipping.
pub struct Gradients {
    layout: Layout,
    methods: Vec<Method>,
    /// Mean losses [K].
    losses: Tensor,
    /// [K, N]
    flat: Tensor,
}

impl Gradients {
    /// The gradients of trial `k`, shaped like its parameters.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn trial(&self, k: usize) -> Result<Adapter, Error> {
        let members = self.methods.len();
        let method = self.methods.get(k).ok_or(Error::NoTrial { trial: k, members })?;
        self.layout
            .views(&self.flat, k, *method)
            .and_then(|views| views.copied())
            .doing("copy gradients")
    }
}

/// K trials, their parameters and optimiser state.
pub struct Pack {
    /// Frozen; in full fine-tuning it only tells the configuration, and what the trial has made
    /// of its weights is in `leaves`.
    model: Rc<Model>,
    members: Vec<Member>,
    settings: Settings,
    layout: Layout,
    /// The maps that LoRA's pairs go beside, if any trial has them.
    modules: Vec<Module>,
    /// Everything that is trained, [K, N].
    params: Tensor,
    /// Views [K, ...] of `params`, one per segment; only these ask for gradients.
    leaves: Vec<Tensor>,
    optim: Optim,
    /// [K, 1]
    alive: Tensor,
    /// Factor on A B per trial, [K, 1, 1].
    scaling: Tensor,
    /// Factor on LoRA's pairs per trial, [K, 1, 1].
    lora_scaling: Tensor,
    /// Hides the unused front rows of shorter prompts, [K, 1, 1, 1, m].
    prompt_mask: Option<Tensor>,
    /// One seed when all trials share it, else one per trial.
    seeds: Vec<u64>,
    step: u64,
}

impl Pack {
    /// Trials at their start values. `init_ids` is the tokenised start text (with its end
    /// token), whose embeddings fill the prompts that start from a text.
    ///
    /// # Errors
    /// [`Error`] when a setting or a token is out of range.
    pub fn new(
        model: Rc<Model>,
        members: Vec<Member>,
        settings: Settings,
        init_ids: &[i64],
    ) -> Result<Self, Error> {
        check(&model, &members, &settings, init_ids)?;
        if members.iter().any(|member| member.method == Method::Full) {
            return Err(Error::Frozen);
        }
        let with_lora = members.iter().any(|member| member.method.lora_rank() > 0);
        let modules = if with_lora { model.lora_modules() } else { Vec::new() };
        let mut pack = Self::assemble(model, members, settings, modules, Vec::new())?;
        for (k, member) in pack.members.clone().into_iter().enumerate() {
            let start = pack.start(member, init_ids).doing("draw start values")?;
            pack.set_parameters(k, &start)?;
        }
        Ok(pack)
    }

    /// One trial that trains every weight of a model, in a copy of its own that starts from
    /// `weights`.
    ///
    /// # Errors
    /// [`Error`] when a setting is out of range, or a weight is absent or of another shape.
    pub fn fine_tuning(
        config: ModelConfig,
        weights: &Weights,
        member: Member,
        settings: Settings,
    ) -> Result<Self, Error> {
        let model = Model::from_weights(config, weights).map_err(Error::Rebuild)?;
        check(&model, &[member], &settings, &[0])?;
        let model = Rc::new(model);
        let names = weights.asked();
        let mut pack = Self::assemble(model, vec![member], settings, Vec::new(), names.clone())?;
        let own = no_grad(|| pack.layout.views(&pack.params, 0, member.method))
            .doing("set up the weights")?;
        for ((name, shape), (_, place)) in names.iter().zip(own.named()) {
            let start = weights.get(name, shape).map_err(Error::Rebuild)?;
            no_grad(|| place.shallow_clone().f_copy_(&start)).doing("set up the weights")?;
        }
        // From here on only the copy is used, and the loaded weights' memory is given back.
        pack.model = no_grad(|| pack.current())?;
        Ok(pack)
    }

    fn assemble(
        model: Rc<Model>,
        members: Vec<Member>,
        settings: Settings,
        modules: Vec<Module>,
        weights: Vec<(String, Vec<i64>)>,
    ) -> Result<Self, Error> {
        let doing = "set up the parameters";
        let methods: Vec<Method> = members.iter().map(|member| member.method).collect();
        let (max_length, d_model) = (settings.max_length, model.hidden_size());
        let dimensions = Dimensions { max_length, d_model, modules, weights };
        let layout = Layout::new(&methods, &dimensions);
        let options = (model.kind(), model.device());
        let per_trial = |values: Vec<f64>, shape: &[i64]| {
            Tensor::f_from_slice(&values)?
                .f_to_kind(options.0)?
                .f_to_device(options.1)?
                .f_view(shape)
        };
        let k = members.len() as i64;
        let factors = |of: fn(Method) -> f64| {
            per_trial(methods.iter().map(|&method| of(method)).collect(), &[k, 1, 1]).doing(doing)
        };
        let prompt_mask = match prompt_mask(&methods, &layout, options.0) {
            Some(mask) => Some(per_trial(mask, &[k, 1, 1, 1, layout.prompt_length]).doing(doing)?),
            None => None,
        };
        let mut seeds: Vec<u64> = members.iter().map(|member| member.seed).collect();
        if seeds.iter().all(|seed| seeds.first() == Some(seed)) {
            seeds.truncate(1);
        }
        let params = Tensor::f_zeros([k, layout.size()], options).doing(doing)?;
        let rates =
            |k: usize, rate| members.get(k).map_or(0.0, |member: &Member| member.rate(rate));
        let optim = Optim::new(
            settings.optimizer,
            &params,
            &Options {
                layout: &layout,
                methods: &methods,
                rates: &rates,
                weight_decay: settings.weight_decay,
                clip: settings.grad_clip,
            },
        );
        Ok(Self {
            leaves: layout.leaves(&params).doing(doing)?,
            optim: optim.doing(doing)?,
            alive: Tensor::f_ones([k, 1], (Kind::Bool, options.1)).doing(doing)?,
            scaling: factors(|method| scaling(method.rank()))?,
            lora_scaling: factors(Method::lora_scaling)?,
            params,
            model,
            members,
            settings,
            layout,
            modules: dimensions.modules,
            prompt_mask,
            seeds,
            step: 0,
        })
    }

    /// A member's start values.
    fn start(&self, member: Member, init_ids: &[i64]) -> Result<Adapter, TchError> {
        let (method, seed) = (member.method, member.seed);
        let like = self.model.embed(&Tensor::f_zeros([1], (Kind::Int64, self.model.device()))?)?;
        let ids = match member.init {
            PromptInit::Text => init_ids.to_vec(),
            PromptInit::Vocabulary => {
                vocabulary_rows(seed, method.prompt_length(), self.model.vocab_size())
            }
            PromptInit::Random => Vec::new(),
        };
        let rows = if ids.is_empty() {
            None
        } else {
            Some(self.model.embed(&Tensor::f_from_slice(&ids)?.f_to_device(like.device())?)?)
        };
        let mut start = initial(method, self.settings.max_length, rows.as_ref(), seed, &like)?;
        if method.lora_rank() > 0 {
            start.extend(lora_start(method.lora_rank(), &self.modules, seed, &like)?);
        }
        Ok(start)
    }

    /// The model as it is now: the frozen one, or one of the weights that are trained, with
    /// their gradients' history where that is recorded.
    fn current(&self) -> Result<Rc<Model>, Error> {
        if self.members.iter().all(|member| member.method != Method::Full) {
            return Ok(Rc::clone(&self.model));
        }
        let name = |(name, leaf): (&str, &Tensor)| Ok((name.to_owned(), leaf.f_get(0)?));
        let tensors: Result<BTreeMap<String, Tensor>, TchError> =
            self.layout.names().zip(&self.leaves).map(name).collect();
        let (products, device) = (self.model.products(), self.model.device());
        let weights = Weights::of_tensors(tensors.doing("take the weights")?, products, device);
        let config = self.model.config().clone();
        Model::from_weights(config, &weights).map(Rc::new).map_err(Error::Rebuild)
    }

    /// The parameters [K, ...] of a name, if any trial has them.
    fn leaf(&self, name: &str) -> Option<&Tensor> {
        self.layout.place(name).and_then(|place| self.leaves.get(place))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The trials.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The common settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Updates done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// One update of all trials from the micro-batches of one effective batch (more than one:
    /// gradient accumulation, each counting the same).
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, after the last update, or when
    /// libtorch fails; the state is then unchanged.
    pub fn step(&mut self, micro_batches: &[Batch]) -> Result<StepReport, Error> {
        let Settings { steps, warmup_steps, scheduler, .. } = self.settings;
        if self.step >= steps {
            return Err(Error::Finished { steps });
        }
        let step = self.step + 1;
        let lr_factor = Schedule { scheduler, steps, warmup_steps }.factor(step);
        let gradients = self.gradients(micro_batches)?;
        let (norms, alive) = no_grad(|| -> Result<_, TchError> {
            let grads = &gradients.flat;
            let norms = Optim::norms(grads)?;
            let alive = self.alive.f_logical_and(&finite(&gradients.losses, &norms)?)?;
            let update = Update { grads, norms: &norms, alive: &alive, step, factor: lr_factor };
            self.optim.update(&mut self.params, update)?;
            Ok((norms, alive))
        })
        .doing("update the parameters")?;
        self.step = step;
        self.alive = alive;
        let losses = numbers(&gradients.losses)?;
        let alive = numbers(&self.alive)?;
        let trials = losses
            .into_iter()
            .zip(numbers(&norms)?)
            .zip(alive)
            .map(|((loss, grad_norm), alive)| TrialStep { loss, grad_norm, diverged: alive == 0.0 })
            .collect();
        Ok(StepReport { step, lr_factor, trials })
    }

    /// Losses and gradients of the next update, without making it.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn gradients(&self, micro_batches: &[Batch]) -> Result<Gradients, Error> {
        if micro_batches.is_empty() {
            return Err(BatchError::Empty.into());
        }
        for batch in micro_batches {
            batch.check(&self.limits(0))?;
        }
        self.accumulate(micro_batches)
    }

    fn accumulate(&self, micro_batches: &[Batch]) -> Result<Gradients, Error> {
        let doing = "compute losses and gradients";
        let options = (self.model.kind(), self.model.device());
        let mut losses = Tensor::f_zeros([self.trials()], options).doing(doing)?;
        let mut sums: Vec<Option<Tensor>> = self.leaves.iter().map(|_| None).collect();
        let mut first_row = 0;
        let joined = self.model.is_decoder();
        for batch in micro_batches {
            let tokens = self.label_tokens(batch).max(1) * micro_batches.len();
            let prompt = self.layout.prompt_length as usize;
            for group in batch.groups(self.settings.groups, prompt, joined) {
                let rows: Vec<u32> = group.iter().map(|&row| (first_row + row) as u32).collect();
                let examples: Vec<&Example> =
                    group.iter().filter_map(|&row| batch.examples.get(row)).collect();
                let model = self.current()?;
                let (loss, gradients) =
                    self.backward(model, &examples, &rows, tokens).doing(doing)?;
                losses = losses.f_add(&loss).doing(doing)?;
                for (sum, gradient) in sums.iter_mut().zip(gradients) {
                    *sum = match sum.take() {
                        Some(sum) if gradient.defined() => Some(sum.f_add(&gradient).doing(doing)?),
                        None if gradient.defined() => Some(gradient),
                        unchanged => unchanged,
                    };
                }
            }
            first_row += batch.examples.len();
        }
        let flat = self.layout.join(&sums, &self.params).doing(doing)?;
        let methods = self.members.iter().map(|member| member.method).collect();
        Ok(Gradients { layout: self.layout.clone(), methods, losses, flat })
    }

    /// Losses [K] of some rows of a batch, divided by its `tokens`, and the gradient of their sum
    /// for each of the leaves.
    fn backward(
        &self,
        model: Rc<Model>,
        examples: &[&Example],
        rows: &[u32],
        tokens: usize,
    ) -> Result<(Tensor, Vec<Tensor>), TchError> {
        let masks = Masks {
            seeds: &self.seeds,
            step: self.step + 1,
            rows,
            rate: self.settings.dropout,
            kind: self.model.kind(),
            device: self.model.device(),
        };
        let masks = (self.settings.dropout > 0.0).then_some(&masks);
        let loss = self.training_losses(model, examples, masks)?.f_div_scalar(tokens as f64)?;
        // The sum's gradient is 1 for every trial: their gradients stay apart.
        let total = loss.f_sum(loss.kind())?;
        let gradients = Tensor::f_run_backward(&[total], &self.leaves, false, false)?;
        Ok((loss.f_detach()?, gradients))
    }

    pub(crate) fn trials(&self) -> i64 {
        self.members.len() as i64
    }

    fn method(&self, k: usize) -> Result<Method, Error> {
        let members = self.members.len();
        let member = self.members.get(k).ok_or(Error::NoTrial { trial: k, members })?;
        Ok(member.method)
    }
}

/// The values of a small tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    tensor
        .f_flatten(0, -1)
        .and_then(|flat| Vec::<f64>::try_from(flat.f_to_kind(Kind::Double)?))
        .doing("fetch results")
}
