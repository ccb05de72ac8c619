//! Models with frozen weights. No tensor of a model asks for a gradient; gradients flow only
//! through the embedded inputs.
//!
//! Hidden states are [K, B, T, d] throughout: K trials of a pack, B rows of a batch, T
//! positions. Masks and biases have size 1 along K when the trials share them.

mod t5;

use std::path::{Path, PathBuf};

use deptune_sweep::model::{CONFIG_FILE, ModelConfig, ModelError};
use tch::{Device, Kind, TchError, Tensor};

pub(crate) use t5::{Memory, Progress, lowest};

use crate::dropout::{Axis, Masks};
use crate::weights::{Weights, WeightsError};
use t5::T5;

/// Why a model directory cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its `config.json` cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Its `config.json` cannot be used.
    #[error(transparent)]
    Config(#[from] ModelError),
    /// Its weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
}

/// A frozen backbone.
pub struct Model {
    config: ModelConfig,
    kind: Kind,
    device: Device,
    /// [vocabulary, d]
    embedding: Tensor,
    body: Body,
}

/// What the architectures do not share.
enum Body {
    T5(T5),
}

impl Model {
    /// Loads a model directory (`config.json`, `model.safetensors` or its shards) in the layout
    /// of Hugging Face, converted to `kind`.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field or tensor.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self, LoadError> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let config = ModelConfig::parse(&path.display().to_string(), &text)?;
        let weights = Weights::open(dir, kind, device)?;
        Ok(Self::from_weights(config, &weights)?)
    }

    /// Builds the model of a configuration from opened weight files.
    ///
    /// # Errors
    /// [`WeightsError`] when a tensor is absent or of another shape.
    pub fn from_weights(config: ModelConfig, weights: &Weights) -> Result<Self, WeightsError> {
        let shape = [i64::from(config.vocab_size()), i64::from(config.hidden_size())];
        let embedding = weights.get(T5::EMBEDDING, &shape)?;
        let body = match &config {
            ModelConfig::T5(config) => Body::T5(T5::load(weights, config, &embedding)?),
            _ => unimplemented!(),
        };
        let (kind, device) = (weights.kind(), weights.device());
        Ok(Self { config, kind, device, embedding, body })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
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

    /// d: hidden size.
    pub fn hidden_size(&self) -> usize {
        self.config.hidden_size() as usize
    }

    /// Rows of the word embedding.
    pub fn vocab_size(&self) -> usize {
        self.config.vocab_size() as usize
    }

    /// Id of the token that ends a text.
    pub fn end_token(&self) -> i64 {
        i64::from(self.config.eos_token_id())
    }

    /// The token that a T5's decoder starts from.
    pub(crate) fn start_token(&self) -> i64 {
        match &self.config {
            ModelConfig::T5(config) => i64::from(config.decoder_start_token_id),
            other => i64::from(other.eos_token_id()),
        }
    }

    /// Embedding rows of token ids of any shape: [..., d].
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.embedding, ids, -1, false, false)
    }

    /// Encoder states [K, B, T, d] of embedded inputs [K, B, T, d]. `mask` is additive,
    /// [K or 1, B, 1, 1, T], or none when no position is padding.
    pub(crate) fn encode(
        &self,
        inputs: &Tensor,
        mask: Option<&Tensor>,
        axis: Axis,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        match &self.body {
            Body::T5(t5) => t5.encode(inputs, mask, axis, masks),
        }
    }

    /// Decoder states [K, B, T, d] of token ids [B, T].
    pub(crate) fn decode(
        &self,
        ids: &Tensor,
        memory: &Memory<'_>,
        masks: Option<&Masks<'_>>,
    ) -> Result<Tensor, TchError> {
        let inputs = self.embed(ids)?.f_unsqueeze(0)?;
        match &self.body {
            Body::T5(t5) => t5.decode(&inputs, memory, masks),
        }
    }

    /// An empty generated text.
    pub(crate) fn start(&self) -> Progress {
        match &self.body {
            Body::T5(t5) => t5.start(),
        }
    }

    /// Decoder states [K, B, 1, d] of one more token id per row [K, B, 1].
    pub(crate) fn advance(
        &self,
        ids: &Tensor,
        memory: &Memory<'_>,
        progress: &mut Progress,
    ) -> Result<Tensor, TchError> {
        let input = self.embed(ids)?;
        match &self.body {
            Body::T5(t5) => t5.advance(&input, memory, progress),
        }
    }

    /// Logits [..., vocabulary] of last hidden states [..., d].
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, TchError> {
        match &self.body {
            Body::T5(t5) => t5.logits(states),
        }
    }
}
