//! Models with frozen weights. No tensor of a model asks for a gradient; gradients flow only
//! through the embedded inputs.
//!
//! Hidden states are [K, B, T, d] throughout: K trials of a pack, B rows of a batch, T
//! positions. Masks and biases have size 1 along K when the trials share them.

mod decoder;
pub(crate) mod layers;
mod pass;
pub(crate) mod t5;
mod trunk;

use std::path::{Path, PathBuf};

use deptune_sweep::model::{CONFIG_FILE, ModelConfig, ModelError};
use tch::{Device, Kind, TchError, Tensor};

use crate::dropout::Axis;
use crate::method::Module;
use crate::weights::{Weights, WeightsError};
use decoder::Decoder;
use layers::Cache;
pub(crate) use pass::Pass;
use t5::{Memory, T5};

/// Why a model directory cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its `config.json` cannot be read.
    #[error("cannot read {}; is it a model's directory?", path.display())]
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

/// A frozen backbone: T5 (encoder and decoder), GPT-2 or Llama (decoders).
pub struct Model {
    config: ModelConfig,
    kind: Kind,
    products: Kind,
    device: Device,
    /// [vocabulary, d]
    embedding: Tensor,
    body: Body,
}

/// What the architectures do not share.
enum Body {
    T5(T5),
    Decoder(Decoder),
}

/// How the positions of a pass are told apart.
pub(crate) struct Sequence {
    /// Prompt, then text.
    pub(crate) axis: Axis,
    /// Additive mask of the keys, [K or 1, B, 1, 1, m + L]; none when all are seen.
    pub(crate) mask: Option<Tensor>,
    /// What a decoder takes for the positions' numbers, [K or 1, B or 1, m + L].
    pub(crate) positions: Tensor,
    /// Places of each row's last text token in the flattened [B · (m + L)], [B].
    pub(crate) ends: Tensor,
}

/// Prompt and text after their way through the model.
pub(crate) struct Passed {
    /// Last hidden states [K, B, m + L, d]: of the encoder, or of a decoder.
    pub(crate) states: Tensor,
    pub(crate) sequence: Sequence,
    /// A decoder's keys and values.
    caches: Vec<Cache>,
}

/// An answer that is being written, token by token.
pub(crate) enum Progress<'a> {
    T5(t5::Progress, &'a Passed, Pass<'a>),
    Decoder(decoder::Progress, Pass<'a>),
}

impl Passed {
    /// What has passed a T5's encoder elsewhere.
    pub(crate) fn new(states: Tensor, sequence: Sequence) -> Self {
        Self { states, sequence, caches: Vec::new() }
    }

    /// Some of a T5's rows, by their places in [K · B], as rows of one trial.
    pub(crate) fn some(&self, places: &[i64]) -> Result<Self, TchError> {
        let (k, rows, ..) = self.states.size4()?;
        let places = Tensor::f_from_slice(places)?.f_to_device(self.states.device())?;
        let pick = |of: &Tensor| of.f_flatten(0, 1)?.f_index_select(0, &places)?.f_unsqueeze(0);
        let Sequence { axis, mask, positions, ends } = &self.sequence;
        let mask = match mask {
            Some(mask) => Some(pick(&mask.f_expand([k, rows, 1, 1, -1], false)?)?),
            None => None,
        };
        let (positions, ends) = (positions.shallow_clone(), ends.shallow_clone());
        let sequence = Sequence { axis: *axis, mask, positions, ends };
        Ok(Self::new(pick(&self.states)?, sequence))
    }

    fn memory(&self) -> Memory<'_> {
        Memory { states: &self.states, mask: self.sequence.mask.as_ref(), axis: self.sequence.axis }
    }

    /// The states of each row's last text token, [K, B, 1, d].
    fn last(&self) -> Result<Tensor, TchError> {
        let states = self.states.f_flatten(1, 2)?.f_index_select(1, &self.sequence.ends)?;
        states.f_unsqueeze(2)
    }
}

impl Model {
    /// Loads a model directory (`config.json`, `model.safetensors` or its shards) in the layout
    /// of Hugging Face. `kind` is the number format of the large matrix products; where that is
    /// a half precision, all else (embeddings, norms, residual stream, softmax, logits) is f32.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field or tensor.
    pub fn load(dir: &Path, kind: Kind, device: Device) -> Result<Self, LoadError> {
        let config = Self::read_config(dir)?;
        let weights = Weights::open(dir, kind, device)?;
        Ok(Self::from_weights(config, &weights)?)
    }

    /// Reads the configuration of a model directory.
    ///
    /// # Errors
    /// [`LoadError`], naming file and field.
    pub fn read_config(dir: &Path) -> Result<ModelConfig, LoadError> {
        let path = dir.join(CONFIG_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| LoadError::Read { path: path.clone(), source })?;
        Ok(ModelConfig::parse(&path.display().to_string(), &text)?)
    }

    /// Builds the model of a configuration from opened weight files.
    ///
    /// # Errors
    /// [`WeightsError`] when a tensor is absent or of another shape.
    pub fn from_weights(config: ModelConfig, weights: &Weights) -> Result<Self, WeightsError> {
        let shape = [i64::from(config.vocab_size()), i64::from(config.hidden_size())];
        let name = match &config {
            ModelConfig::T5(_) => T5::EMBEDDING.to_owned(),
            ModelConfig::Gpt2(_) => Decoder::gpt2_embedding(weights),
            ModelConfig::Llama(_) => Decoder::llama_embedding(weights),
        };
        let embedding = weights.get(&name, &shape)?;
        let body = match &config {
            ModelConfig::T5(config) => Body::T5(T5::load(weights, config, &embedding)?),
            ModelConfig::Gpt2(config) => Body::Decoder(Decoder::gpt2(weights, config, &embedding)?),
            ModelConfig::Llama(config) => {
                Body::Decoder(Decoder::llama(weights, config, &embedding)?)
            }
        };
        let (kind, device) = (weights.kind(), weights.device());
        let products = weights.products();
        Ok(Self { config, kind, products, device, embedding, body })
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Number format of parameters, hidden states and losses.
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

    /// Positions that prompt, text and answer share; none where any number will do (T5).
    pub fn max_positions(&self) -> Option<usize> {
        self.config.max_positions().map(|positions| positions as usize)
    }

    /// The T5, if the model is one.
    pub(crate) fn t5(&self) -> Option<&T5> {
        match &self.body {
            Body::T5(t5) => Some(t5),
            Body::Decoder(_) => None,
        }
    }

    /// The word embedding, [vocabulary, d].
    pub(crate) fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// Whether text and answer are one sequence (GPT-2, Llama), not two (T5).
    pub fn is_decoder(&self) -> bool {
        self.config.is_decoder()
    }

    /// The token in front of every answer; decoders have the text there.
    pub(crate) fn start_token(&self) -> i64 {
        match &self.config {
            ModelConfig::T5(config) => i64::from(config.decoder_start_token_id),
            decoder => i64::from(decoder.eos_token_id()),
        }
    }

    /// Number format of the large matrix products.
    pub(crate) fn products(&self) -> Kind {
        self.products
    }

    /// The maps that LoRA goes beside.
    pub(crate) fn lora_modules(&self) -> Vec<Module> {
        match &self.config {
            ModelConfig::T5(config) => T5::lora_modules(config),
            ModelConfig::Gpt2(config) => Decoder::gpt2_lora_modules(config),
            ModelConfig::Llama(config) => Decoder::llama_lora_modules(config),
        }
    }

    /// Embedding rows of token ids of any shape: [..., d].
    pub(crate) fn embed(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.embedding, ids, -1, false, false)
    }

    /// Sends embedded inputs [K, B, m + L, d] through the model; `keep` when an answer is to
    /// follow.
    pub(crate) fn pass(
        &self,
        inputs: &Tensor,
        sequence: Sequence,
        keep: bool,
        pass: Pass<'_>,
    ) -> Result<Passed, TchError> {
        let mut caches = match &self.body {
            Body::Decoder(decoder) if keep => decoder.caches(),
            _ => Vec::new(),
        };
        let trunk = self.trunk(&sequence, pass)?;
        let mut hidden = trunk.begin(inputs)?;
        for layer in 0..self.blocks() {
            hidden = trunk.block(layer, &hidden, caches.get_mut(layer))?;
        }
        let states = trunk.end(&hidden)?;
        Ok(Passed { states, sequence, caches })
    }

    /// The states [K, B, T, d] from which a given answer's tokens are predicted, each from those
    /// before it. `ids` [B, T] is the answer shifted right behind the start token.
    pub(crate) fn answer(
        &self,
        ids: &Tensor,
        passed: &Passed,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        match &self.body {
            Body::T5(t5) => t5.decode(&self.embed(ids)?.f_unsqueeze(0)?, &passed.memory(), pass),
            Body::Decoder(decoder) => {
                let (k, ..) = passed.states.size4()?;
                let (rows, tokens) = ids.size2()?;
                let first = passed.last()?;
                if tokens == 1 {
                    return Ok(first);
                }
                let rest = self.embed(&ids.f_narrow(1, 1, tokens - 1)?)?.f_unsqueeze(0)?;
                let rest = rest.f_expand([k, rows, tokens - 1, -1], false)?;
                let Sequence { ends, .. } = &passed.sequence;
                let mut progress = decoder.begin(&passed.sequence, ends, &passed.caches)?;
                let rest = decoder.advance(&rest, &mut progress, pass)?;
                Tensor::f_cat(&[first, rest], 2)
            }
        }
    }

    /// The states [K, B, 1, d] from which the first token of a free answer is predicted.
    pub(crate) fn begin<'a>(
        &self,
        passed: &'a Passed,
        pass: Pass<'a>,
    ) -> Result<(Tensor, Progress<'a>), TchError> {
        match &self.body {
            Body::T5(t5) => {
                let (k, rows, ..) = passed.states.size4()?;
                let options = (Kind::Int64, self.device);
                let start = Tensor::f_full([k, rows, 1], self.start_token(), options)?;
                let mut progress = t5.start();
                let start = self.embed(&start)?;
                let states = t5.advance(&start, &passed.memory(), &mut progress, pass)?;
                Ok((states, Progress::T5(progress, passed, pass)))
            }
            Body::Decoder(decoder) => {
                let Sequence { ends, .. } = &passed.sequence;
                let progress = decoder.begin(&passed.sequence, ends, &passed.caches)?;
                Ok((passed.last()?, Progress::Decoder(progress, pass)))
            }
        }
    }

    /// The states [K, B, 1, d] from which the token after `ids` [K, B, 1] is predicted.
    pub(crate) fn advance(
        &self,
        ids: &Tensor,
        progress: &mut Progress<'_>,
    ) -> Result<Tensor, TchError> {
        let inputs = self.embed(ids)?;
        match (&self.body, progress) {
            (Body::T5(t5), Progress::T5(progress, passed, pass)) => {
                t5.advance(&inputs, &passed.memory(), progress, *pass)
            }
            (Body::Decoder(decoder), Progress::Decoder(progress, pass)) => {
                decoder.advance(&inputs, progress, *pass)
            }
            _ => Err(TchError::Shape("an answer of another model".to_owned())),
        }
    }

    /// Logits [..., vocabulary] of last hidden states [..., d].
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, TchError> {
        match &self.body {
            Body::T5(t5) => t5.logits(states),
            Body::Decoder(decoder) => decoder.logits(states),
        }
    }
}
