//! T5's relative position buckets: the first half of a direction's buckets hold exact distances,
//! the second half grow logarithmically up to the largest distance.

use tch::{TchError, Tensor};

use crate::cuda::upload;

/// How relative positions map to rows of a bias table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buckets {
    pub(crate) count: usize,
    pub(crate) max_distance: usize,
    /// The encoder looks both ways and gives each direction half of the buckets.
    pub(crate) bidirectional: bool,
}

impl Buckets {
    /// The bucket of a key at `key - query = offset`.
    pub(crate) fn bucket(&self, offset: i64) -> i64 {
        let mut count = self.count as i64;
        let (base, distance) = if self.bidirectional {
            count /= 2;
            (if offset > 0 { count } else { 0 }, offset.abs())
        } else {
            (0, (-offset).max(0))
        };
        let exact = count / 2;
        if distance < exact {
            return base + distance;
        }
        // In f32 like the reference: the truncation below depends on it.
        let ratio = (distance as f32 / exact as f32).ln();
        let range = (self.max_distance as f64 / exact as f64).ln() as f32;
        let far = exact + (ratio / range * (count - exact) as f32) as i64;
        base + far.min(count - 1)
    }

    /// Bias [1, 1, H, queries, keys] from a table [buckets, H], for queries that start at
    /// position `first`.
    pub(crate) fn bias(
        &self,
        table: &Tensor,
        first: usize,
        queries: usize,
        keys: usize,
    ) -> Result<Tensor, TchError> {
        let (first, last) = (first as i64, (first + queries) as i64);
        // One bucket per offset, shared by all pairs that have it.
        let lowest = 1 - last;
        let offsets: Vec<i64> =
            (lowest..keys as i64 - first).map(|offset| self.bucket(offset)).collect();
        let index: Vec<i64> = (first..last)
            .flat_map(|query| (0..keys as i64).map(move |key| (key - query - lowest) as usize))
            .map(|place| offsets.get(place).copied().unwrap_or(0))
            .collect();
        let index = upload(Tensor::f_from_slice(&index)?, table.device())?;
        table
            .f_index_select(0, &index)?
            .f_view([1, queries as i64, keys as i64, -1])?
            .f_permute([0, 3, 1, 2])?
            .f_unsqueeze(0)?
            .f_contiguous()
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    /// Distances at which a bucket begins, for 32 buckets and distance 128.
    #[test]
    fn encoder_buckets_have_the_known_edges() {
        let buckets = Buckets { count: 32, max_distance: 128, bidirectional: true };
        let edges = [(8, 8), (12, 9), (16, 10), (23, 11), (32, 12), (46, 13), (64, 14), (91, 15)];
        for (distance, bucket) in edges {
            assert_eq!(buckets.bucket(-distance), bucket, "{distance} back");
            assert_eq!(buckets.bucket(1 - distance), bucket - 1, "{} back", distance - 1);
            assert_eq!(buckets.bucket(distance), 16 + bucket, "{distance} ahead");
        }
        assert_eq!(buckets.bucket(0), 0);
        assert_eq!(buckets.bucket(1), 17);
        assert_eq!(buckets.bucket(-100_000), 15);
    }

    #[test]
    fn decoder_buckets_ignore_the_future() {
        let buckets = Buckets { count: 32, max_distance: 128, bidirectional: false };
        assert_eq!(buckets.bucket(5), 0);
        for (distance, bucket) in [(15, 15), (16, 16), (18, 16), (19, 17), (64, 26), (128, 31)] {
            assert_eq!(buckets.bucket(-distance), bucket, "{distance}");
        }
    }

    #[test]
    fn bias_of_a_late_query_is_a_row_of_the_whole() {
        let buckets = Buckets { count: 8, max_distance: 16, bidirectional: false };
        let table = Tensor::rand([8, 2], (tch::Kind::Float, Device::Cpu));
        let whole = buckets.bias(&table, 0, 6, 6).unwrap();
        let late = buckets.bias(&table, 4, 1, 5).unwrap();
        assert_eq!(whole.size(), [1, 1, 2, 6, 6]);
        assert!(whole.narrow(3, 4, 1).narrow(4, 0, 5).equal(&late));
    }
}
