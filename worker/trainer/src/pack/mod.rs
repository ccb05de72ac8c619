//! A pack: K trials that train fused on one frozen model, or one trial that trains a model of its
//! own. A solo run is a pack of one.
//!
//! The trials share every batch; each has its own parameters, learning rates and optimiser state. No operation multiplies values of different trials, so that one trial's
//! NaN never reaches another.

mod build;
mod error;
mod forward;
mod recompute;
mod settings;
mod state;
mod written;

use std::cell::OnceCell;
use std::rc::Rc;

use deptune_sweep::spec::DropoutMasks;
use tch::{Kind, TchError, Tensor, no_grad};

pub(crate) use error::Doing;
pub use error::Error;
pub use forward::Encoded;
pub use settings::{Backward, Member, Settings};
pub use state::TrialState;

use crate::batch::{Batch, BatchError, Example};
use crate::dropout::Masks;
use crate::engine::Engine;
use crate::method::{Adapter, Layout, Method, Module};
use crate::model::Model;
use crate::optim::{Optim, Update, finite};
use crate::schedule::Schedule;

/// What one update did to one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrialStep {
    /// Training loss before the update: mean over micro-batches of token means. May be NaN for a
    /// trial that stands still, since it need not be computed.
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
    /// The written-out way back, where there is one.
    engine: OnceCell<Option<Engine>>,
    step: u64,
    /// Of the updates that nobody has asked about yet.
    unread: Vec<Unread>,
}

/// What an update did, still on the device.
struct Unread {
    step: u64,
    lr_factor: f64,
    /// Loss, norm and whether it goes on, per trial: [K, 3].
    numbers: Tensor,
}

impl Pack {
    /// The model. In full fine-tuning its weights are those of the start; the trial's own are
    /// among its [`Pack::parameters`].
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
    /// [`Error`] for a batch that the model cannot take or after the last update: the state is
    /// then unchanged. When libtorch fails, most often for want of memory, the pack must be
    /// dropped.
    pub fn step(&mut self, micro_batches: &[Batch]) -> Result<StepReport, Error> {
        self.advance(micro_batches)?;
        self.reports()?.pop().ok_or(Error::Finished { steps: self.settings.steps })
    }

    /// [`Pack::step`] without its report, which waits for [`Pack::reports`]: on a GPU nobody waits
    /// for the update to be done. A trial that diverges stands still all the same.
    ///
    /// # Errors
    /// Those of [`Pack::step`].
    pub fn advance(&mut self, micro_batches: &[Batch]) -> Result<(), Error> {
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
        let columns = [&gradients.losses, &norms, &self.alive];
        let columns = columns.map(|column| column.f_flatten(0, -1)?.f_to_kind(Kind::Double));
        let columns: Vec<Tensor> = columns.into_iter().collect::<Result<_, _>>().doing(FETCH)?;
        let numbers = Tensor::f_stack(&columns, 1).doing(FETCH)?;
        self.unread.push(Unread { step, lr_factor, numbers });
        Ok(())
    }

    /// What the updates did since the last call, in their order; fetched from the device together.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn reports(&mut self) -> Result<Vec<StepReport>, Error> {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Tensor> = unread.iter().map(|update| &update.numbers).collect();
        let all = numbers(&Tensor::f_cat(&all, 0).doing(FETCH)?)?;
        let mut rows = all.as_chunks().0.iter().map(|&[loss, grad_norm, alive]| TrialStep {
            loss,
            grad_norm,
            diverged: alive == 0.0,
        });
        let report = |&Unread { step, lr_factor, .. }: &Unread| {
            let trials = rows.by_ref().take(self.members.len()).collect();
            StepReport { step, lr_factor, trials }
        };
        Ok(unread.iter().map(report).collect())
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
        match self.engine()? {
            Some(engine) => self.written(engine, micro_batches),
            None => self.accumulate(micro_batches),
        }
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
                let Settings { dropout: rate, dropout_masks, .. } = self.settings;
                let masks = Masks {
                    seeds: &self.seeds,
                    step: self.step + 1,
                    rows: &rows,
                    rate,
                    kind: self.model.kind(),
                    device: self.model.device(),
                    kernel: dropout_masks == DropoutMasks::Kernel,
                };
                let masks = (rate > 0.0).then_some(&masks);
                let (loss, gradients) = if self.settings.activation_checkpointing {
                    self.backward_in_pieces(&examples, masks, tokens)?
                } else {
                    masks.iter().for_each(|masks| masks.reseed(0));
                    self.backward(self.current()?, &examples, masks, tokens).doing(doing)?
                };
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
        masks: Option<&Masks<'_>>,
        tokens: usize,
    ) -> Result<(Tensor, Vec<Tensor>), TchError> {
        let loss = self.training_losses(model, examples, masks)?.f_div_scalar(tokens as f64)?;
        // The sum's gradient is 1 for every trial: their gradients stay apart.
        let total = loss.f_sum(loss.kind())?;
        let gradients = Tensor::f_run_backward(&[total], &self.leaves, false, false)?;
        Ok((loss.f_detach()?, gradients))
    }

    pub(crate) fn trials(&self) -> i64 {
        self.members.len() as i64
    }

    /// Refuses numbers of trials that there are not.
    pub(crate) fn check_trials(&self, trials: &[usize]) -> Result<(), Error> {
        trials.iter().try_for_each(|&k| self.method(k).map(drop))
    }

    /// The numbers of all trials.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.members.len()).collect()
    }

    fn method(&self, k: usize) -> Result<Method, Error> {
        let members = self.members.len();
        let member = self.members.get(k).ok_or(Error::NoTrial { trial: k, members })?;
        Ok(member.method)
    }
}

const FETCH: &str = "fetch results";

/// The values of a small tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    tensor
        .f_flatten(0, -1)
        .and_then(|flat| Vec::<f64>::try_from(flat.f_to_kind(Kind::Double)?))
        .doing(FETCH)
}
