//! Cross-attention, forward and backward.
//!
//! It never projects the encoder's states: W_k is absorbed into the query and W_v applied to the
//! weighted sum (as in [`crate::model`]). The gradient of the states is one product per group of
//! rows for all layers: every layer's weights and score gradients, one below the other, times the
//! gradients of its sums and its queries.

use tch::TchError;

use super::buffer::{Buffer, Pool};
use super::decoder::{Decoder, Memory};
use super::element::Element;
use super::isa;
use super::kernels;
use super::layers::{SavedNorm, norm, project, project_back};
use super::layout::Group;
use super::products::{Matrices, each, each_with, linear, linear_back};
use super::weights::{CrossAttention, Sizes};

/// A group of rows in cross-attention, with what the gradient of its states needs.
pub(super) struct Crossed<'a, E> {
    group: &'a Group,
    states: &'a [E],
    /// Numbers of its rows among the decoder's.
    rows: Vec<usize>,
    /// Keys of its rows.
    keys: Vec<usize>,
    /// Per row and layer the weights after dropout, then the gradients of the scores, each
    /// [heads · most, width].
    left: Buffer<E>,
    /// Per row and layer the gradients of the sums, then the queries, each [heads · most, d].
    right: Buffer<E>,
}

impl Decoder<'_> {
    pub(super) fn crossed<'b, E: Element>(
        &self,
        memories: &[Memory<'b, E>],
        pool: &mut Pool,
    ) -> Vec<Crossed<'b, E>> {
        let Sizes { d, heads, .. } = self.weights.sizes;
        let parts = 2 * self.weights.decoder.len() * heads * self.most;
        let mut all = Vec::new();
        for memory in memories {
            for group in &memory.layout.groups {
                let count = group.rows.len();
                let span = |&row: &usize| memory.layout.spans[row].length;
                all.push(Crossed {
                    group,
                    states: &memory.states[group.tokens_at * d..][..count * group.width * d],
                    rows: group.rows.iter().map(|&row| memory.first + row).collect(),
                    keys: group.rows.iter().map(span).collect(),
                    left: pool.zeros(count * parts * group.width),
                    right: pool.zeros(count * parts * d),
                });
            }
        }
        all
    }

    /// Queries per row and part of a group: [heads · most].
    fn queries(&self) -> usize {
        self.weights.sizes.heads * self.most
    }

    /// The matrices of one part (0: of the forward pass, 1: of the way back) of a layer within a
    /// group's `left` or `right`, with rows of `columns`.
    fn part<'b, E: Element>(
        &self,
        of: &'b [E],
        count: usize,
        layer: usize,
        part: usize,
        columns: usize,
    ) -> Matrices<'b, E> {
        let rows = self.queries();
        let parts = 2 * self.weights.decoder.len();
        let data = &of[(2 * layer + part) * rows * columns..];
        let transposed = false;
        Matrices { data, count, stride: parts * rows * columns, rows, columns, transposed }
    }

    /// Places of a row's part of a layer in `left` or `right` with rows of `columns`.
    fn place(&self, slot: usize, layer: usize, part: usize, columns: usize) -> usize {
        let parts = 2 * self.weights.decoder.len();
        (slot * parts + 2 * layer + part) * self.queries() * columns
    }

    pub(super) fn cross<E: Element>(
        &self,
        layer: usize,
        cross: &CrossAttention,
        x: &mut [f32],
        crossed: &mut [Crossed<'_, E>],
        pool: &mut Pool,
    ) -> Result<(SavedNorm<E>, Vec<Buffer<E>>), TchError> {
        let sizes = self.weights.sizes;
        let Sizes { d, heads, epsilon, .. } = sizes;
        let (saved, scaled) = norm(x, &cross.norm, epsilon, pool);
        let mut query: Buffer<E> = pool.take(self.tokens * sizes.inner());
        linear(&scaled, &cross.query, &mut query)?;
        pool.give(scaled);
        let absorbed = self.by_heads(&query, &cross.key, d, pool)?;
        pool.give(query);
        let mut sums: Buffer<E> = pool.zeros(heads * self.tokens * d);
        let mut all = Vec::with_capacity(crossed.len());
        for crossed in crossed {
            let (count, width) = (crossed.rows.len(), crossed.group.width);
            self.gather(&absorbed, crossed, layer, 1);
            let states = Matrices::new(crossed.states, count, width, d);
            let queries = self.part(&crossed.right, count, layer, 1, d);
            let mut scores: Buffer<E> = pool.take(count * self.queries() * width);
            each(queries, states.transposed(), &mut scores)?;
            let mut weights: Buffer<E> = pool.take(scores.len());
            self.softmax(layer, crossed, &scores, &mut weights);
            let kept = self.part(&crossed.left, count, layer, 0, width);
            let mut own: Buffer<E> = pool.take(count * self.queries() * d);
            each(kept, states, &mut own)?;
            self.scatter(&own, crossed, &mut sums);
            pool.give(own);
            pool.give(scores);
            all.push(weights);
        }
        pool.give(absorbed);
        let value = cross.value.f_transpose(1, 2)?;
        let mut context: Buffer<E> = pool.take(self.tokens * sizes.inner());
        self.joined_heads(&sums, d, &value, &mut context, pool)?;
        pool.give(sums);
        let drop = self.drop(|masks| &masks.layers[layer].cross);
        project(&context, &cross.out, x, d, drop, pool)?;
        pool.give(context);
        Ok((saved, all))
    }

    #[expect(clippy::too_many_arguments, reason = "what one sublayer keeps")]
    pub(super) fn cross_back<E: Element>(
        &self,
        layer: usize,
        cross: &CrossAttention,
        saved: SavedNorm<E>,
        weights: Vec<Buffer<E>>,
        dx: &mut [f32],
        crossed: &mut [Crossed<'_, E>],
        pool: &mut Pool,
    ) -> Result<(), TchError> {
        let sizes = self.weights.sizes;
        let Sizes { d, heads, .. } = sizes;
        let drop = self.drop(|masks| &masks.layers[layer].cross);
        let inner = self.tokens * sizes.inner();
        let context: Buffer<E> = project_back(dx, &cross.out, d, inner, drop, pool)?;
        let sums = self.by_heads(&context, &cross.value, d, pool)?;
        pool.give(context);
        let mut grads: Buffer<E> = pool.zeros(heads * self.tokens * d);
        for (crossed, weights) in crossed.iter_mut().zip(weights) {
            let (count, width) = (crossed.rows.len(), crossed.group.width);
            self.gather(&sums, crossed, layer, 0);
            let states = Matrices::new(crossed.states, count, width, d);
            let sums = self.part(&crossed.right, count, layer, 0, d);
            let mut scores: Buffer<E> = pool.take(weights.len());
            each(sums, states.transposed(), &mut scores)?;
            self.softmax_back(layer, crossed, &weights, &mut scores);
            pool.give(scores);
            pool.give(weights);
            let scores = self.part(&crossed.left, count, layer, 1, width);
            let mut own: Buffer<E> = pool.take(count * self.queries() * d);
            each(scores, states, &mut own)?;
            self.scatter(&own, crossed, &mut grads);
            pool.give(own);
        }
        pool.give(sums);
        let mut query: Buffer<E> = pool.take(inner);
        self.joined_heads(&grads, d, &cross.key.f_transpose(1, 2)?, &mut query, pool)?;
        pool.give(grads);
        let mut grad: Buffer<E> = pool.take(self.tokens * d);
        linear_back(&query, &cross.query, &mut grad)?;
        pool.give(query);
        saved.back(&grad, &cross.norm, dx, pool);
        pool.give(grad);
        Ok(())
    }

    /// Tokens [tokens, heads · d_kv] times a map [heads, d_kv, columns] of each head, as [heads,
    /// tokens, columns].
    fn by_heads<E: Element>(
        &self,
        x: &[E],
        map: &tch::Tensor,
        columns: usize,
        pool: &mut Pool,
    ) -> Result<Buffer<E>, TchError> {
        let Sizes { heads, d_kv, .. } = self.weights.sizes;
        let mut split: Buffer<E> = pool.take(x.len());
        for (token, x) in x.chunks_exact(heads * d_kv).enumerate() {
            for (head, x) in x.chunks_exact(d_kv).enumerate() {
                split[(head * self.tokens + token) * d_kv..][..d_kv].copy_from_slice(x);
            }
        }
        let mut out: Buffer<E> = pool.take(heads * self.tokens * columns);
        each_with(Matrices::new(&split, heads, self.tokens, d_kv), map, &mut out)?;
        pool.give(split);
        Ok(out)
    }

    /// [heads, tokens, columns] times a map [heads, columns, d_kv] of each head, as tokens
    /// [tokens, heads · d_kv].
    fn joined_heads<E: Element>(
        &self,
        x: &[E],
        columns: usize,
        map: &tch::Tensor,
        out: &mut [E],
        pool: &mut Pool,
    ) -> Result<(), TchError> {
        let Sizes { heads, d_kv, .. } = self.weights.sizes;
        let mut split: Buffer<E> = pool.take(out.len());
        each_with(Matrices::new(x, heads, self.tokens, columns), map, &mut split)?;
        for (token, out) in out.chunks_exact_mut(heads * d_kv).enumerate() {
            for (head, out) in out.chunks_exact_mut(d_kv).enumerate() {
                out.copy_from_slice(&split[(head * self.tokens + token) * d_kv..][..d_kv]);
            }
        }
        pool.give(split);
        Ok(())
    }

    /// Copies a group's tokens of [heads, tokens, d] into a part of its `right`.
    fn gather<E: Element>(&self, from: &[E], to: &mut Crossed<'_, E>, layer: usize, part: usize) {
        let Sizes { d, heads, .. } = self.weights.sizes;
        for (slot, &row) in to.rows.iter().enumerate() {
            let length = self.rows[row].labels.len() * d;
            let first = self.place(slot, layer, part, d);
            for head in 0..heads {
                let from = &from[(head * self.tokens + self.starts[row]) * d..][..length];
                let place = first + head * self.most * d;
                to.right[place..place + length].copy_from_slice(from);
            }
        }
    }

    /// Copies a group's [rows, heads · most, d] into [heads, tokens, d].
    fn scatter<E: Element>(&self, from: &[E], of: &Crossed<'_, E>, to: &mut [E]) {
        let Sizes { d, heads, .. } = self.weights.sizes;
        for (slot, &row) in of.rows.iter().enumerate() {
            let length = self.rows[row].labels.len() * d;
            for head in 0..heads {
                let from = &from[(slot * heads + head) * self.most * d..][..length];
                to[(head * self.tokens + self.starts[row]) * d..][..length].copy_from_slice(from);
            }
        }
    }

    /// Run of the masks of cross-attention.
    fn run_of(&self, row: usize, head: usize, query: usize) -> usize {
        let heads = self.weights.sizes.heads;
        heads * self.starts[row] + head * self.rows[row].labels.len() + query
    }

    /// Weights of a group's scores, [rows, heads · most, width]; those after dropout become a part
    /// of its `left`.
    fn softmax<E: Element>(
        &self,
        layer: usize,
        crossed: &mut Crossed<'_, E>,
        scores: &[E],
        weights: &mut [E],
    ) {
        let (heads, width) = (self.weights.sizes.heads, crossed.group.width);
        let mut scratch = vec![0f32; width];
        let Crossed { rows, keys, left, .. } = crossed;
        isa::run(
            #[inline(always)]
            || {
                for (slot, (&row, &keys)) in rows.iter().zip(keys.iter()).enumerate() {
                    let first = self.place(slot, layer, 0, width);
                    for head in 0..heads {
                        for query in 0..self.rows[row].labels.len() {
                            let at = head * self.most + query;
                            let place = (slot * heads * self.most + at) * width;
                            let masks = self.masks.as_ref().map(|masks| {
                                let run = self.run_of(row, head, query);
                                (self.law, masks.layers[layer].cross_weights.run(run))
                            });
                            let kept = &mut left[first + at * width..][..width];
                            let scores = &scores[place..place + width];
                            let weights = &mut weights[place..place + width];
                            kernels::softmax(
                                scores,
                                None,
                                keys,
                                masks,
                                &mut scratch,
                                weights,
                                kept,
                            );
                        }
                    }
                }
            },
        );
    }

    /// The gradients of a group's scores, from those of the weights after dropout; they become a
    /// part of its `left`.
    fn softmax_back<E: Element>(
        &self,
        layer: usize,
        crossed: &mut Crossed<'_, E>,
        weights: &[E],
        grads: &mut [E],
    ) {
        let (heads, width) = (self.weights.sizes.heads, crossed.group.width);
        let mut kept = vec![E::default(); width];
        let Crossed { rows, left, .. } = crossed;
        isa::run(
            #[inline(always)]
            || {
                for (slot, &row) in rows.iter().enumerate() {
                    let first = self.place(slot, layer, 1, width);
                    for head in 0..heads {
                        for query in 0..self.rows[row].labels.len() {
                            let at = head * self.most + query;
                            let place = (slot * heads * self.most + at) * width;
                            let masks = self.masks.as_ref().map(|masks| {
                                let run = self.run_of(row, head, query);
                                (self.law, masks.layers[layer].cross_weights.run(run))
                            });
                            let grads = &mut grads[place..place + width];
                            let weights = &weights[place..place + width];
                            kernels::softmax_back(grads, weights, masks, &mut kept);
                            left[first + at * width..][..width].copy_from_slice(grads);
                        }
                    }
                }
            },
        );
    }

    /// The gradients of the states, in the layout of each memory.
    pub(super) fn state_grads<E: Element>(
        &self,
        memories: &[Memory<'_, E>],
        crossed: Vec<Crossed<'_, E>>,
        pool: &mut Pool,
    ) -> Result<Vec<Buffer<E>>, TchError> {
        let d = self.weights.sizes.d;
        let all = 2 * self.weights.decoder.len() * self.queries();
        let mut crossed = crossed.into_iter();
        let mut grads = Vec::with_capacity(memories.len());
        for memory in memories {
            let mut grad: Buffer<E> = pool.take(memory.layout.padded * d);
            for (group, crossed) in memory.layout.groups.iter().zip(crossed.by_ref()) {
                let (count, width) = (group.rows.len(), group.width);
                let left = Matrices::new(&crossed.left, count, all, width).transposed();
                let right = Matrices::new(&crossed.right, count, all, d);
                let own = &mut grad[group.tokens_at * d..][..count * width * d];
                each(left, right, own)?;
                pool.give(crossed.left);
                pool.give(crossed.right);
            }
            grads.push(grad);
        }
        Ok(grads)
    }
}
