//! Which rows each update trains on: a keyed permutation per epoch, so that the sampler's whole
//! state is the number of updates made.

use std::ops::Range;

/// Separates these random numbers from every other use of a seed.
const CONTEXT: &str = "deptune-trainer 2026-11 order of training rows";

/// The order of `rows` rows in micro-batches of `batch_size`, the last of an epoch smaller.
#[derive(Debug)]
pub struct Order {
    seed: u64,
    rows: usize,
    batch_size: usize,
    accumulation: usize,
    /// The permutation that was used last, and its epoch.
    cached: Option<(u64, Vec<u32>)>,
}

impl Order {
    /// An order for training data that are not empty.
    #[must_use]
    pub fn new(seed: u64, rows: usize, batch_size: usize, accumulation: usize) -> Order {
        Order { seed, rows, batch_size: batch_size.max(1), accumulation, cached: None }
    }

    /// Row numbers of the micro-batches of update `step`, from 1.
    pub fn micro_batches(&mut self, step: u64) -> Vec<Vec<u32>> {
        let first = step.saturating_sub(1) * self.accumulation as u64;
        (first..first + self.accumulation as u64).map(|n| self.micro_batch(n)).collect()
    }

    fn micro_batch(&mut self, number: u64) -> Vec<u32> {
        let per_epoch = self.rows.div_ceil(self.batch_size).max(1) as u64;
        let (epoch, place) = (number / per_epoch, (number % per_epoch) as usize);
        let start = place * self.batch_size;
        let rows: Range<usize> = start..(start + self.batch_size).min(self.rows);
        self.permutation(epoch).get(rows).unwrap_or_default().to_vec()
    }

    fn permutation(&mut self, epoch: u64) -> &[u32] {
        if self.cached.as_ref().is_none_or(|(held, _)| *held != epoch) {
            self.cached = Some((epoch, permutation(self.seed, epoch, self.rows)));
        }
        self.cached.as_ref().map_or(&[], |(_, rows)| rows)
    }
}

/// Fisher-Yates over BLAKE3's output stream keyed by (seed, epoch). A 64-bit draw is scaled to its
/// range by multiplication: the bias is below 2⁻³² for any number of rows.
fn permutation(seed: u64, epoch: u64, rows: usize) -> Vec<u32> {
    let mut stream = blake3::Hasher::new_derive_key(CONTEXT)
        .update(&seed.to_le_bytes())
        .update(&epoch.to_le_bytes())
        .finalize_xof();
    let mut order: Vec<u32> = (0..rows as u32).collect();
    let mut draw = [0u8; 8];
    for last in (1..rows).rev() {
        stream.fill(&mut draw);
        let scaled = u128::from(u64::from_le_bytes(draw)) * (last as u128 + 1);
        order.swap(last, (scaled >> 64) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_every_row_once_in_its_own_order() {
        let mut order = Order::new(7, 10, 4, 1);
        let epoch = |order: &mut Order, from| {
            (from..from + 3).flat_map(|s| order.micro_batches(s)).collect()
        };
        let first: Vec<Vec<u32>> = epoch(&mut order, 1);
        let second: Vec<Vec<u32>> = epoch(&mut order, 4);
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_ne!(first, second);
        for epoch in [first, second] {
            let mut rows = epoch.concat();
            rows.sort_unstable();
            assert_eq!(rows, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_update_depends_only_on_seed_and_step() {
        let mut straight = Order::new(1, 100, 8, 2);
        let all: Vec<_> = (1..=30).map(|step| straight.micro_batches(step)).collect();
        let mut resumed = Order::new(1, 100, 8, 2);
        assert_eq!(resumed.micro_batches(30), all[29]);
        assert_eq!(Order::new(2, 100, 8, 2).micro_batches(1).len(), 2);
        assert_ne!(Order::new(2, 100, 8, 2).micro_batches(1), all[0]);
    }
}
