//! Start values: text initialisation of P, uniform A, zero B.

use tch::{TchError, Tensor};

use super::{Adapter, LowRank, Method};

/// DePT's `lora_alpha`, which the reference never changes.
const ALPHA: f64 = 8.0;
/// Separates these random numbers from every other use of a seed.
const CONTEXT: &str = "deptune-trainer 2026-11 start value of lowrank A";

/// Factor on A B: 8/√r, and 0 for rank 0.
pub fn scaling(rank: usize) -> f64 {
    if rank == 0 { 0.0 } else { ALPHA / (rank as f64).sqrt() }
}

/// Start values on the CPU: P holds the rows of `init` (embeddings of the start text, [n, d],
/// n ≥ 1) repeated to m rows; A [s, r] is uniform in ±1/√r and depends only on the seed and its
/// shape; B is 0.
///
/// # Errors
/// What libtorch says when memory is short.
pub fn initial(
    method: Method,
    max_length: usize,
    init: &Tensor,
    seed: u64,
) -> Result<Adapter, TchError> {
    let (rows, d_model) = init.size2()?;
    let index: Vec<i64> = (0..rows).cycle().take(method.prompt_length()).collect();
    let index = Tensor::f_from_slice(&index)?.f_to_device(init.device())?;
    let prompt = init.f_index_select(0, &index)?;
    let rank = method.rank();
    if rank == 0 {
        return Ok(Adapter { prompt, lowrank: None });
    }
    let bound = 1.0 / (rank as f64).sqrt();
    let values: Vec<f64> =
        uniform(seed, max_length * rank).into_iter().map(|value| bound * value).collect();
    let a = Tensor::f_from_slice(&values)?
        .f_view([max_length as i64, rank as i64])?
        .f_to_kind(init.kind())?
        .f_to_device(init.device())?;
    let b = Tensor::f_zeros([rank as i64, d_model], (init.kind(), init.device()))?;
    Ok(Adapter { prompt, lowrank: Some(LowRank { a, b }) })
}

/// Uniform numbers in [-1, 1), 32 bits each, from BLAKE3's output stream keyed by the seed.
fn uniform(seed: u64, count: usize) -> Vec<f64> {
    let mut bytes = vec![0u8; count * 4];
    blake3::Hasher::new_derive_key(CONTEXT)
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|&word| f64::from(u32::from_le_bytes(word)) / f64::from(1u32 << 31) - 1.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::*;

    #[test]
    fn start_values_follow_the_reference() {
        let init = Tensor::arange(6, (Kind::Float, tch::Device::Cpu)).view([3, 2]);
        let method = Method::Dept { prompt_length: 5, rank: 4 };
        let adapter = initial(method, 100, &init, 42).unwrap();
        let rows = Tensor::from_slice(&[0f32, 1., 2., 3., 4., 5., 0., 1., 2., 3.]).view([5, 2]);
        assert!(adapter.prompt.equal(&rows));
        let LowRank { a, b } = adapter.lowrank.unwrap();
        assert_eq!(b.abs().sum(Kind::Float).double_value(&[]), 0.0);
        let largest = a.abs().max().double_value(&[]);
        assert!(largest <= 0.5 && largest > 0.48, "{largest}");
        assert!(a.mean(Kind::Float).abs().double_value(&[]) < 0.05);
        let again = initial(method, 100, &init, 42).unwrap().lowrank.unwrap().a;
        let other = initial(method, 100, &init, 43).unwrap().lowrank.unwrap().a;
        assert!(a.equal(&again) && !a.equal(&other));
    }

    #[test]
    fn scaling_is_eight_over_root_r() {
        assert_eq!(scaling(0), 0.0);
        assert_eq!(scaling(4), 4.0);
        assert!((scaling(45) - 1.192_569_588).abs() < 1e-8);
    }
}
