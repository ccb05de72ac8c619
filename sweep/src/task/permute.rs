//! A permutation that is the same everywhere: the one that PyTorch's CPU generator gives.

/// The permutation of `0..n` that `torch.randperm(n)` gives after `torch.manual_seed(seed)`:
/// element `i` of the result is the index that comes `i`-th.
///
/// Swaps element `i` with one of the `n - i` from there on, chosen by the next output of
/// MT19937 modulo `n - i` (slightly biased for large `n`, like the original). Seeds and lengths
/// are 32 bits wide there too.
#[must_use]
pub fn permutation(n: u32, seed: u32) -> Vec<u32> {
    let mut generator = MersenneTwister::new(seed);
    let mut order: Vec<u32> = (0..n).collect();
    let mut rest: &mut [u32] = &mut order;
    while rest.len() > 1 {
        let choice = generator.next() as usize % rest.len();
        rest.swap(0, choice);
        rest = rest.get_mut(1..).unwrap_or_default();
    }
    order
}

const WORDS: usize = 624;
const SHIFT: usize = 397;

/// MT19937 (Matsumoto and Nishimura 1998), 32 bits.
struct MersenneTwister {
    state: [u32; WORDS],
    used: usize,
}

impl MersenneTwister {
    fn new(seed: u32) -> Self {
        let mut state = [seed; WORDS];
        let mut last = seed;
        for (word, index) in state.iter_mut().zip(0u32..).skip(1) {
            last = (last ^ (last >> 30)).wrapping_mul(1_812_433_253).wrapping_add(index);
            *word = last;
        }
        Self { state, used: WORDS }
    }

    fn next(&mut self) -> u32 {
        if self.used == WORDS {
            self.refill();
            self.used = 0;
        }
        let mut word = self.state[self.used];
        self.used += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn refill(&mut self) {
        for i in 0..WORDS {
            let joined =
                (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % WORDS] & 0x7fff_ffff);
            let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + SHIFT) % WORDS] ^ (joined >> 1) ^ twist;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_outputs() {
        // First outputs of MT19937 for the seed 5489, the published default.
        let mut generator = MersenneTwister::new(5489);
        assert_eq!([generator.next(), generator.next()], [3_499_211_612, 581_869_302]);
        assert_eq!(permutation(56, 42)[..6], [22, 8, 36, 39, 34, 28]);
    }

    proptest! {
        #[test]
        fn every_index_comes_once(n in 0u32..2000, seed in any::<u32>()) {
            let mut order = permutation(n, seed);
            order.sort_unstable();
            prop_assert_eq!(order, (0..n).collect::<Vec<_>>());
        }
    }
}
