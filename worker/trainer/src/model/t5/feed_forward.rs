//! The feed-forward sublayer.

use deptune_sweep::model::{FeedForward as Form, T5Config};
use tch::{TchError, Tensor};

use super::norm;
use crate::dropout::Site;
use crate::model::layers::{Linear, Place, RmsNorm};
use crate::weights::{Weights, WeightsError};

/// The feed-forward sublayer with its norm and residual connection.
pub(crate) struct FeedForward {
    pub(crate) norm: RmsNorm,
    /// `wi`, or `wi_0` (through gelu) and `wi_1` one after the other.
    pub(crate) inner: Linear,
    pub(crate) gated: bool,
    pub(crate) outer: Linear,
}

impl FeedForward {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        config: &T5Config,
    ) -> Result<Self, WeightsError> {
        let (d, ff) = (config.d_model, config.d_ff);
        let dense = format!("{name}.DenseReluDense");
        let gated = config.feed_forward == Form::GatedGelu;
        let inputs: &[&str] = if gated { &["wi_0", "wi_1"] } else { &["wi"] };
        let inputs: Vec<_> =
            inputs.iter().map(|part| (format!("{dense}.{part}"), i64::from(ff))).collect();
        let inner = Linear::stacked(weights, &inputs, d, false)?;
        let outer = Linear::load(weights, &format!("{dense}.wo"), d, ff, false)?;
        Ok(Self {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            inner,
            gated,
            outer,
        })
    }

    pub(crate) fn forward(&self, x: &Tensor, place: &Place<'_>) -> Result<Tensor, TchError> {
        let inner = self.inner.forward(&self.norm.forward(x)?)?;
        let inner = if self.gated {
            let parts = inner.f_chunk(2, -1)?;
            let [gate, value] = parts.as_slice() else {
                return Err(TchError::Shape("feed-forward halves".to_owned()));
            };
            gate.f_gelu("tanh")?.f_mul(value)?
        } else {
            inner.f_relu()?
        };
        let inner = place.drop_hidden(inner, Site::FeedForwardInner)?;
        let out = place.drop_hidden(self.outer.forward(&inner)?, Site::FeedForwardOutput)?;
        x.f_add(&out)
    }
}
