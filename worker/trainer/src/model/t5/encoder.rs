//! The encoder stack.

use deptune_sweep::model::T5Config;
use tch::{TchError, Tensor};

use super::attention::SelfAttention;
use super::bias::Buckets;
use super::feed_forward::FeedForward;
use super::norm;
use crate::dropout::{Axis, Site, Stack};
use crate::model::Pass;
use crate::model::layers::{Place, RmsNorm};
use crate::weights::{Weights, WeightsError};

pub(crate) struct Encoder {
    pub(crate) blocks: Vec<(SelfAttention, FeedForward)>,
    pub(crate) norm: RmsNorm,
    /// Relative bias [buckets, H] of block 0, shared by all blocks.
    pub(crate) table: Tensor,
    pub(crate) buckets: Buckets,
}

impl Encoder {
    pub(crate) fn load(weights: &Weights, config: &T5Config) -> Result<Self, WeightsError> {
        let blocks = (0..config.num_layers)
            .map(|layer| {
                let name = format!("encoder.block.{layer}.layer");
                Ok((
                    SelfAttention::load(weights, &format!("{name}.0"), config)?,
                    FeedForward::load(weights, &format!("{name}.1"), config)?,
                ))
            })
            .collect::<Result<_, WeightsError>>()?;
        Ok(Self {
            blocks,
            norm: norm(weights, "encoder.final_layer_norm", config)?,
            table: bias_table(weights, "encoder", config)?,
            buckets: Buckets {
                count: config.relative_attention_num_buckets as usize,
                max_distance: config.relative_attention_max_distance as usize,
                bidirectional: true,
            },
        })
    }

    /// The way of embedded inputs [K, B, T, d] through the blocks. `mask` is additive,
    /// [K or 1, B, 1, 1, T], or none when no position is padding.
    pub(crate) fn walk<'a>(
        &'a self,
        mask: Option<&Tensor>,
        axis: Axis,
        pass: Pass<'a>,
    ) -> Result<Walk<'a>, TchError> {
        let mut bias = self.buckets.bias(&self.table, 0, axis.len(), axis.len())?;
        if let Some(mask) = mask {
            bias = bias.f_add(mask)?;
        }
        Ok(Walk { encoder: self, bias, axis, pass })
    }
}

/// One pass through an encoder, block by block.
pub(crate) struct Walk<'a> {
    encoder: &'a Encoder,
    /// [K or 1, B or 1, H, T, T]
    bias: Tensor,
    axis: Axis,
    pass: Pass<'a>,
}

impl Walk<'_> {
    fn place(&self, layer: usize) -> Place<'_> {
        Place { stack: Stack::Encoder, layer, axis: self.axis, pass: self.pass }
    }

    /// What the first block takes.
    pub(crate) fn begin(&self, inputs: &Tensor) -> Result<Tensor, TchError> {
        self.place(0).drop_hidden(inputs.shallow_clone(), Site::Embedding)
    }

    pub(crate) fn block(&self, layer: usize, hidden: &Tensor) -> Result<Tensor, TchError> {
        let Some((attention, feed_forward)) = self.encoder.blocks.get(layer) else {
            return Ok(hidden.shallow_clone());
        };
        let hidden = attention.forward(hidden, &self.bias, None, &self.place(layer))?;
        feed_forward.forward(&hidden, &self.place(layer))
    }

    /// Last hidden states, of what the last block gave.
    pub(crate) fn end(&self, hidden: &Tensor) -> Result<Tensor, TchError> {
        self.place(0).drop_hidden(self.encoder.norm.forward(hidden)?, Site::Final)
    }
}

pub(crate) fn bias_table(
    weights: &Weights,
    stack: &str,
    config: &T5Config,
) -> Result<Tensor, WeightsError> {
    let name = format!("{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight");
    let shape = [i64::from(config.relative_attention_num_buckets), i64::from(config.num_heads)];
    weights.get(&name, &shape)
}
