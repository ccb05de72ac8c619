//! T5 with frozen weights. No tensor of the model asks for a gradient; gradients flow only
//! through the embedded inputs.
//!
//! Hidden states are [K, B, T, d] throughout: K trials of a pack, B rows of a batch, T
//! positions. Masks and biases have size 1 along K when the trials share them.

mod attention;
mod bias;
mod decoder;
mod encoder;
mod layers;

use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

pub(crate) use attention::Memory;
pub(crate) use bias::lowest;
pub(crate) use decoder::Progress;

use crate::config::{ConfigError, T5Config};
use crate::dropout::{Axis, Masks};
use crate::weights::{Weights, WeightsError};

/// Why a model directory cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its `config.json`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// A frozen T5 encoder-decoder, v1.0 or v1.1.
pub struct T5 {
    config: T5Config,
    kind: Kind,
    device: Device,
    /// [vocabulary, d]
    embedding: Tensor,
    encoder: encoder::Encoder,
    decoder: decoder::Decoder,
    /// [vocabulary, d]; the embedding itself when tied.
    head: layers::Linear,
}

impl T5 {
    /// Loads a model directory (`config.json`, `model.safetensors` or its shards) in the layout
    /// of Hugging Face, converted to `kind`.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field or tensor.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self, LoadError> {
        let config = T5Config::read(&dir.join("config.json"))?;
        let weights = Weights::open(dir, kind, device)?;
        Ok(Self::from_weights(config, &weights)?)
    }

    /// Builds the model of a configuration from opened weight files.
    ///
    /// # Errors
    /// [`WeightsError`] when a tensor is absent or of another shape.
    pub fn from_weights(config: T5Config, weights: &Weights) -> Result<Self, WeightsError> {
        let shape = [config.vocab_size as i64, config.d_model as i64];
        let embedding = weights.get("shared.weight", &shape)?;
        let head = if config.own_head {
            weights.get("lm_head.weight", &shape)?
        } else {
            embedding.shallow_clone()
        };
        Ok(Self {
            kind: weights.kind(),
            device: weights.device(),
            embedding,
            encoder: encoder::Encoder::load(weights, &config)?,
            decoder: decoder::Decoder::load(weights, &config)?,
            head: layers::Linear(head),
            config,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &T5Config {
        &self.config
    }

    /// Number format of weights and activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Embedding rows of token ids of any shape: [..., d].
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.embedding, ids, -1, false, false)
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

    /// Decoder states [K, B, T, d] of token ids [B, T].
    pub(crate) fn decode(
        &self,
        ids: &Tensor,
        memory: &Memory<'_>,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        self.decoder.forward(&self.embed(ids)?.f_unsqueeze(0)?, memory, masks)
    }

    /// An empty generated text.
    pub(crate) fn start(&self) -> Progress {
        self.decoder.start()
    }

    /// Decoder states [K, B, 1, d] of one more token id per row [K, B, 1].
    pub(crate) fn advance(
        &self,
        ids: &Tensor,
        memory: &Memory<'_>,
        progress: &mut Progress,
    ) -> Result<Tensor, TchError> {
        self.decoder.advance(&self.embed(ids)?, memory, progress)
    }

    /// Logits [..., vocabulary] of decoder states [..., d].
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, TchError> {
        if !self.config.scale_decoder_outputs {
            return self.head.forward(states);
        }
        let factor = (self.config.d_model as f64).powf(-0.5);
        self.head.forward(&states.f_mul_scalar(factor)?)
    }
}
