//! Causal attention among the few label tokens of a row, written out: as products the matrices
//! would be too small to be worth a call.

use super::element::Element;
use super::isa;
use crate::dropout::{Bits, Law};

/// Rows of label tokens.
pub(super) struct Heads<'a> {
    /// First token of every row.
    pub(super) starts: &'a [usize],
    /// Tokens of every row.
    pub(super) lengths: &'a [usize],
    /// Most tokens of a row.
    pub(super) most: usize,
    pub(super) heads: usize,
    /// d_kv
    pub(super) size: usize,
    /// Per head by distance, from `most - 1` before the query on.
    pub(super) bias: &'a [Vec<f32>],
    pub(super) law: &'a Law,
}

impl Heads<'_> {
    /// Row, head, query: with the place of its weights, [rows, heads, most, most], and its run of
    /// masks.
    fn places(&self) -> impl Iterator<Item = (usize, usize, usize, usize, usize)> + '_ {
        (0..self.starts.len()).flat_map(move |row| {
            (0..self.heads).flat_map(move |head| {
                (0..self.lengths[row]).map(move |query| {
                    let place = ((row * self.heads + head) * self.most + query) * self.most;
                    let run = self.heads * self.starts[row] + head * self.lengths[row] + query;
                    (row, head, query, place, run)
                })
            })
        })
    }

    /// The numbers of one token's query (part 0), key (1) or value (2) in qkv [tokens, 3 · heads ·
    /// size].
    #[inline(always)]
    fn part(&self, row: usize, token: usize, part: usize, head: usize) -> std::ops::Range<usize> {
        let inner = self.heads * self.size;
        let start = (self.starts[row] + token) * 3 * inner + part * inner + head * self.size;
        start..start + self.size
    }

    #[inline(always)]
    fn context(&self, row: usize, token: usize, head: usize) -> std::ops::Range<usize> {
        let start = ((self.starts[row] + token) * self.heads + head) * self.size;
        start..start + self.size
    }

    #[inline(always)]
    fn factor(&self, masks: Option<&Bits>, run: usize, key: usize) -> f32 {
        masks.map_or(1.0, |masks| {
            let byte = masks.run(run).get(key / 8).copied().unwrap_or(0);
            self.law.factors()[usize::from(byte)][key % 8]
        })
    }
}

#[inline(always)]
fn dot<E: Element>(x: &[E], y: &[E]) -> f32 {
    let mut sums = [0f32; 8];
    let (xs, ys) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in xs.0.iter().zip(ys.0) {
        (0..8).for_each(|i| sums[i] += x[i].get() * y[i].get());
    }
    let rest: f32 = xs.1.iter().zip(ys.1).map(|(x, y)| x.get() * y.get()).sum();
    sums.iter().sum::<f32>() + rest
}

/// Weights before dropout, [rows, heads, most, most], and context [tokens, heads · size].
pub(super) fn attend<E: Element>(
    of: &Heads<'_>,
    qkv: &[E],
    masks: Option<&Bits>,
    weights: &mut [f32],
    context: &mut [E],
) {
    let mut sums = vec![0f32; of.size];
    isa::run(
        #[inline(always)]
        || {
            for (row, head, query, place, run) in of.places() {
                let weights = &mut weights[place..place + query + 1];
                let own = &qkv[of.part(row, query, 0, head)];
                let mut largest = f32::NEG_INFINITY;
                for (key, weight) in weights.iter_mut().enumerate() {
                    let bias = of.bias[head][of.most - 1 + key - query];
                    *weight = dot(own, &qkv[of.part(row, key, 1, head)]) + bias;
                    largest = if *weight > largest { *weight } else { largest };
                }
                let mut total = 0.0;
                for weight in weights.iter_mut() {
                    *weight = isa::exp(*weight - largest);
                    total += *weight;
                }
                sums.fill(0.0);
                for (key, weight) in weights.iter_mut().enumerate() {
                    *weight /= total;
                    let kept = *weight * of.factor(masks, run, key);
                    let values = &qkv[of.part(row, key, 2, head)];
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += kept * value.get();
                    }
                }
                let context = &mut context[of.context(row, query, head)];
                context.iter_mut().zip(&sums).for_each(|(out, &sum)| *out = E::of(sum));
            }
        },
    );
}

/// The way back through [`attend`]: the gradient of qkv from that of the context.
pub(super) fn attend_back<E: Element>(
    of: &Heads<'_>,
    qkv: &[E],
    masks: Option<&Bits>,
    weights: &[f32],
    grad: &[E],
    dqkv: &mut [E],
) {
    // Keys and values get gradients from several queries: added up in f32.
    let mut sums = vec![0f32; qkv.len()];
    let mut grads = vec![0f32; of.most];
    isa::run(
        #[inline(always)]
        || {
            for (row, head, query, place, run) in of.places() {
                let weights = &weights[place..place + query + 1];
                let grad = &grad[of.context(row, query, head)];
                let mut mean = 0.0;
                for (key, (weight, out)) in weights.iter().zip(&mut grads).enumerate() {
                    let factor = of.factor(masks, run, key);
                    *out = factor * dot(grad, &qkv[of.part(row, key, 2, head)]);
                    mean += *out * weight;
                    let values = &mut sums[of.part(row, key, 2, head)];
                    for (sum, grad) in values.iter_mut().zip(grad) {
                        *sum += weight * factor * grad.get();
                    }
                }
                for (key, (weight, out)) in weights.iter().zip(&grads).enumerate() {
                    let score = weight * (out - mean);
                    let own = of.part(row, query, 0, head);
                    let other = of.part(row, key, 1, head);
                    for (at, other) in own.clone().zip(other.clone()) {
                        sums[at] += score * qkv[other].get();
                        sums[other] += score * qkv[at].get();
                    }
                }
            }
            for (out, &sum) in dqkv.iter_mut().zip(&sums) {
                *out = E::of(sum);
            }
        },
    );
}
