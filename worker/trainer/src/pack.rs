//! A pack: K trials that train fused on one frozen model. A solo run is a pack of one.
//!
//! The trials share every batch; each has its own prompt, low-rank pair, learning rates and
//! optimiser state. No operation multiplies values of different trials, so that one trial's
//! NaN never reaches another.

use std::rc::Rc;

use tch::{Kind, TchError, Tensor, no_grad};

use crate::batch::{Batch, BatchError, Collated, Example, Padding};
use crate::dropout::{Axis, Masks};
use crate::method::{Adapter, Layout, Method, initial, scaling};
use crate::model::{Memory, T5, lowest};
use crate::optim::{AdamW, finite};
use crate::schedule::Schedule;

/// Why a pack cannot be made or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The pack has no members.
    #[error("a pack needs at least one trial")]
    NoMembers,
    /// A member's or the pack's setting is out of range.
    #[error("{field} = {value} is out of range (expected {expected})")]
    Setting {
        /// Name of the setting.
        field: &'static str,
        /// What was given.
        value: String,
        /// The accepted range.
        expected: &'static str,
    },
    /// A batch that the model cannot take.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// All updates of the schedule have been made.
    #[error("the run has ended: all {steps} steps are done")]
    Finished {
        /// Updates of the whole run.
        steps: u64,
    },
    /// There is no such trial in the pack.
    #[error("the pack has {members} trials, there is no number {trial}")]
    NoTrial {
        /// The number asked for, from 0.
        trial: usize,
        /// K
        members: usize,
    },
    /// A state does not fit the trial that it was given to.
    #[error("trial {trial} of the pack takes tensors of shapes {expected:?}, not {found:?}")]
    StateShape {
        /// Number of the trial, from 0.
        trial: usize,
        /// Shapes of P, A, B given.
        found: Vec<Vec<i64>>,
        /// Shapes of P, A, B that fit.
        expected: Vec<Vec<i64>>,
    },
    /// The states of a pack were saved at different steps.
    #[error("the trials of a pack resume at one step, not at {steps:?}")]
    StateSteps {
        /// Steps of the given states.
        steps: Vec<u64>,
    },
    /// libtorch failed, most often for want of memory.
    #[error("cannot {doing}")]
    Tensor {
        /// What was being done.
        doing: &'static str,
        /// What libtorch said.
        #[source]
        source: TchError,
    },
}

/// Says what was being done when libtorch failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, Error>;
}

impl<T> Doing<T> for Result<T, TchError> {
    fn doing(self, doing: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Tensor { doing, source })
    }
}

/// One trial of a pack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Member {
    /// Method with m and r.
    pub method: Method,
    /// α1, the learning rate of P.
    pub prompt_lr: f64,
    /// α2, the learning rate of A and B (unused by prompt tuning).
    pub lowrank_lr: f64,
    /// Decides A's start values and the dropout masks.
    pub seed: u64,
}

/// What the trials of a pack have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Updates of the whole run.
    pub steps: u64,
    /// Updates of the linear warm-up.
    pub warmup_steps: u64,
    /// s: the longest input, and the rows of A.
    pub max_length: usize,
    /// Largest joint gradient norm; the reference has 1.
    pub grad_clip: f64,
    /// Dropout rate of the backbone in training, 0 to below 1.
    pub dropout: f64,
    /// How far batches are padded.
    pub padding: Padding,
    /// Most groups of similar length that a micro-batch is cut into, 1 or more. Any number
    /// gives the same result up to rounding.
    pub groups: usize,
}

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

/// Everything that a trial needs to go on, as copies that share no memory with the pack.
#[derive(Debug)]
pub struct TrialState {
    /// Updates done.
    pub step: u64,
    /// P, A, B.
    pub parameters: Adapter,
    /// Their first moments.
    pub exp_avg: Adapter,
    /// Their second moments.
    pub exp_avg_sq: Adapter,
    /// The trial stands still since its loss or gradient was not finite.
    pub diverged: bool,
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

/// A batch that has passed the encoder.
pub struct Encoded {
    /// Last hidden states [K, B, m + L, d], with the longest prompt of the pack as m.
    pub states: Tensor,
    mask: Option<Tensor>,
    axis: Axis,
    pub(crate) rows: i64,
    batch: Collated,
}

impl Encoded {
    pub(crate) fn memory(&self) -> Memory<'_> {
        Memory { states: &self.states, mask: self.mask.as_ref(), axis: self.axis }
    }
}

/// K trials, their parameters and optimiser state.
pub struct Pack {
    model: Rc<T5>,
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
        model: Rc<T5>,
        members: Vec<Member>,
        settings: Settings,
        init_ids: &[i64],
    ) -> Result<Self, Error> {
        check(&model, &members, &settings, init_ids)?;
        let doing = "set up the parameters";
        let methods: Vec<Method> = members.iter().map(|member| member.method).collect();
        let layout = Layout::new(&methods, settings.max_length, model.config().d_model);
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
    pub fn model(&self) -> &T5 {
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
            batch.check(self.model.config(), self.settings.max_length)?;
        }
        self.accumulate(micro_batches).doing("compute losses and gradients")
    }

    fn accumulate(&self, micro_batches: &[Batch]) -> Result<Gradients, TchError> {
        let mut losses =
            Tensor::f_zeros([self.trials()], (self.model.kind(), self.model.device()))?;
        let mut flat = self.params.f_detach()?.f_zeros_like()?;
        let mut first_row = 0;
        for batch in micro_batches {
            let tokens = batch.label_tokens() * micro_batches.len();
            let prompt = self.layout.prompt_length as usize;
            for group in batch.groups(self.settings.groups, prompt) {
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
                let encoded = self.forward(&examples, masks)?;
                let loss = self.losses(&encoded, masks)?.f_div_scalar(tokens as f64)?;
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

    /// Passes a batch through the encoder, without dropout and gradients.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn encode(&self, batch: &Batch) -> Result<Encoded, Error> {
        batch.check(self.model.config(), self.settings.max_length)?;
        let examples: Vec<&Example> = batch.examples.iter().collect();
        no_grad(|| self.forward(&examples, None)).doing("encode a batch")
    }

    /// Logits [K, n, vocabulary] of the n label tokens of a batch, row by row.
    ///
    /// # Errors
    /// [`Error::Tensor`] when libtorch fails.
    pub fn label_logits(&self, encoded: &Encoded) -> Result<Tensor, Error> {
        no_grad(|| self.logits(encoded, None)).doing("compute logits")
    }

    /// Teacher-forced loss of every trial, summed over the label tokens of a batch, without
    /// dropout. Divide by [`Batch::label_tokens`] for the mean.
    ///
    /// # Errors
    /// [`Error::Tensor`] when libtorch fails.
    pub fn label_loss(&self, encoded: &Encoded) -> Result<Vec<f64>, Error> {
        numbers(&no_grad(|| self.losses(encoded, None)).doing("compute the loss")?)
    }

    /// Mean teacher-forced loss of every trial over the label tokens of a batch, without
    /// dropout.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn eval_loss(&self, batch: &Batch) -> Result<Vec<f64>, Error> {
        let sums = self.label_loss(&self.encode(batch)?)?;
        Ok(sums.into_iter().map(|sum| sum / batch.label_tokens() as f64).collect())
    }

    fn forward(
        &self,
        examples: &[&Example],
        masks: Option<&Masks<'_>>,
    ) -> Result<Encoded, TchError> {
        let (model, s) = (&*self.model, self.settings.max_length);
        let (kind, device) = (model.kind(), model.device());
        let batch =
            Collated::new(examples, self.settings.padding, s, model.config(), kind, device)?;
        let (rows, text) = batch.input_ids.size2()?;
        let axis = Axis { prompt: self.layout.prompt_length as usize, text: text as usize };
        let mask = self.key_mask(batch.mask.as_ref(), rows, text)?;
        let inputs = self.inputs(&batch.input_ids)?;
        let states = model.encode(&inputs, mask.as_ref(), axis, masks)?;
        Ok(Encoded { states, mask, axis, rows, batch })
    }

    /// Encoder inputs [K, B, m + L, d]: the prompt, then embeddings plus scaling * A B at every
    /// position, padding included. Position i of the text takes row i of A.
    fn inputs(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        let Layout { prompt_length, rank, d_model, .. } = self.layout;
        let (rows, text) = ids.size2()?;
        let words = self.model.embed(ids)?.f_unsqueeze(0)?;
        let prompt = self
            .layout
            .prompt(&self.params)?
            .f_unsqueeze(1)?
            .f_expand([self.trials(), rows, prompt_length, d_model], false)?;
        let words = if rank > 0 {
            let a = self.layout.lowrank_a(&self.params)?.f_narrow(1, 0, text)?;
            let offset = a.f_bmm(&self.layout.lowrank_b(&self.params)?)?.f_mul(&self.scaling)?;
            words.f_add(&offset.f_unsqueeze(1)?)?
        } else {
            words.f_expand([self.trials(), rows, text, d_model], false)?
        };
        Tensor::f_cat(&[prompt, words], 2)
    }

    /// Additive mask [K or 1, B, 1, 1, m + L] of prompt and text; none when nothing is hidden.
    fn key_mask(
        &self,
        text_mask: Option<&Tensor>,
        rows: i64,
        text: i64,
    ) -> Result<Option<Tensor>, TchError> {
        if self.prompt_mask.is_none() && text_mask.is_none() {
            return Ok(None);
        }
        let k = if self.prompt_mask.is_some() { self.trials() } else { 1 };
        let zeros = |length| {
            let options = (self.model.kind(), self.model.device());
            Tensor::f_zeros([1, 1, 1, 1, length], options)
        };
        let wide = |mask: Option<&Tensor>, length| match mask {
            Some(mask) => mask.f_expand([k, rows, 1, 1, length], false),
            None => zeros(length)?.f_expand([k, rows, 1, 1, length], false),
        };
        let prompt = wide(self.prompt_mask.as_ref(), self.layout.prompt_length)?;
        Ok(Some(Tensor::f_cat(&[prompt, wide(text_mask, text)?], 4)?))
    }

    fn logits(&self, encoded: &Encoded, masks: Option<&Masks<'_>>) -> Result<Tensor, TchError> {
        let hidden = self.model.decode(&encoded.batch.decoder_ids, &encoded.memory(), masks)?;
        let hidden = hidden.f_flatten(1, 2)?.f_index_select(1, &encoded.batch.label_places)?;
        self.model.logits(&hidden)
    }

    /// Cross-entropies [K] summed over label tokens.
    fn losses(&self, encoded: &Encoded, masks: Option<&Masks<'_>>) -> Result<Tensor, TchError> {
        let logits = self.logits(encoded, masks)?.f_flatten(0, 1)?;
        let k = self.trials();
        let labels = encoded.batch.labels.f_repeat([k].as_slice())?;
        let none = None::<&Tensor>;
        let losses = logits.f_cross_entropy_loss(&labels, none, tch::Reduction::None, -100, 0.0)?;
        losses.f_view([k, -1])?.f_sum_dim_intlist([1i64].as_slice(), false, losses.kind())
    }

    /// A copy of trial `k`'s parameters.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn parameters(&self, k: usize) -> Result<Adapter, Error> {
        self.copy_of(&self.params, k)
    }

    /// Overwrites trial `k`'s parameters, for example with those of a source task or the best
    /// snapshot; its moments stay.
    ///
    /// # Errors
    /// [`Error::StateShape`] when they do not fit.
    pub fn set_parameters(&mut self, k: usize, parameters: &Adapter) -> Result<(), Error> {
        self.overwrite(&self.params.shallow_clone(), k, parameters)
    }

    /// A copy of all that trial `k` needs to go on.
    ///
    /// # Errors
    /// [`Error::NoTrial`].
    pub fn state(&self, k: usize) -> Result<TrialState, Error> {
        Ok(TrialState {
            step: self.step,
            parameters: self.parameters(k)?,
            exp_avg: self.copy_of(&self.optim.exp_avg, k)?,
            exp_avg_sq: self.copy_of(&self.optim.exp_avg_sq, k)?,
            diverged: self.alive.f_int64_value(&[k as i64, 0]).doing("read a flag")? == 0,
        })
    }

    /// Puts all trials where their states, one per member in order, left off.
    ///
    /// # Errors
    /// [`Error`] when their number, steps or shapes do not fit; the pack must then be dropped.
    pub fn resume(&mut self, states: &[TrialState]) -> Result<(), Error> {
        let steps: Vec<u64> = states.iter().map(|state| state.step).collect();
        let (Some(&step), true) = (steps.first(), states.len() == self.members.len()) else {
            return Err(Error::NoTrial { trial: states.len(), members: self.members.len() });
        };
        if steps.iter().any(|&other| other != step) {
            return Err(Error::StateSteps { steps });
        }
        for (k, state) in states.iter().enumerate() {
            self.set_parameters(k, &state.parameters)?;
            self.overwrite(&self.optim.exp_avg.shallow_clone(), k, &state.exp_avg)?;
            self.overwrite(&self.optim.exp_avg_sq.shallow_clone(), k, &state.exp_avg_sq)?;
        }
        let alive: Vec<bool> = states.iter().map(|state| !state.diverged).collect();
        self.alive = Tensor::f_from_slice(&alive)
            .and_then(|alive| alive.f_view([-1, 1])?.f_to_device(self.model.device()))
            .doing("restore the flags")?;
        self.step = step;
        Ok(())
    }

    pub(crate) fn trials(&self) -> i64 {
        self.members.len() as i64
    }

    fn method(&self, k: usize) -> Result<Method, Error> {
        let members = self.members.len();
        let member = self.members.get(k).ok_or(Error::NoTrial { trial: k, members })?;
        Ok(member.method)
    }

    fn copy_of(&self, flat: &Tensor, k: usize) -> Result<Adapter, Error> {
        let method = self.method(k)?;
        no_grad(|| self.layout.views(flat, k, method)?.copied()).doing("copy a trial's state")
    }

    fn overwrite(&self, flat: &Tensor, k: usize, from: &Adapter) -> Result<(), Error> {
        let doing = "restore a trial's state";
        let method = self.method(k)?;
        let mut to = no_grad(|| self.layout.views(flat, k, method)).doing(doing)?;
        if from.shapes() != to.shapes() {
            let (found, expected) = (from.shapes(), to.shapes());
            return Err(Error::StateShape { trial: k, found, expected });
        }
        no_grad(|| to.copy_from(from)).doing(doing)
    }
}

/// The values of a small tensor.
fn numbers(tensor: &Tensor) -> Result<Vec<f64>, Error> {
    tensor
        .f_flatten(0, -1)
        .and_then(|flat| Vec::<f64>::try_from(flat.f_to_kind(Kind::Double)?))
        .doing("fetch results")
}

fn check(
    model: &T5,
    members: &[Member],
    settings: &Settings,
    init_ids: &[i64],
) -> Result<(), Error> {
    let bad = |field, value: String, expected| Err(Error::Setting { field, value, expected });
    if members.is_empty() {
        return Err(Error::NoMembers);
    }
    for member in members {
        if member.method.prompt_length() == 0 {
            return bad("prompt_length", "0".to_owned(), "1 or more");
        }
        if let Method::Dept { rank: 0, .. } = member.method {
            return bad("rank", "0".to_owned(), "1 or more; use prompt tuning for none");
        }
        for (field, rate) in [("prompt_lr", member.prompt_lr), ("lowrank_lr", member.lowrank_lr)] {
            if !(rate >= 0.0 && rate.is_finite()) {
                return bad(field, rate.to_string(), "a finite number, 0 or more");
            }
        }
    }
    if settings.max_length == 0 {
        return bad("max_length", "0".to_owned(), "1 or more");
    }
    if settings.grad_clip.is_nan() || settings.grad_clip <= 0.0 {
        return bad("grad_clip", settings.grad_clip.to_string(), "above 0");
    }
    if !(0.0..1.0).contains(&settings.dropout) {
        return bad("dropout", settings.dropout.to_string(), "0 to below 1");
    }
    let vocabulary = model.config().vocab_size as i64;
    if init_ids.is_empty() || init_ids.iter().any(|id| !(0..vocabulary).contains(id)) {
        return bad("init_ids", format!("{init_ids:?}"), "tokens of the model's vocabulary");
    }
    Ok(())
}

/// Additive mask values of the prompt's places, or none when all prompts have one length.
fn prompt_mask(methods: &[Method], layout: &Layout, kind: Kind) -> Option<Vec<f64>> {
    let longest = layout.prompt_length as usize;
    if methods.iter().all(|method| method.prompt_length() == longest) {
        return None;
    }
    let row = |method: &Method| {
        let unused = longest - method.prompt_length();
        (0..longest).map(move |place| if place < unused { lowest(kind) } else { 0.0 })
    };
    Some(methods.iter().flat_map(row).collect())
}
