//! From a batch to the losses of all trials.

use tch::{Kind, TchError, Tensor, no_grad};

use super::{Doing, Error, Pack, numbers};
use crate::batch::{Batch, Collated, Example};
use crate::dropout::{Axis, Masks};
use crate::method::{Layout, Method};
use crate::model::{Memory, lowest};

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

impl Pack {
    /// Passes a batch through the encoder, without dropout and gradients.
    ///
    /// # Errors
    /// [`Error`] for a batch that the model cannot take, or when libtorch fails.
    pub fn encode(&self, batch: &Batch) -> Result<Encoded, Error> {
        batch.check(&self.model, self.settings.max_length)?;
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

    pub(super) fn forward(
        &self,
        examples: &[&Example],
        masks: Option<&Masks<'_>>,
    ) -> Result<Encoded, TchError> {
        let (model, s) = (&*self.model, self.settings.max_length);
        let batch = Collated::new(examples, self.settings.padding, s, model)?;
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
    pub(super) fn losses(
        &self,
        encoded: &Encoded,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        let logits = self.logits(encoded, masks)?.f_flatten(0, 1)?;
        let k = self.trials();
        let labels = encoded.batch.labels.f_repeat([k].as_slice())?;
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
