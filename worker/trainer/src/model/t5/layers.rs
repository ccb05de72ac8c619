//! The small layers of a T5 block: norm, linear map, feed-forward.

use deptune_sweep::model::{FeedForward as Form, T5Config};
use tch::{TchError, Tensor};

use crate::dropout::{Axis, Masks, Site, Stack};
use crate::weights::{Weights, WeightsError};

/// RMS norm without mean and bias: x / sqrt(mean(x²) + eps) * weight.
pub(crate) struct Norm {
    weight: Tensor,
    epsilon: f64,
}

impl Norm {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        config: &T5Config,
    ) -> Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"), &[i64::from(config.d_model)])?;
        Ok(Self { weight, epsilon: config.layer_norm_epsilon })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let variance = x.f_square()?.f_mean_dim(-1, true, x.kind())?;
        let scale = variance.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        x.f_mul(&scale)?.f_mul(&self.weight)
    }
}

/// A linear map without bias, stored as [out, in].
pub(crate) struct Linear(pub(crate) Tensor);

impl Linear {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        outputs: u32,
        inputs: u32,
    ) -> Result<Self, WeightsError> {
        let shape = [i64::from(outputs), i64::from(inputs)];
        Ok(Self(weights.get(&format!("{name}.weight"), &shape)?))
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_linear(&self.0, None::<&Tensor>)
    }
}

/// Where a layer stands: names its dropout masks.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stack: Stack,
    pub(crate) layer: usize,
    /// Positions of the hidden states.
    pub(crate) axis: Axis,
    /// None outside of training.
    pub(crate) masks: Option<&'a Masks<'a>>,
}

impl Place<'_> {
    /// Drops elements of hidden states [K, B, T, channels].
    pub(crate) fn drop_hidden(&self, x: Tensor, site: Site) -> Result<Tensor, TchError> {
        let Some(masks) = self.masks else { return Ok(x) };
        let channels = x.size().last().map_or(0, |&size| size as usize);
        x.f_mul(&masks.hidden(self.stack, site, self.layer, self.axis, channels)?)
    }

    /// Drops attention weights [K, B, heads, Tq, Tk].
    pub(crate) fn drop_weights(
        &self,
        x: Tensor,
        site: Site,
        heads: usize,
        keys: Axis,
    ) -> Result<Tensor, TchError> {
        let Some(masks) = self.masks else { return Ok(x) };
        x.f_mul(&masks.weights(self.stack, site, self.layer, heads, self.axis, keys)?)
    }
}

/// The feed-forward sublayer with its norm and residual connection.
pub(crate) struct FeedForward {
    norm: Norm,
    /// `wi`, or `wi_0` (through gelu) and `wi_1` one after the other.
    inner: Linear,
    gated: bool,
    outer: Linear,
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
        let inner = if gated {
            let gate = Linear::load(weights, &format!("{dense}.wi_0"), ff, d)?;
            let value = Linear::load(weights, &format!("{dense}.wi_1"), ff, d)?;
            stack_rows(weights, &[gate, value], &dense)?
        } else {
            Linear::load(weights, &format!("{dense}.wi"), ff, d)?
        };
        let outer = Linear::load(weights, &format!("{dense}.wo"), d, ff)?;
        Ok(Self {
            norm: Norm::load(weights, &format!("{name}.layer_norm"), config)?,
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

/// Several maps of one input as one product.
pub(crate) fn stack_rows(
    weights: &Weights,
    parts: &[Linear],
    name: &str,
) -> Result<Linear, WeightsError> {
    let parts: Vec<&Tensor> = parts.iter().map(|part| &part.0).collect();
    let joined = Tensor::f_cat(&parts, 0).map_err(|source| weights.copy_failed(name, source))?;
    Ok(Linear(joined))
}
