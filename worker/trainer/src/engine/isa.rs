//! Loops that the compiler turns into vector instructions, compiled for several processors; the
//! one at hand is chosen when the program runs. All versions give the same bits: no product and
//! sum are ever contracted, and the order of additions is written out.

/// Runs a loop with the widest vectors of this processor. Mark the closure `#[inline(always)]`.
#[inline(always)]
pub(super) fn run<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        if is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
        {
            #[expect(unsafe_code, reason = "other instructions, behind a check that they exist")]
            // SAFETY: the processor has them.
            return unsafe { avx512(work) };
        }
        if is_x86_feature_detected!("avx2") {
            #[expect(unsafe_code, reason = "other instructions, behind a check that they exist")]
            // SAFETY: the processor has them.
            return unsafe { avx2(work) };
        }
    }
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn avx512<R>(work: impl FnOnce() -> R) -> R {
    work()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// From here on down e^x counts as 0. Beside the 1 of a row's largest number it is below the
/// rounding, and what is left stays far enough from numbers below the smallest normal one, with
/// which processors compute many times slower.
const LOWEST: f32 = -64.0;

/// e^x to two units in the last place; 0 below [`LOWEST`].
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // 1.5 · 2²³: what is added to it is rounded to a whole number.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let tiny = x < LOWEST;
    let x = if tiny { LOWEST } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH;
    let r = r - n * LN2_LOW;
    // Cephes's polynomial.
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 5e-1;
    let p = p * (r * r) + r + 1.0;
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    let value = p * f32::from_bits(power);
    if tiny { 0.0 } else { value }
}

/// x, but 0 for numbers so small that processors compute slowly with them, and some more.
#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    if x.abs() < 1e-37 { 0.0 } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_near_the_true_ones() {
        for step in -6400..=8800 {
            let x = step as f32 * 0.01;
            let (found, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "{x}: {found} for {expected}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!([exp(f32::NEG_INFINITY), exp(-64.01)], [0.0; 2]);
        let all: Vec<f32> = (0..100).map(|i| i as f32 * 0.3 - 20.0).collect();
        let wide = run(
            #[inline(always)]
            || all.iter().map(|&x| exp(x)).collect::<Vec<f32>>(),
        );
        assert!(wide.iter().zip(&all).all(|(&found, &x)| found.to_bits() == exp(x).to_bits()));
    }
}
