//! T5, v1.0 and v1.1: an encoder for prompt and text, a decoder for the answer.

mod attention;
mod bias;
mod decoder;
mod encoder;
mod feed_forward;

use deptune_sweep::model::T5Config;
use tch::{TchError, Tensor};

pub(crate) use attention::Memory;
pub(crate) use decoder::Progress;

use super::layers::{Linear, RmsNorm};
use crate::dropout::{Axis, Masks};
use crate::weights::{Weights, WeightsError};

/// Encoder, decoder and head; the word embedding is the model's.
pub(crate) struct T5 {
    encoder: encoder::Encoder,
    decoder: decoder::Decoder,
    /// [vocabulary, d]; the embedding itself when tied.
    head: Linear,
    /// Factor on the decoder's output, if there is one: d^-0.5.
    factor: Option<f64>,
}

impl T5 {
    /// Name of the word embedding in the weights.
    pub(crate) const EMBEDDING: &str = "shared.weight";

    pub(crate) fn load(
        weights: &Weights,
        config: &T5Config,
        embedding: &Tensor,
    ) -> Result<Self, WeightsError> {
        let head = if config.tied_head {
            embedding.shallow_clone()
        } else {
            let shape = [i64::from(config.vocab_size), i64::from(config.d_model)];
            weights.get("lm_head.weight", &shape)?
        };
        Ok(Self {
            encoder: encoder::Encoder::load(weights, config)?,
            decoder: decoder::Decoder::load(weights, config)?,
            head: Linear::new(head),
            factor: config.scale_decoder_outputs.then(|| f64::from(config.d_model).powf(-0.5)),
        })
    }

    /// Encoder states [K, B, T, d]; see [`encoder::Encoder::forward`].
    pub(crate) fn encode(
        &self,
        inputs: &Tensor,
        mask: Option<&Tensor>,
        axis: Axis,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        self.encoder.forward(inputs, mask, axis, masks)
    }

    /// Decoder states [K, B, T, d] of embedded tokens [1, B, T, d].
    pub(crate) fn decode(
        &self,
        inputs: &Tensor,
        memory: &Memory<'_>,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        self.decoder.forward(inputs, memory, masks)
    }

    /// An empty generated text.
    pub(crate) fn start(&self) -> Progress {
        self.decoder.start()
    }

    /// Decoder states [K, B, 1, d] of one more embedded token per row [K, B, 1, d].
    pub(crate) fn advance(
        &self,
        input: &Tensor,
        memory: &Memory<'_>,
        progress: &mut Progress,
    ) -> Result<Tensor, TchError> {
        self.decoder.advance(input, memory, progress)
    }

    /// Logits [..., vocabulary] of decoder states [..., d].
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, TchError> {
        match self.factor {
            Some(factor) => self.head.forward(&states.f_mul_scalar(factor)?),
            None => self.head.forward(states),
        }
    }
}

fn norm(weights: &Weights, name: &str, config: &T5Config) -> Result<RmsNorm, WeightsError> {
    RmsNorm::load(weights, name, config.d_model, config.layer_norm_epsilon)
}
