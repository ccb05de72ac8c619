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

    /// Last hidden states [K, B, T, d] of embedded inputs [K, B, T, d]. `mask` is additive,
    /// [K or 1, B, 1, 1, T], or none when no position is padding.
    pub(crate) fn forward(
        &self,
        inputs: &Tensor,
        mask: Option<&Tensor>,
        axis: Axis,
        pass: Pass<'_>,
    ) -> Result<Tensor, TchError> {
        let place = |layer| Place { stack: Stack::Encoder, layer, axis, pass };
        let mut bias = self.buckets.bias(&self.table, 0, axis.len(), axis.len())?;
        if let Some(mask) = mask {
            bias = bias.f_add(mask)?;
        }
        let mut hidden = place(0).drop_hidden(inputs.shallow_clone(), Site::Embedding)?;
        for (layer, (attention, feed_forward)) in self.blocks.iter().enumerate() {
            hidden = attention.forward(&hidden, &bias, None, &place(layer))?;
            hidden = feed_forward.forward(&hidden, &place(layer))?;
        }
        place(0).drop_hidden(self.norm.forward(&hidden)?, Site::Final)
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
