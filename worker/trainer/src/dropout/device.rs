//! Masks made where they are used, by tensor operations: the bits of [`super::law`] and
//! [`super::random`], so that a GPU waits neither for the processor to draw them nor for their way
//! over the bus.

use tch::{Device, Kind, TchError, Tensor};

use super::law::Law;
use super::random::{MULTIPLIERS, WEYL};
use super::{Axis, Masks, PROMPT, Place, mix};
use crate::cuda;

/// [`Masks::hidden`] on any device.
pub(super) fn hidden(
    masks: &Masks<'_>,
    law: &Law,
    place: Place,
    axis: Axis,
    channels: usize,
) -> Result<Tensor, TchError> {
    let mut keys = Vec::with_capacity(masks.seeds.len() * masks.rows.len() * axis.len());
    for (seed, row) in masks.rows_of_seeds() {
        let key = place.key(seed, row);
        keys.extend((0..axis.len()).map(|position| mix(key, axis.counter(position))));
    }
    let kept = kept(&keys, law, channels, masks.device)?;
    let sizes = [masks.seeds.len(), masks.rows.len(), axis.len(), channels];
    factors(&kept, law, masks.kind)?.f_view(sizes.map(|size| size as i64))
}

/// [`Masks::weights`] on any device, for queries and keys.
pub(super) fn weights(
    masks: &Masks<'_>,
    law: &Law,
    place: Place,
    heads: usize,
    [queries, keys]: [Axis; 2],
) -> Result<Tensor, TchError> {
    let runs = masks.seeds.len() * masks.rows.len() * heads * queries.len();
    let mut of_text = Vec::with_capacity(runs);
    for (seed, row) in masks.rows_of_seeds() {
        let key = place.key(seed, row);
        for key in (0..heads).map(|head| mix(key, head as u64)) {
            of_text.extend((0..queries.len()).map(|query| mix(key, queries.counter(query))));
        }
    }
    let mut all = kept(&of_text, law, keys.text, masks.device)?;
    if keys.prompt > 0 {
        let of_prompt: Vec<u64> = of_text.iter().map(|&key| mix(key, PROMPT)).collect();
        let prompt = kept(&of_prompt, law, keys.prompt, masks.device)?;
        // Prompts are counted backwards.
        all = Tensor::f_cat(&[prompt.f_flip([1])?, all], 1)?;
    }
    let sizes = [masks.seeds.len(), masks.rows.len(), heads, queries.len(), keys.len()];
    factors(&all, law, masks.kind)?.f_view(sizes.map(|size| size as i64))
}

/// Which of the `lanes` elements of every key are kept, [keys, lanes].
fn kept(keys: &[u64], law: &Law, lanes: usize, device: Device) -> Result<Tensor, TchError> {
    let words = lanes.div_ceil(2) as i64;
    let [low, high] = [0, 32].map(|shift| halves(keys.iter().map(|key| key >> shift), device));
    let counters = Tensor::f_arange(words, (Kind::Int, device))?.f_mul_scalar(scalar(WEYL))?;
    // Numbers of 32 bits wrap around; shifts to the right bring copies of the sign along.
    let mut x = counters.f_unsqueeze(0)?.f_add(&low?.f_unsqueeze(1)?)?;
    x = xor_shifted(x, 16)?.f_mul_scalar_(scalar(MULTIPLIERS[0]))?;
    x = xor_shifted(x.f_bitwise_xor_tensor_(&high?.f_unsqueeze(1)?)?, 15)?;
    x = xor_shifted(x.f_mul_scalar_(scalar(MULTIPLIERS[1]))?, 15)?;
    // Lanes are compared with their signs, and so with their highest bits turned over.
    let turned = x.f_bitwise_xor_(scalar(0x8000_8000))?.f_view_dtype(Kind::Int16)?;
    let threshold = i64::from(law.threshold) - (1 << 15);
    turned.f_narrow(1, 0, lanes as i64)?.f_ge(threshold)
}

/// x ^ (x >> bits), without sign.
fn xor_shifted(mut x: Tensor, bits: u32) -> Result<Tensor, TchError> {
    let shifted = x.f_bitwise_right_shift_tensor_scalar(i64::from(bits))?;
    let shifted = shifted.f_bitwise_and(scalar(u32::MAX >> bits))?;
    x.f_bitwise_xor_tensor_(&shifted)
}

/// A number of 32 bits as libtorch takes it.
fn scalar(value: u32) -> i64 {
    i64::from(value.cast_signed())
}

/// The low halves of some numbers.
fn halves(values: impl Iterator<Item = u64>, device: Device) -> Result<Tensor, TchError> {
    let values: Vec<i32> = values.map(|value| (value as u32).cast_signed()).collect();
    cuda::upload(Tensor::f_from_slice(&values)?, device)
}

/// 0 or 1/(1-rate).
fn factors(kept: &Tensor, law: &Law, kind: Kind) -> Result<Tensor, TchError> {
    let keep = law.factors()[usize::from(u8::MAX)][0];
    kept.f_to_kind(kind)?.f_mul_scalar(f64::from(keep))
}

#[cfg(test)]
mod tests {
    use super::super::{Site, Stack};
    use super::*;

    #[test]
    fn a_device_makes_the_masks_of_the_processor() {
        let (seeds, rows) = ([3, 1 << 62], [0, 7, 2]);
        for (step, rate, kind) in [(1, 0.1, Kind::Float), (900, 0.57, Kind::Double)] {
            let device = Device::Cpu;
            let masks =
                Masks { seeds: &seeds, step, rows: &rows, rate, kind, device, kernel: false };
            let law = Law::new(rate);
            let of = |site, layer| Place { step, stack: Stack::Encoder, site, layer };
            for (prompt, text) in [(0, 1), (3, 9), (70, 131)] {
                let axis = Axis { prompt, text };
                let site = Site::FeedForwardInner;
                let here = masks.hidden(Stack::Encoder, site, 5, axis, 72).unwrap();
                let there = hidden(&masks, &law, of(site, 5), axis, 72).unwrap();
                assert!(here.equal(&there), "hidden {axis:?}");
                let site = Site::SelfWeights;
                let queries = Axis { prompt: 0, text: 4 };
                for queries in [axis, queries] {
                    let here = masks.weights(Stack::Encoder, site, 2, 3, queries, axis).unwrap();
                    let there = weights(&masks, &law, of(site, 2), 3, [queries, axis]).unwrap();
                    assert!(here.equal(&there), "weights {queries:?} {axis:?}");
                }
            }
        }
    }
}
