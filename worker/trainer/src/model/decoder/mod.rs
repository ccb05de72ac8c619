//! Decoders (GPT-2, Llama): prompt, text and answer are one sequence in which every position
//! sees those before it.

mod attention;
mod block;
mod load;
mod position;

use deptune_sweep::model::{Gpt2Config, LlamaConfig};
use tch::{Device, Kind, TchError, Tensor};

use super::layers::{Cache, Linear, Place, causal};
use super::{Pass, Sequence};
use crate::dropout::{Axis, Site, Stack};
use crate::method::Module;
use crate::weights::{Weights, WeightsError};
use block::{Block, Norm};
use position::{Positions, Rotation};

/// Blocks, final norm and head; the word embedding is the model's.
pub(crate) struct Decoder {
    blocks: Vec<Block>,
    positions: Positions,
    norm: Norm,
    /// [vocabulary, d]; the embedding itself when tied.
    head: Linear,
    /// Whether the embedded inputs are dropped from.
    drops_inputs: bool,
}

/// Keys and values per block, and what a next token must know.
pub(crate) struct Progress {
    caches: Vec<Cache>,
    /// Additive mask of all keys so far, [K or 1, B, 1, 1, keys]; none when all are seen.
    mask: Option<Tensor>,
    /// Keys so far.
    keys: usize,
    /// Position of the next token, [K or 1, B, 1].
    next: Tensor,
}

impl Decoder {
    /// Name of a GPT-2's word embedding in these weights.
    pub(crate) fn gpt2_embedding(weights: &Weights) -> String {
        format!("{}{}", load::prefix(weights, load::GPT2), load::GPT2.1)
    }

    /// Name of a Llama's word embedding in these weights.
    pub(crate) fn llama_embedding(weights: &Weights) -> String {
        format!("{}{}", load::prefix(weights, load::LLAMA), load::LLAMA.1)
    }

    pub(crate) fn gpt2(
        weights: &Weights,
        config: &Gpt2Config,
        embedding: &Tensor,
    ) -> Result<Self, WeightsError> {
        load::gpt2(weights, config, embedding)
    }

    pub(crate) fn llama(
        weights: &Weights,
        config: &LlamaConfig,
        embedding: &Tensor,
    ) -> Result<Self, WeightsError> {
        load::llama(weights, config, embedding)
    }

    /// The maps that LoRA goes beside in a GPT-2: the joint one of query, key and value.
    pub(crate) fn gpt2_lora_modules(config: &Gpt2Config) -> Vec<Module> {
        let (inputs, outputs) = (i64::from(config.n_embd), i64::from(3 * config.n_embd));
        let name = |layer| format!("{}h.{layer}.attn.c_attn", load::GPT2.0);
        let module = |layer| Module { name: name(layer), inputs, outputs };
        (0..config.n_layer).map(module).collect()
    }

    /// The maps that LoRA goes beside in a Llama: query and value of every attention.
    pub(crate) fn llama_lora_modules(config: &LlamaConfig) -> Vec<Module> {
        let inputs = i64::from(config.hidden_size);
        let parts = [
            ("q_proj", i64::from(config.num_attention_heads * config.head_dim)),
            ("v_proj", i64::from(config.num_key_value_heads * config.head_dim)),
        ];
        let pair = |layer| {
            parts.map(|(part, outputs)| {
                let name = format!("{}layers.{layer}.self_attn.{part}", load::LLAMA.0);
                Module { name, inputs, outputs }
            })
        };
        (0..config.num_hidden_layers).flat_map(pair).collect()
    }

    /// Blocks.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Caches for [`Walk::through`] to fill.
    pub(crate) fn caches(&self) -> Vec<Cache> {
        self.blocks.iter().map(|_| Cache::default()).collect()
    }

    /// The way of a text's embedded inputs [K, B, T, d] through the blocks.
    pub(crate) fn walk<'a>(
        &'a self,
        sequence: &Sequence,
        (kind, device): (Kind, Device),
        pass: Pass<'a>,
    ) -> Result<Walk<'a>, TchError> {
        let length = sequence.axis.len();
        let bias = causal(length, length, kind, device)?;
        let bias = match &sequence.mask {
            Some(mask) => bias.f_minimum(mask)?,
            None => bias,
        };
        Walk::new(self, &sequence.positions, bias, sequence.axis, pass)
    }

    /// A text that goes on behind each row's last token, whose places in the flattened [B * T]
    /// are `ends`.
    pub(crate) fn begin(
        &self,
        sequence: &Sequence,
        ends: &Tensor,
        caches: &[Cache],
    ) -> Result<Progress, TchError> {
        let (k, _, keys) = sequence.positions.size3()?;
        let rows = ends.size1()?;
        let next = sequence
            .positions
            .f_expand([k, rows, keys], false)?
            .f_flatten(1, 2)?
            .f_index_select(1, ends)?
            .f_add_scalar(1)?
            .f_unsqueeze(-1)?;
        let caches = caches.iter().map(Cache::shallow).collect();
        let mask = sequence.mask.as_ref().map(Tensor::shallow_clone);
        Ok(Progress { caches, mask, keys: keys as usize, next })
    }

    /// Last hidden states [K, B, T, d] of T more embedded tokens per row, without dropout.
    pub(crate) fn advance(
        &self,
        inputs: &Tensor,
        progress: &mut Progress,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        let (_, rows, length, _) = inputs.size4()?;
        let (kind, device) = (inputs.kind(), inputs.device());
        let steps = Tensor::f_arange(length, (progress.next.kind(), device))?;
        let positions = progress.next.f_add(&steps)?;
        progress.keys += length as usize;
        if let Some(mask) = &progress.mask {
            let (k, _, _, _, _) = mask.size5()?;
            let seen = Tensor::f_zeros([k, rows, 1, 1, length], (kind, device))?;
            progress.mask = Some(Tensor::f_cat(&[mask, &seen], 4)?);
        }
        let bias = causal(length as usize, progress.keys, kind, device)?;
        let bias = match &progress.mask {
            Some(mask) => bias.f_minimum(mask)?,
            None => bias,
        };
        progress.next = progress.next.f_add_scalar(length)?;
        let axis = Axis::text(length as usize);
        let walk = Walk::new(self, &positions, bias, axis, pass.still())?;
        walk.through(inputs, &mut progress.caches)
    }

    /// Logits [..., vocabulary] of last hidden states [..., d].
    pub(crate) fn logits(&self, states: &Tensor) -> Result<Tensor, TchError> {
        self.head.forward(states)
    }
}

/// One pass through a decoder, block by block.
pub(crate) struct Walk<'a> {
    decoder: &'a Decoder,
    /// Of learned positions, what is added to the inputs.
    learned: Option<Tensor>,
    rotation: Option<Rotation>,
    bias: Tensor,
    axis: Axis,
    pass: Pass<'a>,
}

impl<'a> Walk<'a> {
    fn new(
        decoder: &'a Decoder,
        positions: &Tensor,
        bias: Tensor,
        axis: Axis,
        pass: Pass<'a>,
    ) -> Result<Self, TchError> {
        let (learned, rotation) = match &decoder.positions {
            Positions::Learned(table) => {
                (Some(Tensor::f_embedding(table, positions, -1, false, false)?), None)
            }
            Positions::Rotary(frequencies) => (None, Some(Rotation::new(frequencies, positions)?)),
        };
        Ok(Self { decoder, learned, rotation, bias, axis, pass })
    }

    fn place(&self, layer: usize) -> Place<'_> {
        Place { stack: Stack::Decoder, layer, axis: self.axis, pass: self.pass }
    }

    /// What the first block takes.
    pub(crate) fn begin(&self, inputs: &Tensor) -> Result<Tensor, TchError> {
        let hidden = match &self.learned {
            Some(learned) => inputs.f_add(learned)?,
            None => inputs.shallow_clone(),
        };
        if self.decoder.drops_inputs {
            return self.place(0).drop_hidden(hidden, Site::Embedding);
        }
        Ok(hidden)
    }

    /// With a cache, keys and values are kept for what follows.
    pub(crate) fn block(
        &self,
        layer: usize,
        hidden: &Tensor,
        cache: Option<&mut Cache>,
    ) -> Result<Tensor, TchError> {
        let Some(block) = self.decoder.blocks.get(layer) else {
            return Ok(hidden.shallow_clone());
        };
        block.forward(hidden, self.rotation.as_ref(), &self.bias, cache, &self.place(layer))
    }

    /// Last hidden states, of what the last block gave.
    pub(crate) fn end(&self, hidden: &Tensor) -> Result<Tensor, TchError> {
        self.decoder.norm.forward(hidden)
    }

    /// From inputs to last hidden states.
    pub(crate) fn through(
        &self,
        inputs: &Tensor,
        caches: &mut [Cache],
    ) -> Result<Tensor, TchError> {
        let mut hidden = self.begin(inputs)?;
        for (layer, cache) in caches.iter_mut().enumerate() {
            hidden = self.block(layer, &hidden, Some(cache))?;
        }
        self.end(&hidden)
    }
}
