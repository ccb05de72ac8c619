//! Where a token stands: learned embeddings that are added to the inputs, or rotations of
//! queries and keys.

use std::f64::consts::TAU;

use deptune_sweep::model::{LlamaConfig, RopeScaling};
use tch::{Device, Kind, TchError, Tensor};

/// How a decoder learns of positions.
pub(super) enum Positions {
    /// An embedding per position, [positions, d].
    Learned(Tensor),
    /// Rotations by position × frequency: the frequencies, [head size / 2].
    Rotary(Tensor),
}

/// The frequencies θ^(-2i/n) of head size n, stretched as the configuration says.
pub(super) fn frequencies(
    config: &LlamaConfig,
    kind: Kind,
    device: Device,
) -> Result<Tensor, TchError> {
    let size = f64::from(config.head_dim);
    let values: Vec<f64> = (0..config.head_dim / 2)
        .map(|i| stretch(config.rope_theta.powf(-2.0 * f64::from(i) / size), config.rope_scaling))
        .collect();
    Tensor::f_from_slice(&values)?.f_to_kind(kind)?.f_to_device(device)
}

fn stretch(frequency: f64, scaling: Option<RopeScaling>) -> f64 {
    match scaling {
        None => frequency,
        Some(RopeScaling::Linear { factor }) => frequency / factor,
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        }) => {
            // Turns over the original length decide: many are kept, few are stretched.
            let turns = f64::from(original_max_position_embeddings) * frequency / TAU;
            let kept = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
            let kept = kept.clamp(0.0, 1.0);
            (1.0 - kept) * frequency / factor + kept * frequency
        }
    }
}

/// Cosines and sines of the positions of one pass, [K or 1, B or 1, 1, T, head size].
pub(super) struct Rotation {
    cos: Tensor,
    sin: Tensor,
}

impl Rotation {
    /// For positions [K or 1, B or 1, T].
    pub(super) fn new(frequencies: &Tensor, positions: &Tensor) -> Result<Self, TchError> {
        let angles = positions
            .f_to_kind(frequencies.kind())?
            .f_unsqueeze(2)?
            .f_unsqueeze(-1)?
            .f_mul(frequencies)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        Ok(Self { cos: angles.f_cos()?, sin: angles.f_sin()? })
    }

    /// x [K, B, H, T, head size] turned: pair (i, i + n/2) by its angle.
    pub(super) fn apply(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let halves = x.f_chunk(2, -1)?;
        let [first, second] = halves.as_slice() else {
            return Err(TchError::Shape("halves of a head".to_owned()));
        };
        let turned = Tensor::f_cat(&[&second.f_neg()?, first], -1)?;
        x.f_mul(&self.cos)?.f_add(&turned.f_mul(&self.sin)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama3_keeps_high_frequencies_and_stretches_low_ones() {
        let scaling = Some(RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        });
        assert_eq!(stretch(1.0, scaling), 1.0);
        assert_eq!(stretch(1e-6, scaling), 1e-6 / 8.0);
        // 2.5 turns over the original length: half-way between 1 and 4.
        let middle = 2.5 * TAU / 8192.0;
        let expected = middle * (0.5 / 8.0 + 0.5);
        assert!((stretch(middle, scaling) - expected).abs() < 1e-15);
    }

    #[test]
    fn rotations_depend_on_distances_alone() {
        let options = (Kind::Double, Device::Cpu);
        let frequencies = Tensor::from_slice(&[1.0, 0.1]);
        let (query, key) =
            (Tensor::rand([1, 1, 1, 1, 4], options), Tensor::rand([1, 1, 1, 1, 4], options));
        let score = |at: i64, other: i64| {
            let turn = |x: &Tensor, position: i64| {
                let position = Tensor::from_slice(&[position]).view([1, 1, 1]);
                Rotation::new(&frequencies, &position).unwrap().apply(x).unwrap()
            };
            (turn(&query, at) * turn(&key, other)).sum(Kind::Double).double_value(&[])
        };
        assert!((score(7, 3) - score(24, 20)).abs() < 1e-12);
        assert!((score(7, 3) - score(7, 4)).abs() > 1e-6);
    }
}
