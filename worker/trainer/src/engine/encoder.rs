//! The encoder, forward and backward, for some rows of one trial.

use std::ops::Range;

use tch::TchError;

use super::buffer::{Buffer, Pool};
use super::element::Element;
use super::isa;
use super::kernels::{self, Drop};
use super::layers::{FeedForwardDrops, SavedFeedForward, SavedNorm, norm, project, project_back};
use super::layout::Layout;
use super::products::{Matrices, each, linear, linear_back};
use super::weights::{SelfAttention, Sizes, Weights};
use crate::dropout::{Axis, Bits, Law, Place, Site, Stack};

/// Dropout of some rows of one seed.
pub(super) struct EncoderMasks {
    embedding: Bits,
    layers: Vec<LayerMasks>,
    last: Bits,
}

struct LayerMasks {
    weights: Bits,
    attention: Bits,
    inner: Bits,
    output: Bits,
}

impl EncoderMasks {
    /// For rows (their numbers and axes) in the order of their `tokens`; those behind the last
    /// row's are dropped.
    pub(super) fn new(
        law: &Law,
        weights: &Weights,
        seed: u64,
        step: u64,
        rows: &[(u32, Axis)],
        tokens: usize,
    ) -> Self {
        let d = weights.sizes.d;
        let hidden = |site, layer, channels| {
            let place = Place { step, stack: Stack::Encoder, site, layer };
            let rows = rows.iter().map(|&(row, axis)| (seed, row, axis));
            law.hidden_bits(place, rows, tokens, channels)
        };
        let layer = |(layer, (_, feed_forward)): (usize, &(_, super::weights::FeedForward))| {
            let site = Site::SelfWeights;
            let place = Place { step, stack: Stack::Encoder, site, layer };
            let pairs = rows.iter().map(|&(row, axis)| (seed, row, axis, axis));
            LayerMasks {
                weights: law.weight_bits(place, weights.sizes.heads, pairs),
                attention: hidden(Site::SelfOutput, layer, d),
                inner: hidden(Site::FeedForwardInner, layer, feed_forward.width),
                output: hidden(Site::FeedForwardOutput, layer, d),
            }
        };
        Self {
            embedding: hidden(Site::Embedding, 0, d),
            layers: weights.encoder.iter().enumerate().map(layer).collect(),
            last: hidden(Site::Final, 0, d),
        }
    }
}

/// What the way back needs.
pub(super) struct SavedEncoder<E> {
    layers: Vec<(SavedAttention<E>, SavedFeedForward<E>)>,
    norm: SavedNorm<E>,
}

struct SavedAttention<E> {
    norm: SavedNorm<E>,
    /// [heads, width, d_kv] per row and group.
    query: Buffer<E>,
    key: Buffer<E>,
    value: Buffer<E>,
    /// Before dropout, [heads, width, width] per row and group.
    weights: Buffer<E>,
}

impl<E: Element> SavedAttention<E> {
    fn give(self, pool: &mut Pool) {
        let SavedAttention { norm, query, key, value, weights } = self;
        norm.give(pool);
        [query, key, value, weights].into_iter().for_each(|buffer| pool.give(buffer));
    }
}

impl<E: Element> SavedEncoder<E> {
    /// Gives back what a pass without a way back has left.
    pub(super) fn give(self, pool: &mut Pool) {
        self.norm.give(pool);
    }
}

/// Head, query, keys and run of masks; none where there is no token.
type Query = Option<(usize, usize, usize, usize)>;

/// Bytes of scores and of weights after dropout that stay in a processor's own cache.
const BLOCK: usize = 1 << 19;

/// Matrices [width, width] of attention weights, in blocks that stay in the cache between product
/// and softmax.
fn blocks<E>(count: usize, width: usize) -> impl Iterator<Item = Range<usize>> {
    let size = (BLOCK / (2 * width * width * size_of::<E>()).max(1)).max(1);
    (0..count).step_by(size).map(move |first| first..count.min(first + size))
}

/// One pass's constants.
pub(super) struct Encoder<'a> {
    pub(super) weights: &'a Weights,
    pub(super) layout: &'a Layout,
    pub(super) law: &'a Law,
    pub(super) masks: Option<&'a EncoderMasks>,
    /// Whether there is a way back.
    pub(super) keep: bool,
}

impl Encoder<'_> {
    fn drop<'a>(&'a self, of: impl FnOnce(&'a EncoderMasks) -> &'a Bits) -> Option<Drop<'a>> {
        self.masks.map(|masks| Drop { law: self.law, bits: of(masks) })
    }

    fn feed_forward_drops(&self, layer: usize) -> FeedForwardDrops<'_> {
        FeedForwardDrops {
            inner: self.drop(|masks| &masks.layers[layer].inner),
            output: self.drop(|masks| &masks.layers[layer].output),
        }
    }

    /// Last hidden states [tokens, d] of inputs x [tokens, d].
    pub(super) fn forward<E: Element>(
        &self,
        mut x: Buffer<f32>,
        pool: &mut Pool,
    ) -> Result<(SavedEncoder<E>, Buffer<E>), TchError> {
        let Sizes { d, epsilon, .. } = self.weights.sizes;
        kernels::drop_rows(&mut x, d, self.drop(|masks| &masks.embedding));
        let bias = self.weights.encoder_bias.rows(self.layout.widest);
        let mut layers = Vec::with_capacity(self.weights.encoder.len());
        for (layer, (attention, feed_forward)) in self.weights.encoder.iter().enumerate() {
            let attended = self.attend(layer, attention, &mut x, &bias, pool)?;
            let drops = self.feed_forward_drops(layer);
            let passed = feed_forward.forward(&mut x, epsilon, self.law, drops, pool)?;
            if self.keep {
                layers.push((attended, passed));
            } else {
                attended.give(pool);
                passed.give(pool);
            }
        }
        let (norm, scaled) = norm::<E>(&x, &self.weights.encoder_norm, epsilon, pool);
        let mut last: Buffer<E> = pool.take(x.len());
        widen(&scaled, &mut x);
        kernels::dropped(&x, d, self.drop(|masks| &masks.last), &mut last);
        pool.give(scaled);
        pool.give(x);
        Ok((SavedEncoder { layers, norm }, last))
    }

    /// The gradient of the inputs, [tokens, d], from that of the last hidden states in the
    /// layout's groups, [rows, width, d] each.
    pub(super) fn back<E: Element>(
        &self,
        saved: SavedEncoder<E>,
        grad: &[E],
        pool: &mut Pool,
    ) -> Result<Buffer<f32>, TchError> {
        let d = self.weights.sizes.d;
        let mut last: Buffer<E> = pool.zeros(self.layout.tokens * d);
        self.layout.merge(grad, 1, &mut last, d, 0);
        let mut wide: Buffer<f32> = pool.take(last.len());
        widen(&last, &mut wide);
        pool.give(last);
        kernels::drop_rows(&mut wide, d, self.drop(|masks| &masks.last));
        let mut dx: Buffer<f32> = pool.zeros(wide.len());
        saved.norm.back::<f32>(&wide, &self.weights.encoder_norm, &mut dx, pool);
        pool.give(wide);
        let layers = self.weights.encoder.iter().enumerate().zip(saved.layers).rev();
        for ((layer, (attention, feed_forward)), (attended, passed)) in layers {
            let drops = self.feed_forward_drops(layer);
            feed_forward.back(passed, &mut dx, self.law, drops, pool)?;
            self.attend_back(layer, attention, attended, &mut dx, pool)?;
        }
        kernels::drop_rows(&mut dx, d, self.drop(|masks| &masks.embedding));
        Ok(dx)
    }

    fn attend<E: Element>(
        &self,
        layer: usize,
        attention: &SelfAttention,
        x: &mut [f32],
        bias: &[Vec<f32>],
        pool: &mut Pool,
    ) -> Result<SavedAttention<E>, TchError> {
        let (layout, sizes) = (self.layout, self.weights.sizes);
        let Sizes { d, heads, d_kv, epsilon, .. } = sizes;
        let inner = sizes.inner();
        let (norm, scaled) = norm(x, &attention.norm, epsilon, pool);
        let mut qkv: Buffer<E> = pool.take(layout.tokens * 3 * inner);
        linear(&scaled, &attention.qkv, &mut qkv)?;
        pool.give(scaled);
        let mut parts = [0, 1, 2].map(|part| {
            let mut out: Buffer<E> = pool.take(layout.padded * inner);
            layout.split(&qkv, 3 * inner, part * inner, heads, &mut out);
            out
        });
        pool.give(qkv);
        let [query, key, value] = &mut parts;
        let mut weights: Buffer<E> = pool.take(layout.pairs * heads);
        let mut context: Buffer<E> = pool.take(layout.padded * inner);
        for group in &layout.groups {
            let (count, width) = (group.rows.len() * heads, group.width);
            let first = group.tokens_at * inner;
            for block in blocks::<E>(count, width) {
                let (first, size) =
                    (first + block.start * width * d_kv, block.len() * width * d_kv);
                let of = |x| Matrices::new(x, block.len(), width, d_kv);
                let own = first..first + size;
                let mut scores: Buffer<E> = pool.take(block.len() * width * width);
                each(of(&query[own.clone()]), of(&key[own.clone()]).transposed(), &mut scores)?;
                let mut kept: Buffer<E> = pool.take(scores.len());
                let pairs_at = group.pairs_at * heads + block.start * width * width;
                let weights = &mut weights[pairs_at..][..scores.len()];
                let places = self.places(group, block.clone());
                self.softmax(layer, width, places, bias, &scores, [weights, &mut kept]);
                pool.give(scores);
                let kept_of = Matrices::new(&kept, block.len(), width, width);
                each(kept_of, of(&value[own.clone()]), &mut context[own])?;
                pool.give(kept);
            }
        }
        let mut joined: Buffer<E> = pool.zeros(layout.tokens * inner);
        layout.merge(&context, heads, &mut joined, inner, 0);
        pool.give(context);
        let drop = self.drop(|masks| &masks.layers[layer].attention);
        project(&joined, &attention.out, x, d, drop, pool)?;
        pool.give(joined);
        let [query, key, value] = parts;
        Ok(SavedAttention { norm, query, key, value, weights })
    }

    fn softmax<E: Element>(
        &self,
        layer: usize,
        width: usize,
        places: impl Iterator<Item = Query>,
        bias: &[Vec<f32>],
        scores: &[E],
        [weights, kept]: [&mut [E]; 2],
    ) {
        let mut scratch = vec![0f32; width];
        let reach = self.layout.widest;
        isa::run(
            #[inline(always)]
            || {
                let outs = weights.chunks_exact_mut(width).zip(kept.chunks_exact_mut(width));
                let rows = scores.chunks_exact(width).zip(outs).zip(places);
                for ((scores, (weights, kept)), place) in rows {
                    let Some((head, query, keys, run)) = place else {
                        weights.fill(E::default());
                        kept.fill(E::default());
                        continue;
                    };
                    let bias = &bias[head][reach - 1 - query..][..width];
                    let mask = self.masks.map(|m| (self.law, m.layers[layer].weights.run(run)));
                    kernels::softmax(scores, Some(bias), keys, mask, &mut scratch, weights, kept);
                }
            },
        );
    }

    /// The way back through [`Encoder::softmax`].
    fn softmax_back<E: Element>(
        &self,
        layer: usize,
        width: usize,
        places: impl Iterator<Item = Query>,
        scores: &mut [E],
        weights: &[E],
        kept: &mut [E],
    ) {
        isa::run(
            #[inline(always)]
            || {
                let grads = scores.chunks_exact_mut(width).zip(kept.chunks_exact_mut(width));
                let rows = grads.zip(weights.chunks_exact(width)).zip(places);
                for (((scores, kept), weights), place) in rows {
                    let mask = place
                        .zip(self.masks)
                        .map(|((.., run), masks)| (self.law, masks.layers[layer].weights.run(run)));
                    kernels::softmax_back(scores, weights, mask, kept);
                }
            },
        );
    }

    /// Every query of some of a group's matrices of attention weights.
    fn places<'a>(
        &'a self,
        group: &'a super::layout::Group,
        matrices: Range<usize>,
    ) -> impl Iterator<Item = Query> + 'a {
        let heads = self.weights.sizes.heads;
        matrices.flat_map(move |matrix| {
            let (span, head) = (self.layout.spans[group.rows[matrix / heads]], matrix % heads);
            (0..group.width).map(move |query| {
                // The runs of the rows before: one per head and token.
                let run = heads * span.start + head * span.length + query;
                (query < span.length).then_some((head, query, span.length, run))
            })
        })
    }

    fn attend_back<E: Element>(
        &self,
        layer: usize,
        attention: &SelfAttention,
        saved: SavedAttention<E>,
        dx: &mut [f32],
        pool: &mut Pool,
    ) -> Result<(), TchError> {
        let (layout, sizes) = (self.layout, self.weights.sizes);
        let Sizes { d, heads, d_kv, .. } = sizes;
        let inner = sizes.inner();
        let drop = self.drop(|masks| &masks.layers[layer].attention);
        let joined = layout.tokens * inner;
        let joined: Buffer<E> = project_back(dx, &attention.out, d, joined, drop, pool)?;
        let mut grad: Buffer<E> = pool.take(layout.padded * inner);
        layout.split(&joined, inner, 0, heads, &mut grad);
        pool.give(joined);
        let SavedAttention { norm, query, key, value, weights } = saved;
        let mut grads = [0, 1, 2].map(|_| pool.take::<E>(layout.padded * inner));
        for group in &layout.groups {
            let (count, width) = (group.rows.len() * heads, group.width);
            let [dquery, dkey, dvalue] = &mut grads;
            for block in blocks::<E>(count, width) {
                let first = group.tokens_at * inner + block.start * width * d_kv;
                let own = first..first + block.len() * width * d_kv;
                let of = |x| Matrices::new(x, block.len(), width, d_kv);
                let grad = of(&grad[own.clone()]);
                let mut scores: Buffer<E> = pool.take(block.len() * width * width);
                each(grad, of(&value[own.clone()]).transposed(), &mut scores)?;
                let mut kept: Buffer<E> = pool.take(scores.len());
                let pairs_at = group.pairs_at * heads + block.start * width * width;
                let weights = &weights[pairs_at..][..scores.len()];
                let places = self.places(group, block.clone());
                self.softmax_back(layer, width, places, &mut scores, weights, &mut kept);
                let kept_of = Matrices::new(&kept, block.len(), width, width);
                each(kept_of.transposed(), grad, &mut dvalue[own.clone()])?;
                pool.give(kept);
                let scores_of = Matrices::new(&scores, block.len(), width, width);
                each(scores_of, of(&key[own.clone()]), &mut dquery[own.clone()])?;
                each(scores_of.transposed(), of(&query[own.clone()]), &mut dkey[own])?;
                pool.give(scores);
            }
        }
        [query, key, value, weights, grad].into_iter().for_each(|buffer| pool.give(buffer));
        let mut qkv: Buffer<E> = pool.zeros(layout.tokens * 3 * inner);
        for (part, grad) in grads.into_iter().enumerate() {
            layout.merge(&grad, heads, &mut qkv, 3 * inner, part * inner);
            pool.give(grad);
        }
        let mut grad: Buffer<E> = pool.take(layout.tokens * d);
        linear_back(&qkv, &attention.qkv, &mut grad)?;
        pool.give(qkv);
        norm.back(&grad, &attention.norm, dx, pool);
        pool.give(grad);
        Ok(())
    }
}

/// The same numbers as f32.
pub(super) fn widen<E: Element>(from: &[E], to: &mut [f32]) {
    isa::run(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = from.get();
            }
        },
    );
}
