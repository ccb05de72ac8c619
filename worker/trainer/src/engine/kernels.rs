//! What lies between the products, each in one pass over memory: norms, residual connections,
//! activations and softmax, with their dropout, forward and backward.

use super::element::Element;
use super::isa;
use crate::dropout::{Bits, Law};

/// Numbers that are summed side by side. Rows are a multiple of it.
pub(super) const LANES: usize = 16;

// Eight numbers at a time are loaded, computed and stored one after the other: where loads and
// stores alternate, the compiler cannot tell that they do not overlap, and uses no vectors.

#[inline(always)]
fn load<E: Element>(from: &[E; 8]) -> [f32; 8] {
    std::array::from_fn(|i| from[i].get())
}

#[inline(always)]
fn store<E: Element>(to: &mut [E; 8], values: [f32; 8]) {
    *to = values.map(E::of);
}

#[inline(always)]
fn times(x: [f32; 8], y: [f32; 8]) -> [f32; 8] {
    std::array::from_fn(|i| x[i] * y[i])
}

#[inline(always)]
fn plus(x: [f32; 8], y: [f32; 8]) -> [f32; 8] {
    std::array::from_fn(|i| x[i] + y[i])
}

/// Dropout of one place: none outside of training.
#[derive(Clone, Copy)]
pub(super) struct Drop<'a> {
    pub(super) law: &'a Law,
    pub(super) bits: &'a Bits,
}

/// x = x ∘ mask, row by row of `width`.
pub(super) fn drop_rows(x: &mut [f32], width: usize, drop: Option<Drop<'_>>) {
    let Some(Drop { law, bits }) = drop else { return };
    isa::run(
        #[inline(always)]
        || {
            for (place, row) in x.chunks_exact_mut(width).enumerate() {
                for (x, &byte) in row.as_chunks_mut::<8>().0.iter_mut().zip(bits.run(place)) {
                    *x = times(*x, law.factors()[usize::from(byte)]);
                }
            }
        },
    );
}

/// x += out ∘ mask.
pub(super) fn add_dropped<E: Element>(
    x: &mut [f32],
    out: &[E],
    width: usize,
    drop: Option<Drop<'_>>,
) {
    isa::run(
        #[inline(always)]
        || {
            let rows = x.chunks_exact_mut(width).zip(out.chunks_exact(width));
            for (place, (x, out)) in rows.enumerate() {
                let (x, out) = (x.as_chunks_mut::<8>().0, out.as_chunks::<8>().0);
                match drop {
                    None => x.iter_mut().zip(out).for_each(|(x, out)| *x = plus(*x, load(out))),
                    Some(Drop { law, bits }) => {
                        for ((x, out), &byte) in x.iter_mut().zip(out).zip(bits.run(place)) {
                            let factors = law.factors()[usize::from(byte)];
                            *x = plus(*x, times(load(out), factors));
                        }
                    }
                }
            }
        },
    );
}

/// out = x ∘ mask, in the format of products.
pub(super) fn dropped<E: Element>(x: &[f32], width: usize, drop: Option<Drop<'_>>, out: &mut [E]) {
    isa::run(
        #[inline(always)]
        || {
            let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
            for (place, (out, x)) in rows.enumerate() {
                let (out, x) = (out.as_chunks_mut::<8>().0, x.as_chunks::<8>().0);
                match drop {
                    None => out.iter_mut().zip(x).for_each(|(out, x)| store(out, *x)),
                    Some(Drop { law, bits }) => {
                        for ((out, x), &byte) in out.iter_mut().zip(x).zip(bits.run(place)) {
                            store(out, times(*x, law.factors()[usize::from(byte)]));
                        }
                    }
                }
            }
        },
    );
}

/// RMS norm of rows of the weight's width: `unit` = x / √(mean(x²) + ε) and `scaled` = unit ∘
/// weight, and the factor of every row.
pub(super) fn norm<E: Element>(
    x: &[f32],
    weight: &[f32],
    epsilon: f32,
    unit: &mut [E],
    scaled: &mut [E],
    factors: &mut [f32],
) {
    let width = weight.len();
    isa::run(
        #[inline(always)]
        || {
            let weight = weight.as_chunks::<LANES>().0;
            let outs = unit.chunks_exact_mut(width).zip(scaled.chunks_exact_mut(width));
            for ((x, (unit, scaled)), factor) in x.chunks_exact(width).zip(outs).zip(factors) {
                let x = x.as_chunks::<LANES>().0;
                let mut sums = [0f32; LANES];
                for x in x {
                    (0..LANES).for_each(|i| sums[i] += x[i] * x[i]);
                }
                let mean = sum(sums) / width as f32;
                // A square that overflows would make the factor 0 and hide that the trial is lost.
                let largest = f32::MAX;
                *factor = if mean <= largest { 1.0 / (mean + epsilon).sqrt() } else { f32::NAN };
                let outs = unit.as_chunks_mut::<LANES>().0.iter_mut();
                let outs = outs.zip(scaled.as_chunks_mut::<LANES>().0);
                for ((x, weight), (unit, scaled)) in x.iter().zip(weight).zip(outs) {
                    let values = x.map(|x| x * *factor);
                    let scaled_values: [f32; LANES] =
                        std::array::from_fn(|i| values[i] * weight[i]);
                    *unit = values.map(E::of);
                    *scaled = scaled_values.map(E::of);
                }
            }
        },
    );
}

/// The way back through [`norm`], added to `dx`: with g = grad ∘ weight, factor·(g - unit·mean(g
/// ∘ unit)).
pub(super) fn norm_back<E: Element, G: Element>(
    grad: &[G],
    unit: &[E],
    weight: &[f32],
    factors: &[f32],
    dx: &mut [f32],
) {
    let width = weight.len();
    isa::run(
        #[inline(always)]
        || {
            let weight = weight.as_chunks::<LANES>().0;
            let rows = grad.chunks_exact(width).zip(unit.chunks_exact(width));
            for (((grad, unit), dx), &factor) in rows.zip(dx.chunks_exact_mut(width)).zip(factors) {
                let (grad, unit) = (grad.as_chunks::<LANES>().0, unit.as_chunks::<LANES>().0);
                let mut sums = [0f32; LANES];
                for ((grad, unit), weight) in grad.iter().zip(unit).zip(weight) {
                    (0..LANES).for_each(|i| sums[i] += grad[i].get() * weight[i] * unit[i].get());
                }
                let mean = sum(sums) / width as f32;
                let dx = dx.as_chunks_mut::<LANES>().0.iter_mut();
                for (((grad, unit), weight), dx) in grad.iter().zip(unit).zip(weight).zip(dx) {
                    let change: [f32; LANES] = std::array::from_fn(|i| {
                        factor * (grad[i].get() * weight[i] - unit[i].get() * mean)
                    });
                    *dx = std::array::from_fn(|i| dx[i] + change[i]);
                }
            }
        },
    );
}

#[inline(always)]
fn sum(lanes: [f32; LANES]) -> f32 {
    let mut sums: [f32; 8] = std::array::from_fn(|i| lanes[i] + lanes[i + 8]);
    for half in [4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0]
}

/// u = max(u, 0) ∘ mask, and the bits of the elements that are left, eight to a byte.
pub(super) fn relu<E: Element>(
    u: &mut [E],
    width: usize,
    drop: Option<Drop<'_>>,
    active: &mut [u8],
) {
    isa::run(
        #[inline(always)]
        || {
            let rows = u.chunks_exact_mut(width).zip(active.chunks_exact_mut(width / 8));
            for (place, (u, active)) in rows.enumerate() {
                let u = u.as_chunks_mut::<8>().0;
                match drop {
                    None => {
                        for (u, active) in u.iter_mut().zip(active) {
                            *active = E::positive(u);
                            store(u, load(u).map(relu_of));
                        }
                    }
                    Some(Drop { law, bits }) => {
                        for ((u, active), &byte) in u.iter_mut().zip(active).zip(bits.run(place)) {
                            *active = E::positive(u) & byte;
                            let factors = law.factors()[usize::from(byte)];
                            store(u, times(load(u).map(relu_of), factors));
                        }
                    }
                }
            }
        },
    );
}

/// max(x, 0) that keeps NaN.
#[inline(always)]
fn relu_of(x: f32) -> f32 {
    if x <= 0.0 { 0.0 } else { x }
}

/// The way back through [`relu`].
pub(super) fn relu_back<E: Element>(grad: &mut [E], active: &[u8], law: &Law) {
    isa::run(
        #[inline(always)]
        || {
            for (grad, &byte) in grad.as_chunks_mut::<8>().0.iter_mut().zip(active) {
                store(grad, times(load(grad), law.factors()[usize::from(byte)]));
            }
        },
    );
}

/// √(2/π) and the cubic term of gelu's approximation by tanh.
const GELU: (f32, f32) = (0.797_884_6, 0.044_715);

#[inline(always)]
fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (isa::exp(2.0 * x) + 1.0)
}

/// out [n, width] = gelu(gate) ∘ value ∘ mask, for u [n, 2 width] with gate and value side by
/// side.
pub(super) fn gated<E: Element>(
    u: &[E],
    width: usize,
    drop: Option<Drop<'_>>,
    law: &Law,
    out: &mut [E],
) {
    isa::run(
        #[inline(always)]
        || {
            let rows = u.chunks_exact(2 * width).zip(out.chunks_exact_mut(width));
            for (place, (u, out)) in rows.enumerate() {
                let (gate, value) = u.split_at(width);
                let bits = drop.map(|drop| drop.bits.run(place));
                for (at, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    let factors = factors(law, bits, at);
                    for i in 0..8 {
                        let (g, v) = (gate[8 * at + i].get(), value[8 * at + i].get());
                        let t = tanh(GELU.0 * (g + GELU.1 * g * g * g));
                        out[i] = E::of(0.5 * g * (1.0 + t) * v * factors[i]);
                    }
                }
            }
        },
    );
}

/// The way back through [`gated`]: du [n, 2 width] of grad [n, width].
pub(super) fn gated_back<E: Element>(
    grad: &[E],
    u: &[E],
    width: usize,
    drop: Option<Drop<'_>>,
    law: &Law,
    du: &mut [E],
) {
    isa::run(
        #[inline(always)]
        || {
            let rows = grad.chunks_exact(width).zip(u.chunks_exact(2 * width));
            for (place, ((grad, u), du)) in rows.zip(du.chunks_exact_mut(2 * width)).enumerate() {
                let (gate, value) = u.split_at(width);
                let (dgate, dvalue) = du.split_at_mut(width);
                let bits = drop.map(|drop| drop.bits.run(place));
                for (at, grad) in grad.as_chunks::<8>().0.iter().enumerate() {
                    let factors = factors(law, bits, at);
                    for i in 0..8 {
                        let place = 8 * at + i;
                        let (g, v) = (gate[place].get(), value[place].get());
                        let dy = grad[i].get() * factors[i];
                        let t = tanh(GELU.0 * (g + GELU.1 * g * g * g));
                        let inner = GELU.0 * (1.0 + 3.0 * GELU.1 * g * g);
                        let slope = 0.5 * (1.0 + t) + 0.5 * g * (1.0 - t * t) * inner;
                        dgate[place] = E::of(dy * v * slope);
                        dvalue[place] = E::of(dy * 0.5 * g * (1.0 + t));
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn factors(law: &Law, bits: Option<&[u8]>, at: usize) -> [f32; 8] {
    match bits {
        Some(bits) => law.factors()[usize::from(bits[at])],
        None => [1.0; 8],
    }
}

/// One row of attention weights: softmax over the first `keys` of `scores` plus `bias`, 0 beyond.
/// `weights` are those before dropout, `kept` those after. `scratch` is as long as a row.
#[inline(always)]
pub(super) fn softmax<E: Element>(
    scores: &[E],
    bias: Option<&[f32]>,
    keys: usize,
    mask: Option<(&Law, &[u8])>,
    scratch: &mut [f32],
    weights: &mut [E],
    kept: &mut [E],
) {
    for (value, score) in scratch.iter_mut().zip(scores) {
        *value = score.get();
    }
    if let Some(bias) = bias {
        for (value, bias) in scratch.iter_mut().zip(bias) {
            *value += bias;
        }
    }
    scratch[keys..].fill(f32::NEG_INFINITY);
    let lanes = scratch.as_chunks_mut::<LANES>().0;
    let mut largest = [f32::NEG_INFINITY; LANES];
    for value in lanes.iter() {
        (0..LANES).for_each(|i| {
            largest[i] = if value[i] > largest[i] { value[i] } else { largest[i] };
        });
    }
    let largest = largest.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    for value in lanes.iter_mut() {
        (0..LANES).for_each(|i| value[i] = isa::exp(value[i] - largest));
    }
    scratch[keys..].fill(0.0);
    let lanes = scratch.as_chunks::<LANES>().0;
    let mut sums = [0f32; LANES];
    for value in lanes {
        (0..LANES).for_each(|i| sums[i] += value[i]);
    }
    let factor = 1.0 / sum(sums);
    let outs = weights.as_chunks_mut::<8>().0.iter_mut().zip(kept.as_chunks_mut::<8>().0);
    for (at, (value, (weight, kept))) in scratch.as_chunks::<8>().0.iter().zip(outs).enumerate() {
        match mask {
            None => {
                store(weight, value.map(|value| value * factor));
                *kept = *weight;
            }
            Some((law, bits)) => {
                // Beyond the keys there may be no bits, and there the weights are 0.
                let byte = bits.get(at).copied().unwrap_or(0);
                let factors = law.factors()[usize::from(byte)];
                let value = value.map(|value| value * factor);
                store(weight, value);
                store(kept, times(value, factors));
            }
        }
    }
}

/// The way back through [`softmax`]: the gradient of the scores, in place of that of the weights
/// after dropout; and once more the weights after dropout.
#[inline(always)]
pub(super) fn softmax_back<E: Element>(
    grad: &mut [E],
    weights: &[E],
    mask: Option<(&Law, &[u8])>,
    kept: &mut [E],
) {
    let mut sums = [0f32; 8];
    let weights = weights.as_chunks::<8>().0;
    let grad = grad.as_chunks_mut::<8>().0;
    let kept = kept.as_chunks_mut::<8>().0.iter_mut();
    for (at, ((grad, weight), kept)) in grad.iter_mut().zip(weights).zip(kept).enumerate() {
        let factors = match mask {
            None => [1.0; 8],
            Some((law, bits)) => law.factors()[usize::from(bits.get(at).copied().unwrap_or(0))],
        };
        let weight = load(weight);
        let g = times(load(grad), factors);
        sums = plus(sums, times(g, weight));
        store(kept, times(weight, factors));
        store(grad, g);
    }
    let dot = (sums[0] + sums[4]) + (sums[1] + sums[5]) + (sums[2] + sums[6]) + (sums[3] + sums[7]);
    for (grad, weight) in grad.iter_mut().zip(weights) {
        store(grad, times(load(weight), load(grad).map(|g| g - dot)).map(isa::flush));
    }
}

/// Cross-entropies of logits [n, vocabulary], and in `grads` their gradients times `factor`.
pub(super) fn cross_entropy<E: Element>(
    logits: &mut [f32],
    labels: &[usize],
    factor: f32,
    losses: &mut Vec<f32>,
    grads: &mut [E],
) {
    let vocabulary = logits.len() / labels.len().max(1);
    isa::run(
        #[inline(always)]
        || {
            let rows = logits.chunks_exact_mut(vocabulary).zip(grads.chunks_exact_mut(vocabulary));
            for ((row, grads), &label) in rows.zip(labels) {
                let own = row[label];
                let (lanes, rest) = row.as_chunks_mut::<LANES>();
                let mut largest = [f32::NEG_INFINITY; LANES];
                for value in lanes.iter() {
                    (0..LANES).for_each(|i| {
                        largest[i] = if value[i] > largest[i] { value[i] } else { largest[i] };
                    });
                }
                let all = largest.iter().chain(rest.iter());
                let largest = all.fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
                let mut sums = [0f32; LANES];
                for value in lanes.iter_mut() {
                    for i in 0..LANES {
                        value[i] = isa::exp(value[i] - largest);
                        sums[i] += value[i];
                    }
                }
                let mut total = sum(sums);
                for value in rest.iter_mut() {
                    *value = isa::exp(*value - largest);
                    total += *value;
                }
                losses.push(total.ln() + largest - own);
                let scale = factor / total;
                for (grad, value) in grads.iter_mut().zip(row.iter()) {
                    *grad = E::of(value * scale);
                }
                grads[label] = E::of(row[label] * scale - factor);
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processors compute with numbers below the smallest normal one many times slower.
    #[test]
    fn no_number_is_too_small_to_be_computed_fast() {
        let law = Law::new(0.1);
        let bits = [0b1011_0111u8; 8];
        let scores: [f32; 64] = std::array::from_fn(|i| -4.0 * i as f32);
        let (mut scratch, mut weights, mut kept) = ([0f32; 64], [0f32; 64], [0f32; 64]);
        let mask = Some((&law, &bits[..]));
        softmax(&scores, None, 60, mask, &mut scratch, &mut weights, &mut kept);
        assert!((weights.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let mut grad: [f32; 64] = std::array::from_fn(|i| if i % 2 == 0 { 1e-12 } else { -3e-9 });
        let mut again = [0f32; 64];
        softmax_back(&mut grad, &weights, mask, &mut again);
        assert!(grad[..8].iter().all(|&value| value != 0.0));
        let mut logits: Vec<f32> = (0..200).map(|i| -(i as f32)).collect();
        let mut grads = vec![0f32; 200];
        cross_entropy(&mut logits, &[150], 0.01, &mut Vec::new(), &mut grads);
        let all = [&weights[..], &kept, &grad, &again, &grads].concat();
        assert_eq!(all.iter().filter(|value| value.is_subnormal()).count(), 0);
    }
}
