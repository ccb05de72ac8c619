//! Causal self-attention, with heads of keys and values that serve several heads of queries.

use tch::{TchError, Tensor};

use super::position::Rotation;
use crate::dropout::Site;
use crate::model::layers::{Cache, Linear, Place};

/// Self-attention without norm and residual connection.
pub(super) struct Attention {
    /// Queries, keys and values one after the other.
    pub(super) qkv: Linear,
    pub(super) out: Linear,
    /// Heads of the queries.
    pub(super) heads: i64,
    /// Heads of keys and values; query heads g·n to g·(n+1) - 1 share number n, g = heads/shared.
    pub(super) shared: i64,
    /// Size of a head.
    pub(super) size: i64,
    /// Factor on the scores.
    pub(super) scale: f64,
}

impl Attention {
    /// x [K, B, T, d], already normed → same. `bias` [.., T, keys] is added to the scores. With
    /// a cache, the keys of earlier calls come first and this call's are appended.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rotation: Option<&Rotation>,
        bias: &Tensor,
        cache: Option<&mut Cache>,
        place: &Place<'_>,
    ) -> Result<Tensor, TchError> {
        let (k, b, t, _) = x.size4()?;
        let products = self.qkv.weight.kind();
        let sizes = [self.heads, self.shared, self.shared].map(|heads| heads * self.size);
        let parts = self.qkv.with_pairs(x, place.pass)?.f_split_with_sizes(sizes, -1)?;
        let heads = |part: &Tensor, heads: i64| -> Result<Tensor, TchError> {
            part.f_view([k, b, t, heads, self.size])?.f_transpose(2, 3)
        };
        let [query, key, value] = parts.as_slice() else {
            return Err(TchError::Shape("query, key and value".to_owned()));
        };
        let (query, key) = (heads(query, self.heads)?, heads(key, self.shared)?);
        let (query, key) = match rotation {
            Some(rotation) => (rotation.apply(&query)?, rotation.apply(&key)?),
            None => (query, key),
        };
        let key = key.f_to_kind(products)?;
        let value = heads(value, self.shared)?;
        let (key, value) = match cache {
            None => (key, value),
            Some(cache) => cache.append(&key, &value)?,
        };
        let keys = key.size5()?.3;
        // The query heads that share keys lie one below the other: no key is copied.
        let query = query.f_mul_scalar(self.scale)?.f_to_kind(products)?.f_reshape([
            k,
            b,
            self.shared,
            self.heads / self.shared * t,
            self.size,
        ])?;
        let scores = query
            .f_matmul(&key.f_transpose(-1, -2)?)?
            .f_to_kind(bias.kind())?
            .f_view([k, b, self.heads, t, keys])?;
        let weights = scores.f_add(bias)?.f_softmax(-1, None)?;
        let weights =
            place.drop_weights(weights, Site::SelfWeights, self.heads as usize, place.axis)?;
        let context = weights
            .f_to_kind(products)?
            .f_view([k, b, self.shared, self.heads / self.shared * t, keys])?
            .f_matmul(&value)?
            .f_view([k, b, self.heads, t, self.size])?
            .f_transpose(2, 3)?
            .f_reshape([k, b, t, self.heads * self.size])?;
        self.out.forward(&context)
    }
}
