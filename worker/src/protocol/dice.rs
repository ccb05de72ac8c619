//! Reproducible randomness: request ids and jitter.

use deptune_sweep::id::RequestId;

/// A counter-based generator (splitmix64 over the seed and a counter): the same seed gives the
/// same agent.
#[derive(Debug, Clone)]
pub(super) struct Dice {
    seed: [u64; 2],
    count: u64,
}

impl Dice {
    pub(super) fn new(seed: [u64; 2]) -> Dice {
        Dice { seed, count: 0 }
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        self.count += 1;
        let mut bytes = [0; 16];
        for (half, seed) in bytes.chunks_exact_mut(8).zip(self.seed) {
            half.copy_from_slice(&mix(seed ^ mix(self.count)).to_be_bytes());
        }
        RequestId(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// A number in `half..=whole` of `span`, so that agents cut off together do not come back
    /// together.
    pub(super) fn jitter(&mut self, span: u64) -> u64 {
        self.count += 1;
        let half = span / 2;
        half + mix(self.seed[0] ^ mix(self.count)) % (span - half + 1)
    }
}

fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
