//! The decoder stack: all positions at once in training, one by one with a cache in generation.

use deptune_sweep::model::T5Config;
use tch::{TchError, Tensor};

use super::attention::{CrossAttention, Memory, SelfAttention};
use super::bias::Buckets;
use super::encoder::bias_table;
use super::feed_forward::FeedForward;
use super::norm;
use crate::dropout::{Axis, Site, Stack};
use crate::model::Pass;
use crate::model::layers::{Cache, Place, RmsNorm, causal};
use crate::weights::{Weights, WeightsError};

pub(crate) struct Decoder {
    pub(crate) blocks: Vec<(SelfAttention, CrossAttention, FeedForward)>,
    pub(crate) norm: RmsNorm,
    /// Relative bias [buckets, H] of block 0, shared by all blocks.
    pub(crate) table: Tensor,
    pub(crate) buckets: Buckets,
}

/// The tokens decoded so far: their number, and keys and values per block.
pub(crate) struct Progress {
    length: usize,
    caches: Vec<Cache>,
}

impl Decoder {
    pub(crate) fn load(weights: &Weights, config: &T5Config) -> Result<Self, WeightsError> {
        let blocks = (0..config.num_decoder_layers)
            .map(|layer| {
                let name = format!("decoder.block.{layer}.layer");
                Ok((
                    SelfAttention::load(weights, &format!("{name}.0"), config)?,
                    CrossAttention::load(weights, &format!("{name}.1"), config)?,
                    FeedForward::load(weights, &format!("{name}.2"), config)?,
                ))
            })
            .collect::<Result<_, WeightsError>>()?;
        Ok(Self {
            blocks,
            norm: norm(weights, "decoder.final_layer_norm", config)?,
            table: bias_table(weights, "decoder", config)?,
            buckets: Buckets {
                count: config.relative_attention_num_buckets as usize,
                max_distance: config.relative_attention_max_distance as usize,
                bidirectional: false,
            },
        })
    }

    /// Last hidden states [K, B, T, d] of embedded inputs [K or 1, B, T, d], every position
    /// seeing those before it.
    pub(crate) fn forward(
        &self,
        inputs: &Tensor,
        memory: &Memory<'_>,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        let (_, _, length, _) = inputs.size4()?;
        let length = length as usize;
        let place = |layer| Place { stack: Stack::Decoder, layer, axis: Axis::text(length), pass };
        let bias = self.buckets.bias(&self.table, 0, length, length)?.f_add(&causal(
            length,
            length,
            inputs.kind(),
            inputs.device(),
        )?)?;
        let mut hidden = place(0).drop_hidden(inputs.shallow_clone(), Site::Embedding)?;
        for (layer, (attention, cross, feed_forward)) in self.blocks.iter().enumerate() {
            hidden = attention.forward(&hidden, &bias, None, &place(layer))?;
            hidden = cross.forward(&hidden, memory, &place(layer))?;
            hidden = feed_forward.forward(&hidden, &place(layer))?;
        }
        place(0).drop_hidden(self.norm.forward(&hidden)?, Site::Final)
    }

    /// An empty text.
    pub(crate) fn start(&self) -> Progress {
        Progress { length: 0, caches: self.blocks.iter().map(|_| Cache::default()).collect() }
    }

    /// Last hidden state [K, B, 1, d] of one more embedded token [K, B, 1, d] per row, without
    /// dropout.
    pub(crate) fn advance(
        &self,
        input: &Tensor,
        memory: &Memory<'_>,
        progress: &mut Progress,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        let pass = pass.still();
        let bias = self.buckets.bias(&self.table, progress.length, 1, progress.length + 1)?;
        progress.length += 1;
        let mut hidden = input.shallow_clone();
        let layers = self.blocks.iter().zip(&mut progress.caches).enumerate();
        for (layer, ((attention, cross, feed_forward), cache)) in layers {
            let place = Place { stack: Stack::Decoder, layer, axis: Axis::text(1), pass };
            hidden = attention.forward(&hidden, &bias, Some(cache), &place)?;
            hidden = cross.forward(&hidden, memory, &place)?;
            hidden = feed_forward.forward(&hidden, &place)?;
        }
        self.norm.forward(&hidden)
    }
}
