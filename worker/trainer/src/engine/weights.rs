//! A T5's frozen weights as the engine uses them: the model's own tensors, not copied, but for
//! norms and tables and, in half precision, one more copy of the head.

use tch::{Kind, TchError, Tensor};

use crate::model::Model;
use crate::model::layers::RmsNorm;
use crate::model::t5::bias::Buckets;

/// A T5.
pub(super) struct Weights {
    pub(super) sizes: Sizes,
    /// [vocabulary, d], f32.
    pub(super) embedding: Tensor,
    pub(super) encoder: Vec<(SelfAttention, FeedForward)>,
    pub(super) encoder_norm: Vec<f32>,
    pub(super) encoder_bias: Bias,
    pub(super) decoder: Vec<(SelfAttention, CrossAttention, FeedForward)>,
    pub(super) decoder_norm: Vec<f32>,
    pub(super) decoder_bias: Bias,
    /// [vocabulary, d], f32.
    pub(super) head: Tensor,
    /// The same in the format of products.
    pub(super) head_products: Tensor,
    /// On the states before the head.
    pub(super) factor: f32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub(super) d: usize,
    pub(super) heads: usize,
    pub(super) d_kv: usize,
    pub(super) vocabulary: usize,
    pub(super) epsilon: f32,
    /// The token in front of every answer.
    pub(super) start_token: i64,
}

impl Sizes {
    /// Numbers of all heads.
    pub(super) fn inner(self) -> usize {
        self.heads * self.d_kv
    }
}

pub(super) struct SelfAttention {
    pub(super) norm: Vec<f32>,
    /// [3 · inner, d]
    pub(super) qkv: Tensor,
    /// [d, inner]
    pub(super) out: Tensor,
}

pub(super) struct CrossAttention {
    pub(super) norm: Vec<f32>,
    /// [inner, d]
    pub(super) query: Tensor,
    /// [heads, d_kv, d]
    pub(super) key: Tensor,
    /// [heads, d_kv, d]
    pub(super) value: Tensor,
    /// [d, inner]
    pub(super) out: Tensor,
}

pub(super) struct FeedForward {
    pub(super) norm: Vec<f32>,
    /// [width, d], or [2 · width, d] where gated.
    pub(super) inner: Tensor,
    /// [d, width]
    pub(super) outer: Tensor,
    pub(super) gated: bool,
    pub(super) width: usize,
}

/// Relative bias by head and distance.
pub(super) struct Bias {
    buckets: Buckets,
    /// [buckets, heads]
    table: Vec<f32>,
    heads: usize,
}

impl Bias {
    /// For keys up to `reach - 1` positions before and behind a query: per head a row of
    /// 2·reach - 1 numbers, from the farthest before to the farthest behind.
    pub(super) fn rows(&self, reach: usize) -> Vec<Vec<f32>> {
        let reach = reach as i64;
        let buckets: Vec<usize> =
            (1 - reach..reach).map(|offset| self.buckets.bucket(offset) as usize).collect();
        let number = |head, bucket: usize| self.table.get(bucket * self.heads + head).copied();
        (0..self.heads)
            .map(|head| buckets.iter().map(|&b| number(head, b).unwrap_or(0.0)).collect())
            .collect()
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    Vec::try_from(tensor.f_flatten(0, -1)?.f_to_kind(Kind::Float)?)
}

fn norm(norm: &RmsNorm) -> Result<Vec<f32>, TchError> {
    numbers(&norm.weight)
}

impl Weights {
    /// Those of a T5; none of another architecture, or of sizes that vectors do not divide.
    pub(super) fn of(model: &Model) -> Result<Option<Self>, TchError> {
        let Some(t5) = model.t5() else { return Ok(None) };
        let Some((attention, _)) = t5.encoder.blocks.first() else { return Ok(None) };
        let (heads, d_kv) = (attention.heads as usize, attention.d_kv as usize);
        let sizes = Sizes {
            d: model.hidden_size(),
            heads,
            d_kv,
            vocabulary: model.vocab_size(),
            epsilon: attention.norm.epsilon as f32,
            start_token: model.start_token(),
        };
        let feed_forward = |of: &crate::model::t5::feed_forward::FeedForward| {
            let (_, width) = of.outer.weight.size2()?;
            Ok::<_, TchError>(FeedForward {
                norm: norm(&of.norm)?,
                inner: of.inner.weight.shallow_clone(),
                outer: of.outer.weight.shallow_clone(),
                gated: of.gated,
                width: width as usize,
            })
        };
        let attention = |of: &crate::model::t5::attention::SelfAttention| {
            Ok::<_, TchError>(SelfAttention {
                norm: norm(&of.norm)?,
                qkv: of.qkv.weight.shallow_clone(),
                out: of.out.weight.shallow_clone(),
            })
        };
        let cross = |of: &crate::model::t5::attention::CrossAttention| {
            Ok::<_, TchError>(CrossAttention {
                norm: norm(&of.norm)?,
                query: of.query.weight.shallow_clone(),
                key: of.key.shallow_clone(),
                value: of.value.f_transpose(-1, -2)?,
                out: of.out.weight.shallow_clone(),
            })
        };
        let encoder = t5.encoder.blocks.iter();
        let encoder = encoder.map(|(a, f)| Ok((attention(a)?, feed_forward(f)?)));
        let encoder: Vec<_> = encoder.collect::<Result<_, TchError>>()?;
        let decoder = t5.decoder.blocks.iter();
        let decoder = decoder.map(|(a, c, f)| Ok((attention(a)?, cross(c)?, feed_forward(f)?)));
        let decoder: Vec<_> = decoder.collect::<Result<_, TchError>>()?;
        let widths = encoder.iter().map(|(_, f)| f.width);
        let divided = |width: usize| width.is_multiple_of(super::kernels::LANES);
        if !divided(sizes.d) || !widths.into_iter().all(divided) {
            return Ok(None);
        }
        let bias = |table: &Tensor, buckets: Buckets| {
            Ok::<_, TchError>(Bias { buckets, table: numbers(table)?, heads })
        };
        let head = t5.head.weight.shallow_clone();
        Ok(Some(Self {
            sizes,
            embedding: model.embedding().shallow_clone(),
            encoder,
            encoder_norm: norm(&t5.encoder.norm)?,
            encoder_bias: bias(&t5.encoder.table, t5.encoder.buckets)?,
            decoder,
            decoder_norm: norm(&t5.decoder.norm)?,
            decoder_bias: bias(&t5.decoder.table, t5.decoder.buckets)?,
            head_products: head.f_to_kind(model.products())?,
            head,
            factor: t5.factor.map_or(1.0, |factor| factor as f32),
        }))
    }
}

#[expect(unsafe_code, reason = "tensors are not Sync, since others write to theirs")]
// SAFETY: after `Weights::of` the tensors are only read, and libtorch lets several threads read a
// tensor; its counts of references are atomic.
unsafe impl Sync for Weights {}
