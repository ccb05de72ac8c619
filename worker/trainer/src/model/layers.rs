//! What the architectures share: linear maps, and where a layer stands.

use tch::{Device, Kind, TchError, Tensor};

use super::Pass;
use crate::dropout::{Axis, Site, Stack};
use crate::weights::{Weights, WeightsError};

/// A linear map, x Wᵀ + b with W [out, in]. Its result has the number format of W, whatever
/// the input's.
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
    /// The maps that it consists of, with their outputs, for the pairs beside them.
    parts: Vec<(String, i64)>,
}

impl Linear {
    /// A map without bias.
    pub(crate) fn new(weight: Tensor) -> Self {
        Self { weight, bias: None, parts: Vec::new() }
    }

    /// `name.weight` and, if there is one, `name.bias`.
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        outputs: u32,
        inputs: u32,
        bias: bool,
    ) -> Result<Self, WeightsError> {
        Self::stacked(weights, &[(name.to_owned(), i64::from(outputs))], inputs, bias)
    }

    /// Several maps of one input as one product: their names and outputs.
    pub(crate) fn stacked(
        weights: &Weights,
        parts: &[(String, i64)],
        inputs: u32,
        bias: bool,
    ) -> Result<Self, WeightsError> {
        let named: Vec<(String, i64)> =
            parts.iter().map(|(name, rows)| (format!("{name}.weight"), *rows)).collect();
        let weight = match named.as_slice() {
            [(name, rows)] => weights.matrix(name, &[*rows, i64::from(inputs)])?,
            several => weights.stacked(several, i64::from(inputs))?,
        };
        let parts = parts.to_vec();
        if !bias {
            return Ok(Self { weight, bias: None, parts });
        }
        let biases = parts
            .iter()
            .map(|(name, rows)| weights.matrix(&format!("{name}.bias"), &[*rows]))
            .collect::<Result<Vec<Tensor>, WeightsError>>()?;
        let bias = Tensor::f_cat(&biases, 0).map_err(|source| {
            let names: Vec<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
            weights.copy_failed(&names.join(", "), source)
        })?;
        Ok(Self { weight, bias: Some(bias), parts })
    }

    /// A map whose weight is stored as [in, out]: `name.weight` and `name.bias`.
    pub(crate) fn transposed(
        weights: &Weights,
        name: &str,
        inputs: u32,
        outputs: u32,
    ) -> Result<Self, WeightsError> {
        let (inputs, outputs) = (i64::from(inputs), i64::from(outputs));
        let stored = format!("{name}.weight");
        let weight = weights
            .matrix(&stored, &[inputs, outputs])?
            .f_transpose(0, 1)
            .map_err(|source| weights.copy_failed(&stored, source))?;
        let bias = weights.matrix(&format!("{name}.bias"), &[outputs])?;
        Ok(Self { weight, bias: Some(bias), parts: vec![(name.to_owned(), outputs)] })
    }

    /// The map with LoRA's pairs beside its parts: x [K or 1, B, T, in] → [K or 1, B, T, out].
    pub(crate) fn with_pairs(&self, x: &Tensor, pass: Pass<'_>) -> Result<Tensor, TchError> {
        let out = self.forward(x)?;
        let Some(lora) = pass.lora else { return Ok(out) };
        let deltas = self.parts.iter().map(|(name, _)| lora.delta(name, x));
        let mut deltas = deltas.collect::<Result<Vec<Option<Tensor>>, TchError>>()?;
        let Some(like) = deltas.iter().flatten().next().map(Tensor::shallow_clone) else {
            return Ok(out);
        };
        let (k, rows, time, _) = like.size4()?;
        for (delta, (_, outputs)) in deltas.iter_mut().zip(&self.parts) {
            if delta.is_none() {
                let zeros = [k, rows, time, *outputs];
                *delta = Some(Tensor::f_zeros(zeros, (like.kind(), like.device()))?);
            }
        }
        let deltas: Vec<Tensor> = deltas.into_iter().flatten().collect();
        out.f_add(&Tensor::f_cat(&deltas, -1)?.f_to_kind(out.kind())?)
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_to_kind(self.weight.kind())?.f_linear(&self.weight, self.bias.as_ref())
    }
}

/// RMS norm without mean and bias: x / sqrt(mean(x²) + eps) * weight.
pub(crate) struct RmsNorm {
    pub(crate) weight: Tensor,
    pub(crate) epsilon: f64,
}

impl RmsNorm {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        size: u32,
        epsilon: f64,
    ) -> Result<Self, WeightsError> {
        let weight = weights.get(&format!("{name}.weight"), &[i64::from(size)])?;
        Ok(Self { weight, epsilon })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let variance = x.f_square()?.f_mean_dim(-1, true, x.kind())?;
        let scale = variance.f_add_scalar(self.epsilon)?.f_rsqrt()?;
        x.f_mul(&scale)?.f_mul(&self.weight)
    }
}

/// Keys and values [K, B, H, t, head size] of the tokens so far.
#[derive(Default)]
pub(crate) struct Cache(Option<(Tensor, Tensor)>);

impl Cache {
    /// Takes in the keys and values of further tokens; gives back those of all.
    pub(crate) fn append(
        &mut self,
        key: &Tensor,
        value: &Tensor,
    ) -> Result<(Tensor, Tensor), TchError> {
        let (key, value) = match &self.0 {
            None => (key.shallow_clone(), value.shallow_clone()),
            Some((keys, values)) => {
                (Tensor::f_cat(&[keys, key], 3)?, Tensor::f_cat(&[values, value], 3)?)
            }
        };
        self.0 = Some((key.shallow_clone(), value.shallow_clone()));
        Ok((key, value))
    }

    /// The same tokens, to be continued apart.
    pub(crate) fn shallow(&self) -> Self {
        Self(self.0.as_ref().map(|(k, v)| (k.shallow_clone(), v.shallow_clone())))
    }
}

/// Where a layer stands: names its dropout masks.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) stack: Stack,
    pub(crate) layer: usize,
    /// Positions of the hidden states.
    pub(crate) axis: Axis,
    /// Dropout and LoRA.
    pub(crate) pass: Pass<'a>,
}

impl Place<'_> {
    /// The rate of dropout, where libtorch's kernels draw its masks.
    pub(crate) fn kernel_rate(&self) -> Option<f64> {
        self.pass.masks.filter(|masks| masks.kernel).map(|masks| masks.rate)
    }

    /// Drops elements of hidden states [K, B, T, channels].
    pub(crate) fn drop_hidden(&self, x: Tensor, site: Site) -> Result<Tensor, TchError> {
        let Some(masks) = self.pass.masks else { return Ok(x) };
        if let Some(rate) = self.kernel_rate() {
            return x.f_dropout(rate, true);
        }
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
        let Some(masks) = self.pass.masks else { return Ok(x) };
        if let Some(rate) = self.kernel_rate() {
            return x.f_dropout(rate, true);
        }
        x.f_mul(&masks.weights(self.stack, site, self.layer, heads, self.axis, keys)?)
    }
}

/// Additive mask [1, 1, 1, queries, keys] for the last `queries` of `keys` positions: each sees
/// itself and those before it.
pub(crate) fn causal(
    queries: usize,
    keys: usize,
    kind: Kind,
    device: Device,
) -> Result<Tensor, TchError> {
    let (queries, keys) = (queries as i64, keys as i64);
    Tensor::f_full([queries, keys], lowest(kind), (kind, device))?
        .f_triu(1 + keys - queries)?
        .f_view([1, 1, 1, queries, keys])
}

/// The most negative finite number of a format: added to a score it makes the weight exactly 0
/// after the softmax, and unlike an infinity it never makes a NaN. Such masks are never added to
/// each other.
pub(crate) fn lowest(kind: Kind) -> f64 {
    match kind {
        Kind::Double => f64::MIN,
        Kind::Half => -65504.0,
        Kind::BFloat16 => -3.3895e38,
        _ => f64::from(f32::MIN),
    }
}
