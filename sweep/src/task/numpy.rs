//! The permutation that NumPy's default generator gives: PCG64 seeded through a seed sequence.

/// The permutation of `0..n` that `numpy.random.default_rng(seed).permutation(n)` gives: element
/// `i` of the result is the index that comes `i`-th.
#[must_use]
pub(super) fn permutation(n: u32, seed: u64) -> Vec<u32> {
    let mut generator = Pcg64::new(seed);
    let mut order: Vec<u32> = (0..n).collect();
    for last in (1..order.len()).rev() {
        // Every index fits: it is below n.
        #[allow(clippy::cast_possible_truncation)]
        let choice = generator.below_or_equal(last as u32) as usize;
        order.swap(last, choice);
    }
    order
}

/// PCG XSL RR 128/64 (O'Neill 2014), whose 64 bits are also handed out in two halves, the lower
/// first.
struct Pcg64 {
    state: u128,
    increment: u128,
    half: Option<u32>,
}

const MULTIPLIER: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;

impl Pcg64 {
    fn new(seed: u64) -> Self {
        let [a, b, c, d] = seed_words(seed);
        let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let mut generator = Self { state: 0, increment: join(c, d) << 1 | 1, half: None };
        generator.advance();
        generator.state = generator.state.wrapping_add(join(a, b));
        generator.advance();
        generator
    }

    fn advance(&mut self) {
        self.state = self.state.wrapping_mul(MULTIPLIER).wrapping_add(self.increment);
    }

    #[allow(clippy::cast_possible_truncation)] // halves are meant
    fn next_u32(&mut self) -> u32 {
        if let Some(half) = self.half.take() {
            return half;
        }
        self.advance();
        let folded = (self.state >> 64) as u64 ^ self.state as u64;
        let word = folded.rotate_right((self.state >> 122) as u32);
        self.half = Some((word >> 32) as u32);
        word as u32
    }

    /// A number from 0 to `largest`: as many bits as it has, drawn until they are not above it.
    fn below_or_equal(&mut self, largest: u32) -> u32 {
        let mask = u32::MAX.checked_shr(largest.leading_zeros()).unwrap_or(0);
        loop {
            let value = self.next_u32() & mask;
            if value <= largest {
                return value;
            }
        }
    }
}

/// NumPy's seed sequence: the seed's 32-bit words hashed into a pool of four, and eight words out
/// of it, as four of 64 bits.
#[allow(clippy::cast_possible_truncation)] // the words of the seed
fn seed_words(seed: u64) -> [u64; 4] {
    let entropy = [seed as u32, (seed >> 32) as u32, 0, 0];
    let mut constant: u32 = 0x43b0_d7e5;
    let mut hash = |value: u32| {
        let value = value ^ constant;
        constant = constant.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    };
    let mix = |x: u32, y: u32| {
        let value = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        value ^ value >> 16
    };
    let mut pool = entropy.map(&mut hash);
    for from in 0..pool.len() {
        for to in 0..pool.len() {
            if from != to {
                pool[to] = mix(pool[to], hash(pool[from]));
            }
        }
    }
    let mut constant: u32 = 0x8b51_f9dd;
    let mut word = |index: usize| {
        let value = pool[index % pool.len()] ^ constant;
        constant = constant.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(constant);
        value ^ value >> 16
    };
    let mut pair = |index: usize| u64::from(word(index)) | u64::from(word(index + 1)) << 32;
    [pair(0), pair(2), pair(4), pair(6)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_numpy_gives_it() {
        assert_eq!(permutation(10, 42), [5, 6, 0, 7, 3, 2, 4, 9, 1, 8]);
        assert_eq!(permutation(10, (1 << 40) + 7), [6, 2, 8, 7, 9, 3, 4, 1, 5, 0]);
        // Sum of (i + 1) · p_i over the whole permutation.
        let sum = |seed| -> u64 {
            (1..).zip(permutation(1000, seed)).map(|(i, p): (u64, u32)| i * u64::from(p)).sum()
        };
        assert_eq!(sum(0), 250_930_667);
        assert_eq!(sum(i64::MAX.cast_unsigned()), 249_218_418);
        assert_eq!((permutation(0, 1), permutation(1, 1)), (vec![], vec![0]));
    }
}
