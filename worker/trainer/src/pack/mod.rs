//! A pack: K trials that train fused on one frozen model. A solo run is a pack of one.
//!
//! The trials share every batch; each has its own prompt, low-rank pair, learning rates and
//! optimiser state. No operation multiplies values of different trials, so that one trial's
//! NaN never reaches another.

mod error;
mod forward;
mod settings;
mod state;

use std::rc::Rc;

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
use crate::method::{Adapter, Layout, Method, initial, scaling};
use crate::model::Model;
use crate::optim::{AdamW, finite};
use crate::schedule::Schedule;

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
    model: Rc<Model>,
    members: Vec<Member>,
    settings: Settings,
    layout: Layout,
    /// P | A | B per trial, [K, N]; the only tensor that asks for gradients.
    params: Tensor,
    optim: AdamW,
    /// [K, 1]
    alive: Tensor,
    /// Scaling per trial, [K, 1, 1].
    scaling: Tensor,
    /// Hides the unused front rows of shorter prompts, [K, 1, 1, 1, m].
    prompt_mask: Option<Tensor>,
    /// One seed when all trials share it, else one per trial.
    seeds: Vec<u64>,
    step: u64,
}

impl Pack {
    /// Trials at their start values. `init_ids` is the tokenised start text (with its end
    /// token), whose embeddings fill the prompts.
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
        let doing = "set up the parameters";
        let methods: Vec<Method> = members.iter().map(|member| member.method).collect();
        let layout = Layout::new(&methods, settings.max_length, model.hidden_size());
        let options = (model.kind(), model.device());
        let per_trial = |values: Vec<f64>, shape: &[i64]| {
            Tensor::f_from_slice(&values)?
                .f_to_kind(options.0)?
                .f_to_device(options.1)?
                .f_view(shape)
        };
        let k = members.len() as i64;
        let rates = members.iter().flat_map(|m| layout.rates(m.prompt_lr, m.lowrank_lr)).collect();
        let rates = per_trial(rates, &[k, layout.size()]).doing(doing)?;
        let scaling = members.iter().map(|m| scaling(m.method.rank())).collect();
        let scaling = per_trial(scaling, &[k, 1, 1]).doing(doing)?;
        let prompt_mask = prompt_mask(&methods, &layout, options.0);
        let prompt_mask = match prompt_mask {
            Some(mask) => Some(per_trial(mask, &[k, 1, 1, 1, layout.prompt_length]).doing(doing)?),
            None => None,
        };
        let mut seeds: Vec<u64> = members.iter().map(|member| member.seed).collect();
        if seeds.iter().all(|seed| seeds.first() == Some(seed)) {
            seeds.truncate(1);
        }
        let mut pack = Self {
            params: Tensor::f_zeros([k, layout.size()], options)
                .and_then(|params| params.f_set_requires_grad(true))
                .doing(doing)?,
            optim: AdamW::new(rates, settings.grad_clip).doing(doing)?,
            alive: Tensor::f_ones([k, 1], (Kind::Bool, options.1)).doing(doing)?,
            model,
            members,
            settings,
            layout,
            scaling,
            prompt_mask,
            seeds,
            step: 0,
        };
        let init = Tensor::f_from_slice(init_ids)
            .and_then(|ids| pack.model.embed(&ids.f_to_device(options.1)?))
            .doing(doing)?;
        for (k, member) in pack.members.clone().into_iter().enumerate() {
            let start =
                initial(member.method, settings.max_length, &init, member.seed).doing(doing)?;
            pack.set_parameters(k, &start)?;
        }
        Ok(pack)
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
        let Settings { steps, warmup_steps, .. } = self.settings;
        if self.step >= steps {
            return Err(Error::Finished { steps });
        }
        let step = self.step + 1;
        let lr_factor = Schedule { steps, warmup_steps }.factor(step);
        let gradients = self.gradients(micro_batches)?;
        let (norms, alive) = no_grad(|| -> Result<_, TchError> {
            let norms = AdamW::norms(&gradients.flat)?;
            let alive = self.alive.f_logical_and(&finite(&gradients.losses, &norms)?)?;
            let (params, grads) = (&mut self.params, &gradients.flat);
            self.optim.update(params, grads, &norms, &alive, step, lr_factor)?;
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
        self.accumulate(micro_batches).doing("compute losses and gradients")
    }

    fn accumulate(&self, micro_batches: &[Batch]) -> Result<Gradients, TchError> {
        let mut losses =
            Tensor::f_zeros([self.trials()], (self.model.kind(), self.model.device()))?;
        let mut flat = self.params.f_detach()?.f_zeros_like()?;
        let mut first_row = 0;
        let joined = self.model.is_decoder();
        for batch in micro_batches {
            let tokens = self.label_tokens(batch).max(1) * micro_batches.len();
            let prompt = self.layout.prompt_length as usize;
            for group in batch.groups(self.settings.groups, prompt, joined) {
                let rows: Vec<u32> = group.iter().map(|&row| (first_row + row) as u32).collect();
                let examples: Vec<&Example> =
                    group.iter().filter_map(|&row| batch.examples.get(row)).collect();
                let masks = Masks {
                    seeds: &self.seeds,
                    step: self.step + 1,
                    rows: &rows,
                    rate: self.settings.dropout,
                    kind: self.model.kind(),
                    device: self.model.device(),
                };
                let masks = (self.settings.dropout > 0.0).then_some(&masks);
                let loss = self.training_losses(&examples, masks)?.f_div_scalar(tokens as f64)?;
                losses = losses.f_add(&loss.f_detach()?)?;
                // The sum's gradient is 1 for every trial: their gradients stay apart.
                let total = loss.f_sum(loss.kind())?;
                let grads = Tensor::f_run_backward(&[total], &[&self.params], false, false)?;
                for grad in &grads {
                    flat = flat.f_add(grad)?;
                }
            }
            first_row += batch.examples.len();
        }
        let methods = self.members.iter().map(|member| member.method).collect();
        Ok(Gradients { layout: self.layout, methods, losses, flat })
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
