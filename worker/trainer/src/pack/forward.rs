//! From a batch to the losses of all trials.

use std::rc::Rc;

use deptune_sweep::task::Recipe;
use tch::{Kind, TchError, Tensor, no_grad};

use super::{Doing, Error, Pack, numbers};
use crate::batch::{Batch, Example, Limits};
use crate::collate::{Collated, Offsets, Part, Rules};
use crate::cuda::upload;
use crate::dropout::{Axis, Masks};
use crate::engine::Engine;
use crate::method::{LOWRANK_A_KEY, LOWRANK_B_KEY, Layout, Lora, Method, PROMPT_KEY};
use crate::model::layers::lowest;
use crate::model::{Model, Pass, Passed, Sequence};

/// A batch that has passed the model (a T5's encoder, or a decoder up to where the answer
/// begins).
pub struct Encoded {
    pub(crate) passed: Passed,
    /// The model that it passed, with the weights of that moment.
    pub(crate) model: Rc<Model>,
    pub(super) lora: Option<Lora>,
    pub(crate) rows: i64,
    pub(super) batch: Collated,
    pub(super) examples: Vec<Example>,
    /// Whether only the trials that were wanted have passed, in their order; else all have.
    pub(super) chosen: bool,
}

impl Encoded {
    /// Last hidden states [K, B, m + L, d], with the longest prompt of the pack as m, in f32 or
    /// in the number format of the products. Text stands left, padding right of it; what stands at
    /// the places of padding means nothing.
    pub fn states(&self) -> &Tensor {
        &self.passed.states
    }

    /// K: the trials that have passed.
    pub(crate) fn trials(&self) -> Result<usize, TchError> {
        Ok(self.passed.states.size4()?.0 as usize)
    }

    /// What belongs to the trials that were wanted, of what belongs to those that have passed.
    pub(crate) fn wanted<T: Clone>(&self, passed: Vec<T>, wanted: &[usize]) -> Vec<T> {
        if self.chosen {
            return passed;
        }
        wanted.iter().filter_map(|&k| passed.get(k).cloned()).collect()
    }

    /// Whether what follows the pass is the same for all trials.
    pub(crate) fn is_same_for_all_trials(&self) -> bool {
        self.lora.is_none()
    }

    /// The label tokens of every row.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &[i64]> {
        self.examples.iter().map(|example| example.labels.as_slice())
    }

    pub(crate) fn pass<'a>(&'a self, masks: Option<&'a Masks<'a>>) -> Pass<'a> {
        Pass { masks, lora: self.lora.as_ref() }
    }
}

impl Pack {
    /// Passes a batch through the model, without dropout and gradients.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn encode(&self, batch: &Batch) -> Result<Encoded, Error> {
        self.encode_for(batch, 0, &self.all())
    }

    /// [`Pack::encode`] with room for an answer of that many tokens. Only the `wanted` trials pass,
    /// in their order, where the engine makes that possible, else all.
    pub(crate) fn encode_for(
        &self,
        batch: &Batch,
        answer: usize,
        wanted: &[usize],
    ) -> Result<Encoded, Error> {
        batch.check(&self.limits(answer))?;
        let examples: Vec<&Example> = batch.examples.iter().collect();
        let model = no_grad(|| self.current())?;
        let by = self.engine()?.map(|engine| (engine, wanted));
        no_grad(|| self.forward(model, &examples, Part::Text, None, by)).doing("encode a batch")
    }

    /// Logits [K, n, vocabulary] of the n label tokens of a batch, row by row. Those that the
    /// reference cuts off are left out.
    ///
    /// # Errors
    /// [`Error::Tensor`] when libtorch fails.
    pub fn label_logits(&self, encoded: &Encoded) -> Result<Tensor, Error> {
        no_grad(|| self.answer_logits(encoded)).doing("compute logits")
    }

    /// Teacher-forced loss of every trial, summed over the label tokens of a batch, from their
    /// `logits` as [`Pack::label_logits`] gives them. Divide by [`Pack::label_tokens`] for the
    /// mean.
    ///
    /// # Errors
    /// [`Error::Tensor`] when libtorch fails.
    pub fn label_loss(&self, encoded: &Encoded, logits: &Tensor) -> Result<Vec<f64>, Error> {
        let losses = || self.losses(logits, &encoded.batch);
        numbers(&no_grad(losses).doing("compute the loss")?)
    }

    /// Mean teacher-forced loss of every trial over the label tokens of a batch, without
    /// dropout.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn eval_loss(&self, batch: &Batch) -> Result<Vec<f64>, Error> {
        let encoded = self.encode(batch)?;
        let sums = self.label_loss(&encoded, &self.label_logits(&encoded)?)?;
        let tokens = self.label_tokens(batch).max(1) as f64;
        Ok(sums.into_iter().map(|sum| sum / tokens).collect())
    }

    /// Label tokens of a batch that count: all, but for those that the reference's recipe cuts
    /// off a decoder's over-long rows.
    pub fn label_tokens(&self, batch: &Batch) -> usize {
        let rules = self.rules(Part::Whole);
        batch.examples.iter().map(|example| rules.labels(&self.model, example)).sum()
    }

    pub(super) fn limits(&self, answer: usize) -> Limits<'_> {
        Limits {
            model: &self.model,
            recipe: self.settings.recipe,
            max_length: self.settings.max_length,
            prompt: self.layout.prompt_length as usize,
            answer,
        }
    }

    pub(super) fn rules(&self, part: Part) -> Rules {
        let settings = &self.settings;
        Rules {
            part,
            recipe: settings.recipe,
            padding: settings.padding,
            max_length: settings.max_length,
            prompt: self.layout.prompt_length as usize,
        }
    }

    /// By the engine, where there is one, for some of the trials; it knows of no `masks` here.
    fn forward(
        &self,
        model: Rc<Model>,
        examples: &[&Example],
        part: Part,
        masks: Option<&Masks<'_>>,
        engine: Option<(&Engine, &[usize])>,
    ) -> Result<Encoded, TchError> {
        let batch = Collated::new(examples, &self.rules(part), &model)?;
        let (rows, _) = batch.input_ids.size2()?;
        let mut sequence = self.sequence(&batch)?;
        if let Some((_, wanted)) = engine
            && let Some(all) = sequence.mask.as_ref().filter(|mask| mask.size().first() > Some(&1))
        {
            let wanted: Vec<i64> = wanted.iter().map(|&k| k as i64).collect();
            sequence.mask = Some(all.f_index_select(0, &Tensor::f_from_slice(&wanted)?)?);
        }
        let axis = sequence.axis;
        let keep = part == Part::Text;
        let lora = self.lora()?;
        let pass = Pass { masks, lora: lora.as_ref() };
        let passed = match engine {
            Some((engine, wanted)) => {
                Passed::new(self.states(engine, examples, wanted, axis)?, sequence)
            }
            None => model.pass(&self.inputs(&model, &batch)?, sequence, keep, pass)?,
        };
        let examples = examples.iter().map(|&example| example.clone()).collect();
        let chosen = engine.is_some();
        Ok(Encoded { passed, model, lora, rows, batch, examples, chosen })
    }

    /// How the positions of a batch are told apart.
    pub(super) fn sequence(&self, batch: &Collated) -> Result<Sequence, TchError> {
        let (rows, text) = batch.input_ids.size2()?;
        let axis = Axis { prompt: self.layout.prompt_length as usize, text: text as usize };
        let mask = self.key_mask(batch.mask.as_ref(), rows, text)?;
        let (positions, ends) = self.places(batch, axis)?;
        Ok(Sequence { axis, mask, positions, ends })
    }

    /// LoRA's pairs of all trials, if there are any.
    pub(super) fn lora(&self) -> Result<Option<Lora>, TchError> {
        if self.layout.lora_rank == 0 {
            return Ok(None);
        }
        let first = self.modules.first().and_then(|module| self.layout.place(&module.a_key()));
        let pairs = self.leaves.get(first.unwrap_or_default()..).unwrap_or_default();
        Lora::new(&self.modules, pairs, &self.lora_scaling).map(Some)
    }

    /// Model inputs [K, B, m + L, d]: the prompt, then embeddings plus scaling * A B at the
    /// positions of the text.
    pub(super) fn inputs(&self, model: &Model, batch: &Collated) -> Result<Tensor, TchError> {
        let Layout { prompt_length, d_model, .. } = self.layout;
        let (rows, text) = batch.input_ids.size2()?;
        let words = model.embed(&batch.input_ids)?.f_unsqueeze(0)?;
        let (a, b) = (self.leaf(LOWRANK_A_KEY), self.leaf(LOWRANK_B_KEY));
        let words = if let (Some(a), Some(b)) = (a, b) {
            words.f_add(&self.offsets(a, b, &batch.offsets, rows, text)?)?
        } else {
            words.f_expand([self.trials(), rows, text, d_model], false)?
        };
        let Some(prompt) = self.leaf(PROMPT_KEY) else { return Ok(words) };
        let shape = [self.trials(), rows, prompt_length, d_model];
        Tensor::f_cat(&[prompt.f_unsqueeze(1)?.f_expand(shape, false)?, words], 2)
    }

    /// What is added to the embeddings, [K, 1 or B, L, d]: rows of scaling * A B, for A [K, s, r]
    /// and B [K, r, d].
    fn offsets(
        &self,
        a: &Tensor,
        b: &Tensor,
        offsets: &Offsets,
        rows: i64,
        text: i64,
    ) -> Result<Tensor, TchError> {
        let (k, most, _) = a.size3()?;
        let used = match offsets {
            Offsets::Rows(_) => most,
            Offsets::Aligned | Offsets::Masked(_) => most.min(text),
        };
        let product = a.f_narrow(1, 0, used)?.f_bmm(b)?.f_mul(&self.scaling)?;
        match offsets {
            Offsets::Aligned => product.f_unsqueeze(1),
            Offsets::Masked(mask) => {
                // An answer may stand further right than A has rows; it takes none.
                let product = product.f_constant_pad_nd([0, 0, 0, text - used])?;
                product.f_unsqueeze(1)?.f_mul(mask)
            }
            Offsets::Rows(numbers) => {
                product.f_index_select(1, numbers)?.f_view([k, rows, text, -1])
            }
        }
    }

    /// Positions [K or 1, B or 1, m + L] of all places, and the places of each row's last token
    /// in the flattened [B · (m + L)]. A shorter prompt takes the last of the prompt's places,
    /// and its first position is 0 all the same.
    fn places(&self, batch: &Collated, axis: Axis) -> Result<(Tensor, Tensor), TchError> {
        let device = self.model.device();
        let length = axis.len() as i64;
        let ends: Vec<i64> = (1..)
            .zip(&batch.lengths)
            .map(|(row, tokens)| row * length - (axis.text as i64 - tokens) - 1)
            .collect();
        let last = self.model.max_positions().map_or(i64::MAX, |count| count as i64 - 1);
        let unused = |member: &super::Member| {
            self.layout.prompt_length - member.method.prompt_length() as i64
        };
        let mut unused: Vec<i64> = self.members.iter().map(unused).collect();
        if unused.iter().all(|one| unused.first() == Some(one)) {
            unused.truncate(1);
        }
        let mut shifts = batch.shifts.as_slice();
        if shifts.iter().all(|&shift| shift == 0) {
            shifts = shifts.get(..1).unwrap_or_default();
        }
        // Padding has no position of its own, so any number will do there.
        let position = |unused: i64, shift: i64, place: i64| {
            let shift = if place < axis.prompt as i64 { 0 } else { shift };
            (place + shift - unused).clamp(0, last)
        };
        let sizes = [unused.len() as i64, shifts.len() as i64, length];
        let numbers: Vec<i64> = unused
            .iter()
            .flat_map(|&unused| shifts.iter().map(move |&shift| (unused, shift)))
            .flat_map(|(unused, shift)| {
                (0..length).map(move |place| position(unused, shift, place))
            })
            .collect();
        let positions = upload(Tensor::f_from_slice(&numbers)?, device)?.f_view(sizes)?;
        Ok((positions, upload(Tensor::f_from_slice(&ends)?, device)?))
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

    /// Cross-entropies [K] of some rows, summed over their label tokens.
    pub(super) fn training_losses(
        &self,
        model: Rc<Model>,
        examples: &[&Example],
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        let encoded = self.forward(model, examples, Part::Whole, masks, None)?;
        self.losses(&self.logits(&encoded, masks)?, &encoded.batch)
    }

    /// Logits of the labels without dropout. In the reference's recipe a decoder's answer does
    /// not continue the text as generation sees it: it needs a pass of its own.
    fn answer_logits(&self, encoded: &Encoded) -> Result<Tensor, TchError> {
        if self.model.is_decoder() && self.settings.recipe == Recipe::Reference {
            let examples: Vec<&Example> = encoded.examples.iter().collect();
            let model = Rc::clone(&encoded.model);
            return self.logits(&self.forward(model, &examples, Part::Whole, None, None)?, None);
        }
        self.logits(encoded, None)
    }

    pub(super) fn logits(
        &self,
        encoded: &Encoded,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        let Encoded { passed, model, batch, .. } = encoded;
        let states = if batch.in_sequence {
            passed.states.shallow_clone()
        } else {
            model.answer(&batch.answer_ids, passed, encoded.pass(masks))?
        };
        model.logits(&states.f_flatten(1, 2)?.f_index_select(1, &batch.label_places)?)
    }

    /// Cross-entropies [K] of logits [K, n, vocabulary], summed over label tokens.
    pub(super) fn losses(&self, logits: &Tensor, batch: &Collated) -> Result<Tensor, TchError> {
        let (k, ..) = logits.size3()?;
        let logits = logits.f_flatten(0, 1)?;
        let labels = batch.labels.f_repeat([k].as_slice())?;
        let none = None::<&Tensor>;
        let losses = logits.f_cross_entropy_loss(&labels, none, tch::Reduction::None, -100, 0.0)?;
        losses.f_view([k, -1])?.f_sum_dim_intlist([1i64].as_slice(), false, losses.kind())
    }
}

/// Additive mask values of the prompt's places, or none when all prompts have one length.
pub(super) fn prompt_mask(methods: &[Method], layout: &Layout, kind: Kind) -> Option<Vec<f64>> {
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
