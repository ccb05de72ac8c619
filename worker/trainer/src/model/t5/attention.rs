//! Self-attention and cross-attention. Neither scales its scores (T5 folds the factor into the
//! initial weights).

use deptune_sweep::model::T5Config;
use tch::{TchError, Tensor};

use super::norm;
use crate::dropout::{Axis, Site};
use crate::model::layers::{Cache, Linear, Place, RmsNorm, lowest};
use crate::weights::{Weights, WeightsError};

/// Self-attention sublayer with its norm and residual connection.
pub(crate) struct SelfAttention {
    pub(crate) norm: RmsNorm,
    pub(crate) qkv: Linear,
    pub(crate) out: Linear,
    pub(crate) heads: i64,
    pub(crate) d_kv: i64,
}

impl SelfAttention {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        config: &T5Config,
    ) -> Result<Self, WeightsError> {
        let (d, inner) = (config.d_model, config.num_heads * config.d_kv);
        let parts =
            ["q", "k", "v"].map(|part| (format!("{name}.SelfAttention.{part}"), i64::from(inner)));
        Ok(Self {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            qkv: Linear::stacked(weights, &parts, d, false)?,
            out: Linear::load(weights, &format!("{name}.SelfAttention.o"), d, inner, false)?,
            heads: i64::from(config.num_heads),
            d_kv: i64::from(config.d_kv),
        })
    }

    /// x [K, B, T, d] → same. `bias` is added to the scores [K, B, H, T, keys]. With a cache, the
    /// keys of earlier calls come first and this call's are appended.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        bias: &Tensor,
        cache: Option<&mut Cache>,
        place: &Place<'_>,
    ) -> Result<Tensor, TchError> {
        let qkv = self.qkv.with_pairs(&self.norm.forward(x)?, place.pass)?;
        let (k, b, t, _) = qkv.size4()?;
        // One copy that lays out [3, K, B, H, T, d_kv]; the parts are views of it.
        let parts = qkv
            .f_view([k, b, t, 3, self.heads, self.d_kv])?
            .f_permute([3, 0, 1, 4, 2, 5])?
            .f_contiguous()?
            .f_unbind(0)?;
        let [query, key, value] = parts.as_slice() else {
            return Err(TchError::Shape("query, key and value".to_owned()));
        };
        let whole = cache.is_none();
        let (key, value) = match cache {
            None => (key.shallow_clone(), value.shallow_clone()),
            Some(cache) => cache.append(key, value)?,
        };
        let context = match place.kernel_rate() {
            Some(rate) if whole => attended([query, &key, &value], bias, rate)?,
            _ => {
                // Bias and softmax stay in full precision where the products are in a half one.
                let scores =
                    query.f_matmul(&key.f_transpose(-1, -2)?)?.f_to_kind(x.kind())?.f_add_(bias)?;
                let weights = scores.f_softmax(-1, None)?;
                let heads = self.heads as usize;
                let weights = place.drop_weights(weights, Site::SelfWeights, heads, place.axis)?;
                weights.f_to_kind(value.kind())?.f_matmul(&value)?
            }
        };
        let context = context.f_transpose(2, 3)?.f_reshape([k, b, t, self.heads * self.d_kv])?;
        let out = place.drop_hidden(self.out.forward(&context)?, Site::SelfOutput)?;
        x.f_add(&out)
    }
}

/// Attention by libtorch's fused kernel, which draws the masks of weights that it never writes
/// down: query, key and value [K, B, H, T, d_kv], `bias` [1 or K, 1 or B, H, T, T]. Gives
/// [K, B, H, T, d_kv].
fn attended(
    [query, key, value]: [&Tensor; 3],
    bias: &Tensor,
    rate: f64,
) -> Result<Tensor, TchError> {
    let (k, b, heads, t, size) = query.size5()?;
    // A mask of the lowest f32 would become an infinity in bf16.
    let bias = bias.f_clamp_min(lowest(query.kind()))?.f_to_kind(query.kind())?;
    // The kernels take four dimensions. They spread a bias that rows and trials share themselves, and
    // copy none of it for each, though its rows may have to be padded first.
    let (batch, heads, bias) = if bias.size5()?.1 == 1 {
        (k * b, heads, bias.f_reshape([1, heads, t, t])?)
    } else {
        (k, b * heads, bias.f_reshape([-1, b * heads, t, t])?)
    };
    let flat = |x: &Tensor| x.f_view([batch, heads, t, size]);
    let (query, key, value) = (flat(query)?, flat(key)?, flat(value)?);
    let bias = Some(&bias);
    Tensor::f_scaled_dot_product_attention(&query, &key, &value, bias, rate, false, 1.0, false)?
        .f_view([k, b, -1, t, size])
}

/// Cross-attention sublayer with its norm and residual connection.
///
/// The encoder's states are never projected: W_k is absorbed into the query and W_v is applied
/// after the weighted sum, (q W_k) eᵀ = q (e W_kᵀ)ᵀ. That costs H·d instead of H·d_kv per
/// decoder token and encoder position, but saves 2·H·d_kv·d per encoder position: a gain below
/// some 70 decoder tokens (T5-base), and labels have two to twenty.
pub(crate) struct CrossAttention {
    pub(crate) norm: RmsNorm,
    pub(crate) query: Linear,
    /// W_k as [H, d_kv, d].
    pub(crate) key: Tensor,
    /// W_v as [H, d, d_kv].
    pub(crate) value: Tensor,
    /// Name of the map with W_v.
    value_name: String,
    pub(crate) out: Linear,
    heads: i64,
    d_kv: i64,
}

/// What cross-attention sees of the encoder.
pub(crate) struct Memory<'a> {
    /// Last hidden states [K, B, T, d].
    pub(crate) states: &'a Tensor,
    /// Additive mask of the keys, [K or 1, B, 1, 1, T]; none when no position is padding.
    pub(crate) mask: Option<&'a Tensor>,
    /// Positions of the encoder.
    pub(crate) axis: Axis,
}

impl CrossAttention {
    pub(crate) fn load(
        weights: &Weights,
        name: &str,
        config: &T5Config,
    ) -> Result<Self, WeightsError> {
        let (d, inner) = (config.d_model, config.num_heads * config.d_kv);
        let load = |part: &str| {
            Linear::load(weights, &format!("{name}.EncDecAttention.{part}"), inner, d, false)
        };
        let split = [i64::from(config.num_heads), i64::from(config.d_kv), i64::from(d)];
        let fail = |source| weights.copy_failed(name, source);
        let key = load("k")?.weight.f_view(split).map_err(fail)?;
        let value =
            load("v")?.weight.f_view(split).and_then(|v| v.f_transpose(-1, -2)).map_err(fail)?;
        Ok(Self {
            norm: norm(weights, &format!("{name}.layer_norm"), config)?,
            query: load("q")?,
            key,
            value,
            value_name: format!("{name}.EncDecAttention.v"),
            out: Linear::load(weights, &format!("{name}.EncDecAttention.o"), d, inner, false)?,
            heads: i64::from(config.num_heads),
            d_kv: i64::from(config.d_kv),
        })
    }

    /// x [K or 1, B, T, d] → [K, B, T, d].
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        memory: &Memory<'_>,
        place: &Place<'_>,
    ) -> Result<Tensor, TchError> {
        let (k, _, keys, d) = memory.states.size4()?;
        let query = self.query.with_pairs(&self.norm.forward(x)?, place.pass)?;
        let (kx, b, t, _) = query.size4()?;
        // The heads lead in the products with W_k and W_v, so that neither is copied per row.
        let query = query
            .f_view([kx * b * t, self.heads, self.d_kv])?
            .f_transpose(0, 1)?
            .f_bmm(&self.key)?
            .f_view([self.heads, kx * b, t, d])?
            .f_transpose(0, 1)?
            .f_reshape([kx, b, self.heads * t, d])?;
        let states = memory.states.f_to_kind(query.kind())?;
        let scores = query
            .f_matmul(&states.f_transpose(-1, -2)?)?
            .f_to_kind(x.kind())?
            .f_view([k, b, self.heads, t, keys])?;
        let scores = match memory.mask {
            Some(mask) => scores.f_add(mask)?,
            None => scores,
        };
        let weights = scores.f_softmax(-1, None)?;
        let heads = self.heads as usize;
        let weights = place.drop_weights(weights, Site::CrossWeights, heads, memory.axis)?;
        // The weighted sums of states, [K, B, H·T, d].
        let sums = weights
            .f_to_kind(states.kind())?
            .f_view([k, b, self.heads * t, keys])?
            .f_matmul(&states)?;
        let mut context = sums
            .f_view([k * b, self.heads, t, d])?
            .f_transpose(0, 1)?
            .f_reshape([self.heads, k * b * t, d])?
            .f_bmm(&self.value)?
            .f_transpose(0, 1)?
            .f_reshape([k, b, t, self.heads * self.d_kv])?;
        if let Some(lora) = place.pass.lora
            && let Some((a, into)) = lora.pair(&self.value_name)?
        {
            let delta = self.value_delta(&sums, t, &a, into)?;
            context = context.f_add(&delta.f_to_kind(context.kind())?)?;
        }
        let out = place.drop_hidden(self.out.forward(&context)?, Site::CrossOutput)?;
        x.f_add(&out)
    }

    /// LoRA's pair beside W_v, applied after the weighted sums [K, B, H·T, d] like W_v itself:
    /// every head's sum goes through A [K, d, r] and the head's columns of B [K, r, H·d_kv].
    /// Gives [K, B, T, H·d_kv].
    fn value_delta(
        &self,
        sums: &Tensor,
        t: i64,
        a: &Tensor,
        b: &Tensor,
    ) -> Result<Tensor, TchError> {
        let (k, rows, _, d) = sums.size4()?;
        let rank = a.size3()?.2;
        let sums = sums.f_to_kind(a.kind())?.f_reshape([k, rows * self.heads * t, d])?;
        let inner = sums.f_bmm(a)?.f_view([k, rows, self.heads, t, rank])?;
        // B's columns by head: [K, 1, H, r, d_kv].
        let b = b.f_reshape([k, rank, self.heads, self.d_kv])?.f_transpose(1, 2)?.f_unsqueeze(1)?;
        inner.f_matmul(&b)?.f_transpose(2, 3)?.f_reshape([k, rows, t, self.heads * self.d_kv])
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn the_fused_kernel_computes_what_the_written_out_form_does() {
        let (k, b, heads, t, size) = (2, 3, 2, 5, 4);
        let random = |sizes: &[i64]| Tensor::randn(sizes, (Kind::Double, Device::Cpu));
        let parts = [0; 3].map(|_| random(&[k, b, heads, t, size]));
        let [query, key, value] = parts.each_ref();
        for (of_trials, of_rows) in [(1, 1), (1, b), (k, b)] {
            let bias = random(&[of_trials, of_rows, heads, t, t]);
            let scores = query.matmul(&key.transpose(-1, -2)) + &bias;
            let expected = scores.softmax(-1, None).matmul(value);
            let found = attended([query, key, value], &bias, 0.0).unwrap();
            let error = (found - expected).abs().max().double_value(&[]);
            assert!(error < 1e-12, "{of_trials} {of_rows}: {error}");
        }
    }
}
