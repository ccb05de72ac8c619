//! T5, v1.0 and v1.1: an encoder for prompt and text, a decoder for the answer.

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod decoder;
pub(crate) mod encoder;
pub(crate) mod feed_forward;

use deptune_sweep::model::T5Config;
use tch::{TchError, Tensor};

pub(crate) use attention::Memory;
pub(crate) use decoder::Progress;

use super::layers::{Linear, RmsNorm};
use crate::method::Module;
use crate::model::Pass;
use crate::weights::{Weights, WeightsError};

/// Encoder, decoder and head; the word embedding is the model's.
pub(crate) struct T5 {
    pub(crate) encoder: encoder::Encoder,
    pub(crate) decoder: decoder::Decoder,
    /// [vocabulary, d]; the embedding itself when tied.
    pub(crate) head: Linear,
    /// Factor on the decoder's output, if there is one: d^-0.5.
    pub(crate) factor: Option<f64>,
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

    /// The maps that LoRA goes beside: query and value of every attention.
    pub(crate) fn lora_modules(config: &T5Config) -> Vec<Module> {
        let (inputs, outputs) =
            (i64::from(config.d_model), i64::from(config.num_heads * config.d_kv));
        let pair = |name: String| {
            ["q", "v"].map(|part| Module { name: format!("{name}.{part}"), inputs, outputs })
        };
        let encoder = (0..config.num_layers)
            .flat_map(|layer| pair(format!("encoder.block.{layer}.layer.0.SelfAttention")));
        let decoder = (0..config.num_decoder_layers).flat_map(|layer| {
            let name = format!("decoder.block.{layer}.layer");
            let own = pair(format!("{name}.0.SelfAttention"));
            own.into_iter().chain(pair(format!("{name}.1.EncDecAttention")))
        });
        encoder.chain(decoder).collect()
    }

    /// Decoder states [K, B, T, d] of embedded tokens [1, B, T, d].
    pub(crate) fn decode(
        &self,
        inputs: &Tensor,
        memory: &Memory<'_>,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        self.decoder.forward(inputs, memory, pass)
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
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        self.decoder.advance(input, memory, progress, pass)
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
