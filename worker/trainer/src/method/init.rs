//! Start values: P by text, from the vocabulary or at random; uniform A, zero B.

pub use deptune_sweep::spec::PromptInit;
use tch::{TchError, Tensor};

use super::lora::Module;
use super::{Adapter, LowRank, Method};

/// DePT's `lora_alpha`, which the reference never changes.
const ALPHA: f64 = 8.0;
/// These separate the random numbers of every use of a seed.
const LOWRANK: &str = "deptune-trainer 2026-11 start value of lowrank A";
const PROMPT: &str = "deptune-trainer 2026-11 start value of a random prompt";
const VOCABULARY: &str = "deptune-trainer 2026-11 rows of the vocabulary for a prompt";
const LORA: &str = "deptune-trainer 2026-11 start value of LoRA's A";

/// Factor on A B: 8/√r, and 0 for rank 0.
pub fn scaling(rank: usize) -> f64 {
    if rank == 0 { 0.0 } else { ALPHA / (rank as f64).sqrt() }
}

/// Start values of a prompt and a low-rank pair. `rows` [n, d], n ≥ 1, are the embeddings that P
/// repeats to m rows; without them every element of P is drawn from N(0, 1). A [s, r] is uniform
/// in ±1/√r (Kaiming's rule with a = √5 and fan-in r) and B is 0. What is drawn depends only on
/// the seed and the shape.
///
/// # Errors
/// What libtorch says when memory is short.
pub fn initial(
    method: Method,
    max_length: usize,
    rows: Option<&Tensor>,
    seed: u64,
    like: &Tensor,
) -> Result<Adapter, TchError> {
    let d_model = like.size2()?.1;
    let m = method.prompt_length();
    let prompt = match rows {
        _ if m == 0 => None,
        Some(rows) => {
            let index: Vec<i64> = (0..rows.size2()?.0).cycle().take(m).collect();
            let index = Tensor::f_from_slice(&index)?.f_to_device(rows.device())?;
            Some(rows.f_index_select(0, &index)?)
        }
        None => {
            let values = normal(&mut stream(PROMPT, seed, ""), m * d_model as usize);
            Some(tensor(&values, &[m as i64, d_model], like)?)
        }
    };
    let rank = method.rank();
    if rank == 0 {
        return Ok(Adapter::dept(prompt, None));
    }
    let values =
        uniform(&mut stream(LOWRANK, seed, ""), max_length * rank, 1.0 / (rank as f64).sqrt());
    let a = tensor(&values, &[max_length as i64, rank as i64], like)?;
    let b = Tensor::f_zeros([rank as i64, d_model], (like.kind(), like.device()))?;
    Ok(Adapter::dept(prompt, Some(LowRank { a, b })))
}

/// Start values of LoRA's pairs: A [r, inputs] uniform in ±1/√inputs (Kaiming's rule with a = √5
/// and fan-in `inputs`), drawn by seed and module, and B [outputs, r] = 0.
pub(crate) fn lora_start(
    rank: usize,
    modules: &[Module],
    seed: u64,
    like: &Tensor,
) -> Result<Adapter, TchError> {
    let mut tensors = Vec::new();
    for module in modules {
        let Module { name, inputs, outputs } = module;
        let bound = 1.0 / (*inputs as f64).sqrt();
        let values = uniform(&mut stream(LORA, seed, name), rank * *inputs as usize, bound);
        let a = tensor(&values, &[rank as i64, *inputs], like)?;
        let b = Tensor::f_zeros([*outputs, rank as i64], (like.kind(), like.device()))?;
        tensors.extend([(module.a_key(), a), (module.b_key(), b)]);
    }
    Ok(Adapter::new(tensors))
}

/// `count` different token ids below `vocabulary`; repeated in order when there are fewer.
pub(crate) fn vocabulary_rows(seed: u64, count: usize, vocabulary: usize) -> Vec<i64> {
    let mut stream = stream(VOCABULARY, seed, "");
    let mut ids: Vec<i64> = (0..vocabulary as i64).collect();
    let drawn = count.min(vocabulary);
    let mut draw = [0u8; 8];
    for place in 0..drawn {
        stream.fill(&mut draw);
        // Scaled by multiplication: the bias is below 2⁻³² for any vocabulary.
        let scaled = u128::from(u64::from_le_bytes(draw)) * (vocabulary - place) as u128;
        ids.swap(place, place + (scaled >> 64) as usize);
    }
    ids.truncate(drawn);
    ids.into_iter().cycle().take(count).collect()
}

/// BLAKE3's output stream keyed by what the numbers are for, the seed and a name.
fn stream(context: &str, seed: u64, name: &str) -> blake3::OutputReader {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    hasher.update(&seed.to_le_bytes()).update(name.as_bytes());
    hasher.finalize_xof()
}

fn words(stream: &mut blake3::OutputReader, count: usize) -> Vec<u32> {
    let mut bytes = vec![0u8; count * 4];
    stream.fill(&mut bytes);
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().map(|&word| u32::from_le_bytes(word)).collect()
}

/// Uniform numbers in [-bound, bound), 32 bits each.
fn uniform(stream: &mut blake3::OutputReader, count: usize, bound: f64) -> Vec<f64> {
    let words = words(stream, count).into_iter();
    words.map(|word| bound * (f64::from(word) / f64::from(1u32 << 31) - 1.0)).collect()
}

/// Standard normal numbers by the Box-Muller transform, two from every two words.
fn normal(stream: &mut blake3::OutputReader, count: usize) -> Vec<f64> {
    let words = words(stream, count.next_multiple_of(2));
    let (pairs, _) = words.as_chunks::<2>();
    let two = |&[one, other]: &[u32; 2]| {
        // In (0, 1]: the logarithm is finite.
        let radius = (-2.0 * ((f64::from(one) + 1.0) / f64::from(u32::MAX)).min(1.0).ln()).sqrt();
        let angle = std::f64::consts::TAU * f64::from(other) / 2f64.powi(32);
        [radius * angle.cos(), radius * angle.sin()]
    };
    pairs.iter().flat_map(two).take(count).collect()
}

fn tensor(values: &[f64], shape: &[i64], like: &Tensor) -> Result<Tensor, TchError> {
    Tensor::f_from_slice(values)?.f_view(shape)?.f_to_kind(like.kind())?.f_to_device(like.device())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn like(d: i64) -> Tensor {
        Tensor::zeros([1, d], (Kind::Float, Device::Cpu))
    }

    #[test]
    fn start_values_follow_the_reference() {
        let init = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([3, 2]);
        let method = Method::Dept { prompt_length: 5, rank: 4 };
        let start = |seed| initial(method, 100, Some(&init), seed, &init).unwrap();
        let adapter = start(42);
        let rows = Tensor::from_slice(&[0f32, 1., 2., 3., 4., 5., 0., 1., 2., 3.]).view([5, 2]);
        assert!(adapter.prompt().unwrap().equal(&rows));
        let LowRank { a, b } = adapter.lowrank().unwrap();
        assert_eq!(b.abs().sum(Kind::Float).double_value(&[]), 0.0);
        let largest = a.abs().max().double_value(&[]);
        assert!(largest <= 0.5 && largest > 0.48, "{largest}");
        assert!(a.mean(Kind::Float).abs().double_value(&[]) < 0.05);
        let (again, other) = (start(42).lowrank().unwrap().a, start(43).lowrank().unwrap().a);
        assert!(a.equal(&again) && !a.equal(&other));
    }

    #[test]
    fn scaling_is_eight_over_root_r() {
        assert_eq!(scaling(0), 0.0);
        assert_eq!(scaling(4), 4.0);
        assert!((scaling(45) - 1.192_569_588).abs() < 1e-8);
    }

    #[test]
    fn a_random_prompt_is_standard_normal() {
        let method = Method::PromptTuning { prompt_length: 101 };
        let start = |seed| initial(method, 8, None, seed, &like(99)).unwrap();
        let adapter = start(1);
        let prompt = adapter.prompt().unwrap();
        assert_eq!(prompt.size(), [101, 99]);
        let (mean, std) = (prompt.mean(Kind::Float), prompt.std(true));
        assert!(mean.abs().double_value(&[]) < 0.03, "{mean:?}");
        assert!((std.double_value(&[]) - 1.0).abs() < 0.03, "{std:?}");
        let far = prompt.abs().gt(1.959_964).to_kind(Kind::Float).mean(Kind::Float);
        assert!((far.double_value(&[]) - 0.05).abs() < 0.01, "{far:?}");
        assert!(prompt.equal(start(1).prompt().unwrap()));
        assert!(!prompt.equal(start(2).prompt().unwrap()));
    }

    #[test]
    fn drawn_tokens_differ_from_each_other() {
        let mut ids = vocabulary_rows(7, 50, 60);
        assert_ne!(ids, vocabulary_rows(8, 50, 60));
        assert_eq!(ids, vocabulary_rows(7, 50, 60));
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 50 && ids.iter().all(|id| (0..60).contains(id)));
        assert_eq!(vocabulary_rows(7, 5, 2).len(), 5);
    }

    #[test]
    fn the_pairs_of_two_modules_are_drawn_apart() {
        let module = |name: &str| Module { name: name.to_owned(), inputs: 16, outputs: 4 };
        let start = lora_start(3, &[module("q"), module("v")], 42, &like(16)).unwrap();
        let tensors: Vec<_> = start.named().collect();
        assert_eq!(tensors[0].0, "base_model.model.q.lora_A.weight");
        assert_eq!((tensors[0].1.size(), tensors[1].1.size()), (vec![3, 16], vec![4, 3]));
        assert!(!tensors[0].1.equal(tensors[2].1));
        let largest = tensors[0].1.abs().max().double_value(&[]);
        assert!(largest <= 0.25 && largest > 0.2, "{largest}");
        assert_eq!(tensors[1].1.abs().max().double_value(&[]), 0.0);
    }
}
