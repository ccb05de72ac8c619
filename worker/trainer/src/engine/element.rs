//! Number formats of matrix products.

use tch::{Kind, TchError, Tensor};

use super::buffer::Plain;

/// A number as a product takes and gives it. All else is f32.
pub(super) trait Element: Plain + Send + Sync + 'static {
    /// libtorch's name of the format.
    const KIND: Kind;
    /// Exact.
    fn get(self) -> f32;
    /// To the nearest, ties to even.
    fn of(value: f32) -> Self;
    /// The bits of `values` that are above 0, least significant first; eight values per byte.
    fn positive(values: &[Self; 8]) -> u8;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;

    #[inline(always)]
    fn get(self) -> f32 {
        self
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }

    #[inline(always)]
    fn positive(values: &[Self; 8]) -> u8 {
        pack(std::array::from_fn(|i| values[i].to_bits() as i32 > 0))
    }
}

/// The upper half of an f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Bf16(u16);

impl Element for Bf16 {
    const KIND: Kind = Kind::BFloat16;

    #[inline(always)]
    fn get(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }

    #[inline(always)]
    fn of(value: f32) -> Self {
        // The NaNs that processors make, 0x7fc00000 and 0xffc00000, stay NaN.
        let bits = value.to_bits();
        Self((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    #[inline(always)]
    fn positive(values: &[Self; 8]) -> u8 {
        pack(std::array::from_fn(|i| values[i].0 as i16 > 0))
    }
}

/// A copy of numbers as a tensor.
pub(super) fn tensor<E: Element>(numbers: &[E], sizes: &[i64]) -> Result<Tensor, TchError> {
    #[expect(unsafe_code, reason = "numbers as the bytes that libtorch copies")]
    // SAFETY: an Element has no padding, and every byte may be read as u8.
    let bytes =
        unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) };
    Tensor::f_from_data_size(bytes, sizes, E::KIND)
}

/// Eight flags as a byte: the multiplication moves each flag's bit to the top.
#[inline(always)]
fn pack(flags: [bool; 8]) -> u8 {
    let bytes = u64::from_le_bytes(flags.map(u8::from));
    (bytes.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_even_and_keeps_what_is_not_finite() {
        for (given, expected) in [
            (1.0f32, 0x3f80),
            (f32::from_bits(0x3f80_8000), 0x3f80),
            (f32::from_bits(0x3f81_8000), 0x3f82),
            (f32::from_bits(0x3f80_8001), 0x3f81),
            (-0.0, 0x8000),
            (f32::INFINITY, 0x7f80),
            (f32::NAN, 0x7fc0),
            (-f32::NAN, 0xffc0),
        ] {
            assert_eq!(Bf16::of(given).0, expected, "{given}");
        }
    }

    #[test]
    fn flags_of_positive_numbers() {
        let values = [1.0, -1.0, 0.0, -0.0, 2.0, f32::INFINITY, f32::NEG_INFINITY, 1e-30];
        assert_eq!(f32::positive(&values), 0b1011_0001);
        assert_eq!(Bf16::positive(&values.map(Bf16::of)), 0b1011_0001);
    }
}
