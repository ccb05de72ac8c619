//! The decoder and the loss, forward and backward at once, for the label tokens of several
//! trials. Only positions from which a label token is predicted are computed, so that there are a
//! few per row: their products are small, and the trials share them.

use tch::TchError;

use super::buffer::{Buffer, Pool};
use super::element::Element;
use super::encoder::widen;
use super::kernels::{self, Drop};
use super::layers::{FeedForwardDrops, SavedNorm, norm, project, project_back};
use super::layout::Layout;
use super::products::{linear, linear_back, rows};
use super::tiny::{Heads, attend, attend_back};
use super::weights::{Sizes, Weights};
use crate::dropout::{Axis, Bits, Law, Place, Site, Stack};

/// Label tokens whose logits exist at a time.
const LOGITS: usize = 64;
/// Tokens are padded to a multiple of it, so that few sizes of products occur.
const TOKENS: usize = 8;

/// One row of one trial.
pub(super) struct DecoderRow<'a> {
    pub(super) seed: u64,
    /// Its number in the effective batch.
    pub(super) number: u32,
    pub(super) labels: &'a [i64],
    /// Prompt and text.
    pub(super) axis: Axis,
}

/// The encoder's states for some rows of one trial.
pub(super) struct Memory<'a, E> {
    pub(super) layout: &'a Layout,
    /// [rows, width, d] per group.
    pub(super) states: &'a [E],
    /// The first of its rows among the decoder's.
    pub(super) first: usize,
}

pub(super) struct LayerMasks {
    weights: Bits,
    attention: Bits,
    pub(super) cross_weights: Bits,
    pub(super) cross: Bits,
    inner: Bits,
    output: Bits,
}

pub(super) struct Masks {
    embedding: Bits,
    pub(super) layers: Vec<LayerMasks>,
    last: Bits,
}

struct SavedLayer<E> {
    norm: SavedNorm<E>,
    qkv: Buffer<E>,
    weights: Buffer<f32>,
    cross_norm: SavedNorm<E>,
    /// Before dropout, per group.
    cross_weights: Vec<Buffer<E>>,
    feed_forward: super::layers::SavedFeedForward<E>,
}

/// Losses of every row, summed over its label tokens, and gradients of the states per memory.
pub(super) struct Decoded<E> {
    pub(super) losses: Vec<f32>,
    pub(super) grads: Vec<Buffer<E>>,
}

pub(super) struct Decoder<'a> {
    pub(super) weights: &'a Weights,
    pub(super) law: &'a Law,
    pub(super) rows: &'a [DecoderRow<'a>],
    pub(super) masks: Option<Masks>,
    /// First token of every row, and the number of tokens.
    pub(super) starts: Vec<usize>,
    pub(super) tokens: usize,
    /// Most label tokens of a row.
    pub(super) most: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(
        weights: &'a Weights,
        law: &'a Law,
        rows: &'a [DecoderRow<'a>],
        step: u64,
        dropout: bool,
    ) -> Self {
        let mut starts = Vec::with_capacity(rows.len());
        let mut tokens = 0;
        for row in rows {
            starts.push(tokens);
            tokens += row.labels.len();
        }
        let tokens = tokens.next_multiple_of(TOKENS);
        let most = rows.iter().map(|row| row.labels.len()).max().unwrap_or(0);
        let mut decoder = Self { weights, law, rows, masks: None, starts, tokens, most };
        if dropout {
            decoder.masks = Some(decoder.make_masks(step));
        }
        decoder
    }

    fn make_masks(&self, step: u64) -> Masks {
        let Sizes { d, heads, .. } = self.weights.sizes;
        let own = |row: &DecoderRow<'_>| Axis::text(row.labels.len());
        let hidden = |site, layer, channels| {
            let place = Place { step, stack: Stack::Decoder, site, layer };
            let rows = self.rows.iter().map(|row| (row.seed, row.number, own(row)));
            self.law.hidden_bits(place, rows, self.tokens, channels)
        };
        let weights = |site, layer, cross: bool| {
            let place = Place { step, stack: Stack::Decoder, site, layer };
            let keys = move |row: &DecoderRow<'_>| if cross { row.axis } else { own(row) };
            let rows = self.rows.iter().map(|row| (row.seed, row.number, own(row), keys(row)));
            self.law.weight_bits(place, heads, rows)
        };
        let layers = self.weights.decoder.iter().enumerate();
        let layers = layers.map(|(layer, (.., feed_forward))| LayerMasks {
            weights: weights(Site::SelfWeights, layer, false),
            attention: hidden(Site::SelfOutput, layer, d),
            cross_weights: weights(Site::CrossWeights, layer, true),
            cross: hidden(Site::CrossOutput, layer, d),
            inner: hidden(Site::FeedForwardInner, layer, feed_forward.width),
            output: hidden(Site::FeedForwardOutput, layer, d),
        });
        Masks {
            embedding: hidden(Site::Embedding, 0, d),
            layers: layers.collect(),
            last: hidden(Site::Final, 0, d),
        }
    }

    pub(super) fn drop<'b>(&'b self, of: impl FnOnce(&'b Masks) -> &'b Bits) -> Option<Drop<'b>> {
        self.masks.as_ref().map(|masks| Drop { law: self.law, bits: of(masks) })
    }

    fn feed_forward_drops(&self, layer: usize) -> FeedForwardDrops<'_> {
        FeedForwardDrops {
            inner: self.drop(|masks| &masks.layers[layer].inner),
            output: self.drop(|masks| &masks.layers[layer].output),
        }
    }

    /// Losses, and the gradients of their sum times `factor`.
    pub(super) fn run<E: Element>(
        &self,
        memories: &[Memory<'_, E>],
        factor: f32,
        pool: &mut Pool,
    ) -> Result<Decoded<E>, TchError> {
        let Sizes { d, epsilon, heads, start_token, .. } = self.weights.sizes;
        let inner = self.weights.sizes.inner();
        let mut crossed = self.crossed(memories, pool);

        let mut ids = Vec::with_capacity(self.tokens);
        for DecoderRow { labels, .. } in self.rows {
            ids.push(start_token);
            ids.extend(labels.iter().take(labels.len() - 1));
        }
        ids.resize(self.tokens, start_token);
        let mut x: Buffer<f32> = pool.take(self.tokens * d);
        rows(&self.weights.embedding, &ids, &mut x)?;
        kernels::drop_rows(&mut x, d, self.drop(|masks| &masks.embedding));

        let bias = self.weights.decoder_bias.rows(self.most);
        let tiny = Heads {
            starts: &self.starts,
            lengths: &self.rows.iter().map(|row| row.labels.len()).collect::<Vec<_>>(),
            most: self.most,
            heads,
            size: self.weights.sizes.d_kv,
            bias: &bias,
            law: self.law,
        };
        let mut saved = Vec::with_capacity(self.weights.decoder.len());
        for (layer, (attention, cross, feed_forward)) in self.weights.decoder.iter().enumerate() {
            let (norm_, scaled) = norm::<E>(&x, &attention.norm, epsilon, pool);
            let mut qkv: Buffer<E> = pool.take(self.tokens * 3 * inner);
            linear(&scaled, &attention.qkv, &mut qkv)?;
            pool.give(scaled);
            let mut weights = pool.take(self.rows.len() * heads * self.most * self.most);
            let mut context: Buffer<E> = pool.zeros(self.tokens * inner);
            let masks = self.masks.as_ref().map(|masks| &masks.layers[layer].weights);
            attend(&tiny, &qkv, masks, &mut weights, &mut context);
            let drop = self.drop(|masks| &masks.layers[layer].attention);
            project(&context, &attention.out, &mut x, d, drop, pool)?;
            pool.give(context);

            let (cross_norm, cross_weights) =
                self.cross(layer, cross, &mut x, &mut crossed, pool)?;
            let drops = self.feed_forward_drops(layer);
            let feed_forward = feed_forward.forward(&mut x, epsilon, self.law, drops, pool)?;
            let norm = norm_;
            saved.push(SavedLayer { norm, qkv, weights, cross_norm, cross_weights, feed_forward });
        }

        let (last, scaled) = norm::<f32>(&x, &self.weights.decoder_norm, epsilon, pool);
        x.copy_from_slice(&scaled);
        pool.give(scaled);
        kernels::drop_rows(&mut x, d, self.drop(|masks| &masks.last));
        let (losses, mut grad) = self.losses::<E>(&mut x, factor, pool)?;
        kernels::drop_rows(&mut grad, d, self.drop(|masks| &masks.last));
        let mut dx: Buffer<f32> = pool.zeros(grad.len());
        last.back::<f32>(&grad, &self.weights.decoder_norm, &mut dx, pool);
        pool.give(grad);
        pool.give(x);

        let layers = self.weights.decoder.iter().enumerate().zip(saved).rev();
        for ((layer, (attention, cross, feed_forward)), saved) in layers {
            let drops = self.feed_forward_drops(layer);
            feed_forward.back(saved.feed_forward, &mut dx, self.law, drops, pool)?;
            let (norm, weights) = (saved.cross_norm, saved.cross_weights);
            self.cross_back(layer, cross, norm, weights, &mut dx, &mut crossed, pool)?;

            let drop = self.drop(|masks| &masks.layers[layer].attention);
            let length = self.tokens * inner;
            let context: Buffer<E> = project_back(&dx, &attention.out, d, length, drop, pool)?;
            let mut qkv: Buffer<E> = pool.zeros(3 * length);
            let masks = self.masks.as_ref().map(|masks| &masks.layers[layer].weights);
            attend_back(&tiny, &saved.qkv, masks, &saved.weights, &context, &mut qkv);
            pool.give(context);
            pool.give(saved.qkv);
            pool.give(saved.weights);
            let mut grad: Buffer<E> = pool.take(self.tokens * d);
            linear_back(&qkv, &attention.qkv, &mut grad)?;
            pool.give(qkv);
            saved.norm.back(&grad, &attention.norm, &mut dx, pool);
            pool.give(grad);
        }
        pool.give(dx);
        let grads = self.state_grads(memories, crossed, pool)?;
        Ok(Decoded { losses, grads })
    }

    /// Losses of every row of last hidden states x [tokens, d], and the states' gradient.
    fn losses<E: Element>(
        &self,
        x: &mut [f32],
        factor: f32,
        pool: &mut Pool,
    ) -> Result<(Vec<f32>, Buffer<f32>), TchError> {
        let Sizes { d, vocabulary, .. } = self.weights.sizes;
        let labels: Vec<usize> = self
            .rows
            .iter()
            .flat_map(|row| row.labels.iter().map(|&label| label as usize))
            .collect();
        x.iter_mut().for_each(|x| *x *= self.weights.factor);
        let mut grad: Buffer<f32> = pool.zeros(x.len());
        let mut losses = Vec::with_capacity(labels.len());
        for (chunk, labels) in labels.chunks(LOGITS).enumerate() {
            let range = chunk * LOGITS * d..(chunk * LOGITS + labels.len()) * d;
            let mut logits: Buffer<f32> = pool.take(labels.len() * vocabulary);
            linear(&x[range.clone()], &self.weights.head, &mut logits)?;
            let mut grads: Buffer<E> = pool.take(logits.len());
            kernels::cross_entropy(&mut logits, labels, factor, &mut losses, &mut grads);
            pool.give(logits);
            let mut back: Buffer<E> = pool.take(labels.len() * d);
            linear_back(&grads, &self.weights.head_products, &mut back)?;
            pool.give(grads);
            widen(&back, &mut grad[range]);
            pool.give(back);
        }
        grad.iter_mut().for_each(|x| *x *= self.weights.factor);
        let mut rest = losses.as_slice();
        let sums = self.rows.iter().map(|row| {
            let (own, after) = rest.split_at(row.labels.len());
            rest = after;
            own.iter().sum()
        });
        let sums = sums.collect();
        Ok((sums, grad))
    }
}
