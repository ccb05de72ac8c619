//! One block: attention and feed-forward, each behind its norm and with a residual connection.

use tch::{TchError, Tensor};

use super::attention::Attention;
use super::position::Rotation;
use crate::dropout::Site;
use crate::model::layers::{Cache, Linear, Place, RmsNorm};
use crate::weights::{Weights, WeightsError};

/// Norm of a sublayer's input.
pub(super) enum Norm {
    /// (x - mean) / sqrt(variance + eps) * weight + bias.
    Layer {
        weight: Tensor,
        bias: Tensor,
        epsilon: f64,
    },
    Rms(RmsNorm),
}

impl Norm {
    pub(super) fn layer(
        weights: &Weights,
        name: &str,
        size: u32,
        epsilon: f64,
    ) -> Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"), &[i64::from(size)])?;
        let bias = weights.get(&format!("{name}.bias"), &[i64::from(size)])?;
        Ok(Self::Layer { weight, bias, epsilon })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Layer { weight, bias, epsilon } => {
                x.f_layer_norm(weight.size(), Some(weight), Some(bias), *epsilon, false)
            }
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

/// Feed-forward sublayer without norm and residual connection.
pub(super) enum FeedForward {
    /// outer(gelu(inner(x))), gelu in its tanh form.
    Gelu { inner: Linear, outer: Linear },
    /// outer(silu(gate(x)) * up(x)).
    SwiGlu {
        /// Gate and up one after the other.
        inner: Linear,
        outer: Linear,
    },
}

impl FeedForward {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Gelu { inner, outer } => outer.forward(&inner.forward(x)?.f_gelu("tanh")?),
            Self::SwiGlu { inner, outer } => {
                let parts = inner.forward(x)?.f_chunk(2, -1)?;
                let [gate, up] = parts.as_slice() else {
                    return Err(TchError::Shape("feed-forward halves".to_owned()));
                };
                outer.forward(&gate.f_silu()?.f_mul(up)?)
            }
        }
    }
}

pub(super) struct Block {
    pub(super) attention_norm: Norm,
    pub(super) attention: Attention,
    pub(super) feed_forward_norm: Norm,
    pub(super) feed_forward: FeedForward,
    /// Whether the sublayers' outputs are dropped from (GPT-2), or attention weights alone
    /// (Llama).
    pub(super) drops_outputs: bool,
}

impl Block {
    /// x [K, B, T, d] → same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotation: Option<&Rotation>,
        bias: &Tensor,
        cache: Option<&mut Cache>,
        place: &Place<'_>,
    ) -> Result<Tensor, TchError> {
        let normed = self.attention_norm.forward(x)?;
        let out = self.attention.forward(&normed, rotation, bias, cache, place)?;
        let x = x.f_add(&self.drop(out, Site::SelfOutput, place)?)?;
        let out = self.feed_forward.forward(&self.feed_forward_norm.forward(&x)?)?;
        x.f_add(&self.drop(out, Site::FeedForwardOutput, place)?)
    }

    fn drop(&self, out: Tensor, site: Site, place: &Place<'_>) -> Result<Tensor, TchError> {
        if self.drops_outputs { place.drop_hidden(out, site) } else { Ok(out) }
    }
}
