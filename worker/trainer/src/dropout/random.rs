//! Random bits: hashed counters.

/// Bits of `lanes` consecutive elements of one key, in whole bytes of `out` (at least as many as
/// they need, a multiple of 8). A bit is set where its 16-bit lane is not below the threshold.
/// Two lanes come from each 32-bit word; words are hashed counters, so that a vector of them is
/// made at once.
pub(super) fn random_bits(key: u64, threshold: u16, lanes: usize, out: &mut [u8]) {
    let blocks = lanes.div_ceil(BLOCK);
    let (chunks, _) = out.as_chunks_mut::<{ BLOCK / 8 }>();
    let chunks = &mut chunks[..blocks];
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512bw") {
        #[expect(unsafe_code, reason = "vector instructions, behind a check that they are there")]
        // SAFETY: the processor has them.
        unsafe {
            x86::random_bits(key, threshold, chunks);
        }
        return;
    }
    for (block, chunk) in chunks.iter_mut().enumerate() {
        let first = (block * BLOCK / 2) as u32;
        let mut bits = 0u32;
        for word in 0..BLOCK as u32 / 2 {
            let random = hash(key, first + word);
            let low = random as u16 >= threshold;
            let high = (random >> 16) as u16 >= threshold;
            bits |= (u32::from(low) | u32::from(high) << 1) << (2 * word);
        }
        *chunk = bits.to_le_bytes();
    }
}

/// Elements that are made at a time.
const BLOCK: usize = 32;
/// Distance between consecutive counters: 2³² divided by the golden ratio.
pub(super) const WEYL: u32 = 0x9e37_79b9;
/// Multipliers with the least bias that C. Wellons's search of 32-bit mixers found.
pub(super) const MULTIPLIERS: [u32; 2] = [0x21f0_aaad, 0xd35a_2d97];

/// A word of two lanes.
fn hash(key: u64, counter: u32) -> u32 {
    let mut x = counter.wrapping_mul(WEYL).wrapping_add(key as u32);
    x = (x ^ (x >> 16)).wrapping_mul(MULTIPLIERS[0]) ^ (key >> 32) as u32;
    x = (x ^ (x >> 15)).wrapping_mul(MULTIPLIERS[1]);
    x ^ (x >> 15)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, MULTIPLIERS, WEYL};

    /// As the portable loop of the same name.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub(super) fn random_bits(key: u64, threshold: u16, out: &mut [[u8; BLOCK / 8]]) {
        let weyl = _mm512_set1_epi32(WEYL as i32);
        let counters = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let mut state = _mm512_add_epi32(
            _mm512_mullo_epi32(counters, weyl),
            _mm512_set1_epi32(key as u32 as i32),
        );
        let step = _mm512_set1_epi32(WEYL.wrapping_mul(BLOCK as u32 / 2) as i32);
        let high = _mm512_set1_epi32((key >> 32) as u32 as i32);
        let first = _mm512_set1_epi32(MULTIPLIERS[0] as i32);
        let second = _mm512_set1_epi32(MULTIPLIERS[1] as i32);
        let threshold = _mm512_set1_epi16(threshold as i16);
        for out in out {
            let x = _mm512_xor_si512(state, _mm512_srli_epi32::<16>(state));
            let x = _mm512_xor_si512(_mm512_mullo_epi32(x, first), high);
            let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
            let x = _mm512_mullo_epi32(x, second);
            let x = _mm512_xor_si512(x, _mm512_srli_epi32::<15>(x));
            *out = _mm512_cmpge_epu16_mask(x, threshold).to_le_bytes();
            state = _mm512_add_epi32(state, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DOMAIN, mix};
    use super::*;

    #[test]
    fn vectors_make_the_bits_of_the_portable_loop() {
        let (key, threshold) = (mix(DOMAIN, 5), 6554u16);
        let mut found = [0u8; 24];
        random_bits(key, threshold, 150, &mut found);
        for lane in 0..150usize {
            let word = hash(key, lane as u32 / 2);
            let expected = (word >> (16 * (lane % 2))) as u16 >= threshold;
            assert_eq!(found[lane / 8] >> (lane % 8) & 1 == 1, expected, "lane {lane}");
        }
    }
}
